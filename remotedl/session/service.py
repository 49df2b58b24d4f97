"""`remotedl service`: the session starts by itself when the user logs in to the laptop.

A systemd user unit on Linux, a launch agent on macOS, a scheduled task on Windows. Each runs
`remotedl up HOST -d --no-open` in the project's folder and nothing more; the texts are made by pure
functions, so that what would be installed can be shown.
"""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remotedl.errors import SessionError, UsageError
from remotedl.session.project import Project


@dataclass(frozen=True, slots=True)
class Service:
    """What is put where, and the commands that switch it on and off."""

    name: str
    path: Path | None
    """None: the system keeps it itself (Windows)."""
    content: bytes
    enable: tuple[tuple[str, ...], ...]
    disable: tuple[tuple[str, ...], ...]


def service_for(project: Project, host_name: str, home: Path, platform: str) -> Service:
    """The service of this project and host on this platform. Raises UsageError. Pure."""
    name = f"remotedl-{project.label}"
    argv = [sys.executable, "-m", "remotedl", "up", host_name, "--detach", "--no-open"]
    if platform.startswith("linux"):
        return _systemd(name, argv, project.root, home)
    if platform == "darwin":
        return _launchd(name, argv, project.root, home)
    if platform == "win32":
        return _scheduled(name, argv, project.root)
    raise UsageError(f"there is no service for {platform}", hint="remotedl up -d")


def install(service: Service) -> None:
    """Write it and switch it on. Twice is as good as once. Raises SessionError."""
    if service.path is not None:
        service.path.parent.mkdir(parents=True, exist_ok=True)
        service.path.write_bytes(service.content)
    for argv in service.enable:
        _run(argv)


def uninstall(service: Service) -> bool:
    """Switch it off and remove it; False where there was none."""
    there = service.path is None or service.path.exists()
    if not there:
        return False
    for argv in service.disable:
        _run(argv, may_fail=True)
    if service.path is not None:
        service.path.unlink(missing_ok=True)
    return True


def _systemd(name: str, argv: Sequence[str], folder: Path, home: Path) -> Service:
    unit = f"{name}.service"
    words = " ".join(_quoted(word) for word in argv)
    text = (
        "[Unit]\n"
        f"Description=remotedl session of {folder.name.replace('%', '%%')}\n"
        "After=network-online.target\n\n"
        "[Service]\n"
        # `up -d` returns once it is live; the session itself is the process that stays.
        "Type=forking\n"
        f"WorkingDirectory={str(folder).replace('%', '%%')}\n"
        f"ExecStart={words}\n"
        # The address holds the token, and the journal has other readers; errors do go there.
        "StandardOutput=null\n"
        "SuccessExitStatus=130 143\n"
        "Restart=on-failure\n"
        "RestartSec=30\n\n"
        "[Install]\n"
        "WantedBy=default.target\n"
    )
    control = ("systemctl", "--user")
    return Service(
        name,
        home / ".config" / "systemd" / "user" / unit,
        text.encode(),
        ((*control, "daemon-reload"), (*control, "enable", unit)),
        ((*control, "disable", unit), (*control, "daemon-reload")),
    )


def _launchd(name: str, argv: Sequence[str], folder: Path, home: Path) -> Service:
    path = home / "Library" / "LaunchAgents" / f"{name}.plist"
    content = plistlib.dumps(
        {
            "Label": name,
            "ProgramArguments": list(argv),
            "WorkingDirectory": str(folder),
            "RunAtLoad": True,
        }
    )
    return Service(
        name,
        path,
        content,
        (("launchctl", "load", "-w", str(path)),),
        (("launchctl", "unload", "-w", str(path)),),
    )


def _scheduled(name: str, argv: Sequence[str], folder: Path) -> Service:
    command = subprocess.list2cmdline(["cmd", "/c", "cd", "/d", str(folder), "&&", *argv])
    create = ("schtasks", "/Create", "/F", "/SC", "ONLOGON", "/TN", name, "/TR", command)
    return Service(name, None, b"", (create,), (("schtasks", "/Delete", "/F", "/TN", name),))


def _quoted(word: str) -> str:
    """One word of an ExecStart line: quotes, backslashes, % and $ mean themselves."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _run(argv: Sequence[str], *, may_fail: bool = False) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ)
    except FileNotFoundError as exc:
        raise SessionError(
            f"{argv[0]} is not on this laptop, so nothing can start at login",
            hint="remotedl up -d",
        ) from exc
    if done.returncode != 0 and not may_fail:
        said = (done.stderr or done.stdout).strip()
        raise SessionError(f"{' '.join(argv)}: {said}", hint="remotedl service uninstall")
