"""Where the lab keeps what is dear to make: outside the checkout, shared by all runs.

Everything in it is named by a hash of what it was made from; deleting any of it is safe.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """$REMOTEDL_LAB_CACHE, else remotedl-lab in the user's cache folder."""
    base = os.environ.get("REMOTEDL_LAB_CACHE")
    if not base:
        xdg = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        base = str(Path(xdg) / "remotedl-lab")
    folder = Path(base)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One run at a time makes `name`; the lock goes with its process."""
    with (cache_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def content_hash(*parts: str | bytes) -> str:
    """12 hex characters naming exactly this content."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]
