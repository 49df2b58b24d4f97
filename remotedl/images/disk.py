"""Whether there is room for an image, before an hour of download finds out that there is none."""

from __future__ import annotations

from remotedl.engine import Engine
from remotedl.errors import EngineError
from remotedl.images.wish import HostCapabilities
from remotedl.ssh.remote import Remote

SPARE = 500_000_000
"""Bytes that an engine needs to be able to do anything at all, pruning too."""
UNPACKING = 1.5
"""A layer lies twice on the disk while it is unpacked, once compressed."""
KIB = 1024


def refuse_if_full(
    engine: Engine, remote: Remote, host: HostCapabilities, size: int, what: str
) -> None:
    """Raises EngineError when `size` more bytes will not go where the engine keeps its images."""
    root_dir = engine.report().root_dir
    free = host.disk_free if host.disk_free is not None else free_bytes(remote, root_dir)
    needed = int(size * UNPACKING) + SPARE
    if free is not None and free < needed:
        raise EngineError(
            f"{what} needs about {_gigabytes(needed)} on the host, and {root_dir} has "
            f"{_gigabytes(free)} left",
            hint="remotedl image prune",
        )


def free_bytes(remote: Remote, folder: str) -> int | None:
    """Bytes free where `folder` lies on the host; None when it cannot be told."""
    found = remote.run(["df", "-Pk", folder], check=False)
    lines = found.text.splitlines()
    # The mount point comes last and may hold spaces; the numbers do not move.
    fields = lines[-1].split() if found.ok and len(lines) > 1 else []
    if len(fields) < 6 or not fields[3].isdigit():
        return None
    return int(fields[3]) * KIB


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
