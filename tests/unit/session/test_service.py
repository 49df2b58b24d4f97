"""What is installed to start a session at login, on each platform."""

from __future__ import annotations

import plistlib
import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from remotedl.config.models import Config
from remotedl.errors import UsageError
from remotedl.session.project import Project
from remotedl.session.service import Service, service_for, uninstall

PROJECT = Project(Path('/home/ada/50% "thesis"'), "0" * 16, Config(), None)


def service(platform: str) -> Service:
    return service_for(PROJECT, "gpu$box", Path("/home/ada"), platform, r"LAPTOP\ada")


def test_linux_gets_a_user_unit_with_every_odd_character_escaped() -> None:
    found = service("linux")
    assert found.path == Path("/home/ada/.config/systemd/user/remotedl-50-thesis-000000.service")
    lines = dict(line.split("=", 1) for line in found.content.decode().splitlines() if "=" in line)
    assert lines["WorkingDirectory"] == '/home/ada/50%% "thesis"'
    words = shlex.split(lines["ExecStart"].replace("$$", "$"))
    assert words[1:] == ["-m", "remotedl", "up", "gpu$box", "--detach", "--no-open"]
    assert found.enable[-1][:3] == ("systemctl", "--user", "enable")


def test_macos_gets_a_launch_agent() -> None:
    found = service("darwin")
    assert found.path == Path("/home/ada/Library/LaunchAgents/remotedl-50-thesis-000000.plist")
    assert plistlib.loads(found.content) == {
        "Label": found.path.stem,
        "ProgramArguments": [
            *(sys.executable, "-m", "remotedl"),
            *("up", "gpu$box", "--detach", "--no-open"),
        ],
        "WorkingDirectory": str(PROJECT.root),
        "RunAtLoad": True,
        "AbandonProcessGroup": True,
        "StandardOutPath": "/dev/null",
    }
    assert found.enable == (("launchctl", "load", "-w", str(found.path)),)


NAMES = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
ORDERS = {
    ".": ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"],
    "t:Triggers/t:LogonTrigger": ["Enabled", "UserId"],
    "t:Actions/t:Exec": ["Command", "Arguments", "WorkingDirectory"],
}
"""Sequences of the schema that [MS-TSCH] gives for a task: Windows refuses another order."""


def test_windows_gets_a_task_at_the_users_own_logon() -> None:
    found = service("win32")
    assert found.content.startswith(b"\xff\xfe") and "utf-16" in found.text.splitlines()[0].lower()
    task = ElementTree.fromstring(found.content)
    for path, order in ORDERS.items():
        element = task.find(path, NAMES)
        assert element is not None
        assert [child.tag.rpartition("}")[2] for child in element] == order
    told = {e.tag.rpartition("}")[2]: e.text for e in task.iter() if not len(e)}
    assert told["UserId"] == r"LAPTOP\ada"
    assert told["Command"] == sys.executable
    assert told["Arguments"] == "-m remotedl up gpu$box --detach --no-open"
    assert told["WorkingDirectory"] == str(PROJECT.root)
    assert (told["ExecutionTimeLimit"], told["StopIfGoingOnBatteries"]) == ("PT0S", "false")
    (create,) = found.enable
    assert create == ("schtasks", "/Create", "/F", "/TN", found.name, "/XML", str(found.path))


def test_elsewhere_there_is_none() -> None:
    with pytest.raises(UsageError, match="no service for plan9"):
        service("plan9")


def test_uninstall_of_what_was_never_installed_does_nothing(tmp_path: Path) -> None:
    absent = Service("x", tmp_path / "absent", b"", (), (("false",),))
    assert not uninstall(absent)


def test_the_journal_does_not_get_the_token() -> None:
    """`up -d` prints the address on stdout."""
    found = service("linux")
    assert "StandardOutput=null" in found.content.decode().splitlines()
