"""What pip's last words mean. Pure: its output in, what happened and what to do out."""

from __future__ import annotations

import re
from typing import NamedTuple

LAST_LINES = 8


class PipTrouble(NamedTuple):
    """`what` fits behind "the Python packages could not be installed: "."""

    what: str
    hint: str


NO_WAY_OUT = "set proxy or mirrors.pip of the host in hosts.toml, and run the same command again"
_KNOWN = (
    (
        r"No space left on device|Disk quota exceeded",
        "no space is left for them",
        "remotedl doctor; free some space in the home folder, and run the same command again",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "the certificate of the package index is not trusted there",
        "install your network's certificate on the host, or set mirrors.pip of the host",
    ),
    (
        r"(?:40[137]) (?:Client )?Error|Proxy Authentication Required|Tunnel connection failed: 40",
        "the package index or the proxy refuses us",
        "check the address and the password in proxy or mirrors.pip of the host",
    ),
    (
        r"name resolution|Name or service not known|NewConnectionError|ConnectTimeoutError"
        r"|ProxyError|Network is unreachable|No route to host|ReadTimeoutError",
        "the host does not reach the package index",
        NO_WAY_OUT,
    ),
)


def pip_trouble(output: str) -> PipTrouble:
    """The first cause that the output knows; its last lines where it knows none."""
    for pattern, what, hint in _KNOWN:
        if re.search(pattern, output):
            return PipTrouble(what, hint)
    last = "\n".join(output.strip().splitlines()[-LAST_LINES:])
    return PipTrouble(
        f"pip says:\n{last}", f"mend what pip names; in a closed network {NO_WAY_OUT}"
    )
