"""A notification on the laptop's desktop, where it has one. Never fails, never waits.

What is told comes from the host (names of jobs and files). It is handed over as data, as arguments
or in the environment, and is never part of a script. Windows' was written by its documentation and
has not been run.
"""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from remotedl.shown import shown

TITLE, TEXT = "REMOTEDL_TOAST_TITLE", "REMOTEDL_TOAST_TEXT"
LONGEST = 1000
"""Characters: no desktop shows more, and Windows limits an environment."""
POWERSHELL_ID = r"{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}\WindowsPowerShell\v1.0\powershell.exe"
"""Toasts belong to a program that the start menu knows; this one is on every Windows."""
TOAST = "; ".join(
    (
        "$ErrorActionPreference = 'Stop'",
        "[void][Windows.UI.Notifications.ToastNotificationManager, Windows.UI.Notifications, "
        "ContentType = WindowsRuntime]",
        "$kind = [Windows.UI.Notifications.ToastTemplateType]::ToastText02",
        "$xml = [Windows.UI.Notifications.ToastNotificationManager]::GetTemplateContent($kind)",
        "$places = $xml.GetElementsByTagName('text')",
        f"[void]$places.Item(0).AppendChild($xml.CreateTextNode($env:{TITLE}))",
        f"[void]$places.Item(1).AppendChild($xml.CreateTextNode($env:{TEXT}))",
        "$toast = New-Object Windows.UI.Notifications.ToastNotification $xml",
        "[Windows.UI.Notifications.ToastNotificationManager]::CreateToastNotifier("
        f"'{POWERSHELL_ID}').Show($toast)",
    )
)
"""Without a double quote, which Windows' command lines and PowerShell read differently."""


@dataclass(frozen=True, slots=True)
class Command:
    """What shows a notification."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """On top of our own."""


def notify(title: str, text: str) -> bool:
    """Whether something was there to show it."""
    command = notification(title, text, sys.platform)
    if command is None or shutil.which(command.argv[0]) is None:
        return False
    try:
        subprocess.Popen(
            command.argv,
            env={**os.environ, **command.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, ValueError):
        return False
    return True


def notification(title: str, text: str, platform: str) -> Command | None:
    """The command that shows it on this platform; None where none is known. Pure."""
    title, text = (shown(one[:LONGEST], "\n")[:LONGEST] for one in (title, text))
    if platform == "darwin":
        # Passed as arguments, so that no text can become AppleScript.
        script = (
            "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend"
        )
        return Command(("osascript", "-e", script, title, text))
    if platform == "win32":
        # Not pwsh: only the PowerShell that comes with Windows still speaks WinRT.
        argv = ("powershell", "-NoProfile", "-NonInteractive", "-Command", TOAST)
        return Command(argv, {TITLE: title, TEXT: text})
    if platform.startswith("linux"):
        # Its body is markup: a name must not become a link.
        text = html.escape(text, quote=False)
        return Command(("notify-send", "--app-name=remotedl", "--", title, text))
    return None
