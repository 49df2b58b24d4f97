"""Looks at the laptop: agent, keys, ports, inotify, disk. Reads only; works on Windows too."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from remotedl.provision.doctor_laptop import KeyFile, LaptopFacts

WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")
KEY_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")
REQUEST_IDENTITIES = b"\0\0\0\x01\x0b"
"""The SSH agent protocol's SSH_AGENTC_REQUEST_IDENTITIES, with its length."""
IDENTITIES_ANSWER = 12
MOST_FOLDERS = 200_000
AGENT_LIMIT_S = 2.0

Agent = Literal["none", "unreachable", "empty", "keys"]


def look_at_laptop(
    *,
    identity_file: str | None = None,
    project: Path | None = None,
    ports: Sequence[int] = (),
    own_ports: Sequence[int] = (),
    home: Path | None = None,
    agent_socket: str | None = None,
) -> LaptopFacts:
    """`own_ports` are ours (a live session's) and not told as taken."""
    home = home or Path.home()
    agent, keys = _agent(agent_socket or os.environ.get("SSH_AUTH_SOCK", ""))
    place = project or home
    return LaptopFacts(
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        agent=agent,
        agent_keys=keys,
        keys=_key_files(home, identity_file),
        watches=int(WATCHES.read_text()) if WATCHES.exists() else None,
        folders=_count_folders(project) if project is not None else 0,
        ports_taken=tuple(p for p in ports if p not in own_ports and _taken(p)),
        disk_free=shutil.disk_usage(place).free if place.exists() else None,
        disk_path=str(place),
    )


def _agent(path: str) -> tuple[Agent, int]:
    """What the agent says about itself, and how many keys it holds."""
    if not path:
        return "none", 0
    if not hasattr(socket, "AF_UNIX"):
        return ("empty" if Path(path).exists() else "none"), 0
    try:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(AGENT_LIMIT_S)
            agent.connect(path)
            agent.sendall(REQUEST_IDENTITIES)
            answer = agent.recv(9)
    except OSError:
        return "unreachable", 0
    if len(answer) < 9 or answer[4] != IDENTITIES_ANSWER:
        return "unreachable", 0
    count = int(struct.unpack(">I", answer[5:9])[0])
    return ("keys" if count else "empty"), count


def _key_files(home: Path, identity_file: str | None) -> tuple[KeyFile, ...]:
    """The key of hosts.toml, whether there or not; the usual ones where there."""
    folder = home / ".ssh"
    files = [folder / name for name in KEY_NAMES if (folder / name).exists()]
    if identity_file is not None:
        named = Path(identity_file).expanduser()
        files = [named, *(file for file in files if file != named)]
    found = [_key(folder, is_folder=True)] if folder.exists() else []
    return (*found, *(_key(file) for file in files))


def _key(path: Path, *, is_folder: bool = False) -> KeyFile:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return KeyFile(str(path), False, folder=is_folder)
    return KeyFile(str(path), True, None if sys.platform == "win32" else mode, is_folder)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _count_folders(project: Path) -> int:
    """Folders below the project; counting ends at a number that is too many anyway."""
    count = 0
    for _ in os.walk(project):
        count += 1
        if count >= MOST_FOLDERS:
            break
    return count
