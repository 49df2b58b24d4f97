"""A notification on the laptop's desktop, where it has one. Never fails, never waits."""

from __future__ import annotations

import shutil
import subprocess
import sys


def notify(title: str, text: str) -> bool:
    """Whether something was there to show it."""
    argv = notification(title, text, sys.platform)
    if argv is None or shutil.which(argv[0]) is None:
        return False
    try:
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True


def notification(title: str, text: str, platform: str) -> list[str] | None:
    """The command that shows it on this platform; None where none is known. Pure."""
    if platform == "darwin":
        # Passed as arguments, so that no text can become AppleScript.
        script = (
            "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend"
        )
        return ["osascript", "-e", script, title, text]
    if platform.startswith("linux"):
        return ["notify-send", "--app-name=remotedl", "--", title, text]
    return None
