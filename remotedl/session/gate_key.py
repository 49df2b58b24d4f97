"""What the links to a session's pages are made of: a secret that never leaves the laptop.

One for each project and host, kept with its state, so that an address that was opened once stays
good over restarts of the session. Each tunnel has a secret of its own, derived from it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from remotedl.config.files import write_private

SIZE = 32


def gate_key(folder: Path) -> bytes:
    """Made where there is none, or none that can be used: links are then made anew as well."""
    path = folder / "gate.key"
    try:
        found = path.read_bytes()
    except OSError:
        found = b""
    if len(found) == SIZE:
        return found
    fresh = secrets.token_bytes(SIZE)
    write_private(path, fresh)
    return fresh


def secret_of(key: bytes, tunnel: str) -> str:
    """The secret of one tunnel. Pure."""
    return hmac.new(key, tunnel.encode(), hashlib.sha256).hexdigest()
