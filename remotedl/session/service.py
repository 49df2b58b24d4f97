"""`remotedl service`: the session starts by itself when the user logs in to the laptop.

A systemd user unit on Linux, a launch agent on macOS, a scheduled task on Windows. Each runs
`remotedl up HOST -d --no-open` in the project's folder and nothing more; the texts are made by pure
functions, so that what would be installed can be shown. The systemd unit has been run; the agent
and the task are held to what their systems document, and have not.
"""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from codecs import BOM_UTF16
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from remotedl.errors import SessionError, UsageError
from remotedl.session.project import Project


@dataclass(frozen=True, slots=True)
class Service:
    """What is put where, and the commands that switch it on and off."""

    name: str
    path: Path
    content: bytes
    enable: tuple[tuple[str, ...], ...]
    disable: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """Its content, for people."""
        return self.content.decode("utf-16" if self.content.startswith(BOM_UTF16) else "utf-8")


SETTINGS = (
    ("MultipleInstancesPolicy", "IgnoreNew"),
    ("DisallowStartIfOnBatteries", "false"),
    ("StopIfGoingOnBatteries", "false"),
    ("StartWhenAvailable", "true"),
    ("Enabled", "true"),
    ("ExecutionTimeLimit", "PT0S"),
)
"""Of a task, in the order that its schema wants."""


def service_for(
    project: Project, host_name: str, home: Path, platform: str, user: str = ""
) -> Service:
    """The service of this project and host on this platform. Raises UsageError. Pure.

    `user`: DOMAIN\\name on Windows, who is the only one to be waited for.
    """
    name = f"remotedl-{project.label}"
    argv = [sys.executable, "-m", "remotedl", "up", host_name, "--detach", "--no-open"]
    if platform.startswith("linux"):
        return _systemd(name, argv, project.root, home)
    if platform == "darwin":
        return _launchd(name, argv, project.root, home)
    if platform == "win32":
        return _scheduled(name, argv, project.root, home, user)
    raise UsageError(f"there is no service for {platform}", hint="remotedl up -d")


def install(service: Service) -> None:
    """Write it and switch it on. Twice is as good as once. Raises SessionError."""
    service.path.parent.mkdir(parents=True, exist_ok=True)
    service.path.write_bytes(service.content)
    for argv in service.enable:
        _run(argv)


def uninstall(service: Service) -> bool:
    """Switch it off and remove it; False where there was none."""
    if not service.path.exists():
        return False
    for argv in service.disable:
        _run(argv, may_fail=True)
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
            # `up -d` returns; what it leaves in the background is the session.
            "AbandonProcessGroup": True,
            # The address holds the token.
            "StandardOutPath": "/dev/null",
        }
    )
    return Service(
        name,
        path,
        content,
        (("launchctl", "load", "-w", str(path)),),
        (("launchctl", "unload", "-w", str(path)),),
    )


TASK = "http://schemas.microsoft.com/windows/2004/02/mit/task"


def _scheduled(name: str, argv: Sequence[str], folder: Path, home: Path, user: str) -> Service:
    """As a task's XML: the options of schtasks end it on battery, and after three days."""
    path = home / "AppData" / "Local" / "remotedl" / "services" / f"{name}.xml"
    task = Element("Task", {"version": "1.2", "xmlns": TASK})
    info = SubElement(task, "RegistrationInfo")
    SubElement(info, "Description").text = f"remotedl session of {folder.name}"
    trigger = SubElement(SubElement(task, "Triggers"), "LogonTrigger")
    SubElement(trigger, "Enabled").text = "true"
    # At anybody's logon is the administrator's to ask for.
    SubElement(trigger, "UserId").text = user
    principal = SubElement(SubElement(task, "Principals"), "Principal", {"id": "Author"})
    SubElement(principal, "UserId").text = user
    SubElement(principal, "LogonType").text = "InteractiveToken"
    SubElement(principal, "RunLevel").text = "LeastPrivilege"
    settings = SubElement(task, "Settings")
    for key, value in SETTINGS:
        SubElement(settings, key).text = value
    action = SubElement(SubElement(task, "Actions", {"Context": "Author"}), "Exec")
    SubElement(action, "Command").text = argv[0]
    SubElement(action, "Arguments").text = subprocess.list2cmdline(argv[1:])
    SubElement(action, "WorkingDirectory").text = str(folder)
    # With its mark, as the Task Scheduler itself writes them.
    content: bytes = tostring(task, encoding="utf-16", xml_declaration=True)
    return Service(
        name,
        path,
        content,
        (("schtasks", "/Create", "/F", "/TN", name, "/XML", str(path)),),
        (("schtasks", "/Delete", "/F", "/TN", name),),
    )


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
