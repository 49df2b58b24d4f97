"""Commands as text: what is written for a given argv. That real shells read it: lab_tests/ssh."""

from __future__ import annotations

import pytest

from remotedl.ssh import quoting


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("", "''"),
        ("plain", "'plain'"),
        ("two words", "'two words'"),
        ("it's", "'it'\"'\"'s'"),
        ("back\\slash", "'back'\\\\'slash'"),
        ("wow!", "'wow'\\!"),
        ("two\nlines", "'two'\"$remotedl_nl\"'lines'"),
        ("$HOME `id` *?", "'$HOME `id` *?'"),
    ],
)
def test_a_word_is_quoted_alike_for_all_shells(word: str, text: str) -> None:
    assert quoting.quote(word) == text


def test_a_word_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quoting.quote("a\0b")


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        quoting.command_line([])


def test_a_command_that_no_host_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        quoting.command_line(["echo", "x" * 200_000])


def test_a_name_that_is_none_for_a_variable_is_refused() -> None:
    with pytest.raises(ValueError, match="A;B"):
        quoting.command_line(["true"], env={"A;B": "1"})


def test_the_script_marks_the_start_then_goes_and_becomes_the_command() -> None:
    script = quoting.shell_script(["ls", "-l"], env={"B": "2", "A": "1"}, cwd="/srv")
    mark = '"\\036remotedl:$$ \\036"'
    assert script == (
        f"printf {mark}; printf {mark} >&2; cd -- '/srv' || exit 1; "
        "exec 'env' 'A=1' 'B=2' 'ls' '-l'"
    )


def test_a_line_is_one_line_and_holds_no_mark() -> None:
    line = quoting.command_line(["a\nb"], env={"C": "d\ne"}, cwd="f\ng", sudo=True)
    assert line.startswith(b"exec sh -c ")
    assert b"\n" not in line
    assert b"\x1e" not in line


def test_sudo_reads_stdin_unless_there_is_a_terminal() -> None:
    assert b"sudo -S -p " in quoting.command_line(["true"], sudo=True)
    assert b"sudo -p " in quoting.command_line(["true"], sudo=True, terminal=True)


def test_bytes_that_are_not_utf8_stay() -> None:
    assert b"caf\xe9" in quoting.command_line(["echo", "caf\udce9"])
