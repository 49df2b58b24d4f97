"""Whose the other end of a connection on the laptop's loopback is, by the kernel's table.

Linux tells; other systems do not, and there a tunnel has nothing but its gate and Jupyter's token.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
TRIES = 3
"""A table that changes while it is read may leave out a row."""
GONE = -1


def uid_of(port: int, server_port: int) -> int | None:
    """Whose the loopback connection from `port` to `server_port` is; None: that is not told.

    GONE where its process has closed it, which the table would call root's.
    """
    wanted = f":{port:04X}", f":{server_port:04X}"
    for table in TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for cells in map(str.split, lines):
            if cells[1].endswith(wanted[0]) and cells[2].endswith(wanted[1]):
                return int(cells[7]) if cells[9] != "0" else GONE
    return None


def own_uids() -> frozenset[int]:
    """This user, and root, who sees all anyway. Empty where the system does not tell."""
    if sys.platform != "linux":
        return frozenset()
    return frozenset({os.getuid(), 0})


def stranger(client: socket.socket, own: frozenset[int]) -> int | None:
    """The uid of another user (or GONE) at the far end of an accepted connection, else None.

    What has no row (a browser outside of the virtual machine that this is) is nobody's here.
    """
    if not own or client.family == getattr(socket, "AF_UNIX", None):
        return None
    try:
        ports = client.getpeername()[1], client.getsockname()[1]
    except OSError:
        return None  # gone already
    for _ in range(TRIES):
        uid = uid_of(*ports)
        if uid is not None:
            return None if uid in own else uid
    return None
