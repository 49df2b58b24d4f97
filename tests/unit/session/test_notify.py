"""What shows a notification on each desktop: its text is data there, whatever it holds."""

from __future__ import annotations

import re
import subprocess

import pytest

from remotedl.session.notify import LONGEST, TEXT, TITLE, TOAST, Command, notification

NASTY = "'; Remove-Item ~ -Recurse; ' $(calc) `n </text><script> \"quoted\" %PATH%"


def shown(title: str, text: str, platform: str) -> Command:
    found = notification(title, text, platform)
    assert found is not None
    return found


def test_macos_gets_the_text_as_an_argument_and_not_in_the_script() -> None:
    text = '" & do shell script "rm -rf ~" & "'
    argv = shown("remotedl", text, "darwin").argv
    assert argv[-1] == text
    assert text not in argv[2]


def test_linux_gets_no_option_out_of_a_text() -> None:
    assert shown("t", "--help", "linux").argv == (
        "notify-send",
        "--app-name=remotedl",
        "--",
        "t",
        "--help",
    )


def test_windows_gets_the_text_in_the_environment_alone() -> None:
    command = shown("remotedl: h1", NASTY, "win32")
    assert command.argv == ("powershell", "-NoProfile", "-NonInteractive", "-Command", TOAST)
    assert command.env == {TITLE: "remotedl: h1", TEXT: NASTY}
    assert "Remove-Item" not in " ".join(command.argv)


def test_windows_reads_the_script_as_it_is_written() -> None:
    """Neither the command line nor PowerShell finds anything in it to take apart or to fill in."""
    assert subprocess.list2cmdline([TOAST]) == f'"{TOAST}"'
    assert not set(TOAST) & set('"`\n%')
    assert TOAST.count("'") % 2 == 0
    named = set(re.findall(r"\$(?:env:)?(\w+)", TOAST))
    assert named == {"ErrorActionPreference", "kind", "xml", "places", "toast", TITLE, TEXT}


def test_a_text_that_no_command_could_be_given_is_made_fit() -> None:
    env = shown("a\0b", "x" * (LONGEST + 1), "win32").env
    assert env == {TITLE: r"a\x00b", TEXT: "x" * LONGEST}


@pytest.mark.parametrize("platform", ["plan9", "emscripten"])
def test_elsewhere_there_is_none(platform: str) -> None:
    assert notification("t", "x", platform) is None
