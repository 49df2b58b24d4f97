"""Where remotedl keeps what it remembers on the laptop. Makes folders, reads nothing.

REMOTEDL_STATE and REMOTEDL_CONFIG name other folders (tests, several installations); the
defaults are the platform's own (platformdirs).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from remotedl.errors import FolderUnusable

APP = "remotedl"
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What a disk without room, or without room for us, says."""


def state_dir() -> Path:
    """Sessions, ancestors of the sync, logs: only the user may look (0700)."""
    return _private(os.environ.get("REMOTEDL_STATE"), "user_state_path")


def config_dir() -> Path:
    """The folder of the user's own hosts.toml; not made here."""
    named = os.environ.get("REMOTEDL_CONFIG")
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_config_path(APP, appauthor=False)


def state_place() -> Path:
    """Where `state_dir` is; made or not."""
    return _place(os.environ.get("REMOTEDL_STATE"), "user_state_path")


def _place(named: str | None, default: str) -> Path:
    if named:
        return Path(named)
    import platformdirs

    folder: Path = getattr(platformdirs, default)(APP, appauthor=False)
    return folder


def _private(named: str | None, default: str) -> Path:
    folder = _place(named, default)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.name == "posix" and folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as exc:
        raise state_unusable(folder, exc) from exc
    return folder


def make_room(place: Path | str) -> str:
    """The hint about a disk of the laptop that is full."""
    return f"make room there (df -h '{place}'), then run the same command again"


def state_unusable(place: Path, exc: OSError) -> FolderUnusable:
    """What to raise when remotedl cannot keep its state."""
    why = (exc.strerror or str(exc)).lower()
    hint = "mend that folder, or name another: REMOTEDL_STATE=/path/to/a/folder remotedl …"
    if exc.errno in FULL:
        hint = make_room(place.parent)
    return FolderUnusable(f"{place}: {why}; remotedl keeps what it remembers there", hint=hint)
