"""Who holds a host's folder: this machine, in this run of it, with this memory of the pair.

A marker or a database says too little: a copy of the state folder on another machine has both, and
two sessions that take each other for a leftover of their own end each other for ever.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import sys
import uuid
from pathlib import Path

_LINUX = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def holder(state: Path, laptop_id: str, marker: str, boot: str) -> dict[str, str]:
    """`state`: the folder of the database; `boot`: which start of this machine it is."""
    path = os.path.realpath(state)
    found = os.stat(path)
    seen = repr((machine(), path, found.st_ino)).encode("utf-8", "surrogateescape")
    place = hashlib.sha256(seen).hexdigest()[:16]
    return {"id": f"{place}-{laptop_id}-{marker}", "boot": boot, "name": user()}


def machine() -> str:
    """Tells this machine from others, also after a reboot or a change of its name."""
    if sys.platform == "win32":
        return _windows_id()
    if sys.platform == "darwin":
        return _mac_id()
    for path in _LINUX:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text:
            return text
    return f"{uuid.getnode():x}"


def user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user without a name, as in some containers
        name = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return f"{name}@{socket.gethostname()}"


def _windows_id() -> str:
    try:
        import winreg

        where = r"SOFTWARE\Microsoft\Cryptography"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, where) as key:  # type: ignore[attr-defined,unused-ignore]
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])  # type: ignore[attr-defined,unused-ignore]
    except (ImportError, OSError):
        return f"{uuid.getnode():x}"


def _mac_id() -> str:
    import ctypes

    class Time(ctypes.Structure):
        _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

    found = (ctypes.c_ubyte * 16)()
    call = getattr(ctypes.CDLL(None), "gethostuuid", None)
    if call is not None and call(found, ctypes.byref(Time(5, 0))) == 0:
        return bytes(found).hex()
    return f"{uuid.getnode():x}"
