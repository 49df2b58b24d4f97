"""What is installed to start a session at login, on each platform."""

from __future__ import annotations

import plistlib
import shlex
from pathlib import Path

import pytest

from remotedl.config.models import Config
from remotedl.errors import UsageError
from remotedl.session.project import Project
from remotedl.session.service import Service, service_for, uninstall

PROJECT = Project(Path('/home/ada/50% "thesis"'), "0" * 16, Config(), None)


def service(platform: str) -> Service:
    return service_for(PROJECT, "gpu$box", Path("/home/ada"), platform)


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
    agent = plistlib.loads(found.content)
    assert agent["WorkingDirectory"] == str(PROJECT.root)
    assert agent["ProgramArguments"][3:5] == ["up", "gpu$box"]
    assert agent["RunAtLoad"] is True


def test_windows_gets_a_task_at_logon() -> None:
    found = service("win32")
    assert found.path is None
    assert "ONLOGON" in found.enable[0]


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
