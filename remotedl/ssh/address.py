"""Whether the laptop still has the address that a connection goes out from.

A laptop that changes networks loses it at once, long before TCP or a ping of ours notices that
nothing comes back.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

GONE = (errno.EADDRNOTAVAIL, getattr(errno, "WSAEADDRNOTAVAIL", errno.EADDRNOTAVAIL))


def stranded(sock: Any) -> bool:
    """False where that cannot be told: a socket that is none of TCP's, or closed."""
    try:
        name = sock.getsockname()
        family = sock.family
    except (OSError, AttributeError):
        return False
    if family not in (socket.AF_INET, socket.AF_INET6):
        return False
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((name[0], 0, *name[2:]))
        except OSError as exc:
            return exc.errno in GONE
    return False
