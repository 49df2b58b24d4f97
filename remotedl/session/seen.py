"""What the jobs of a project saw: a manifest of the host's folder at each start, on the laptop.

A job's note holds the manifest's name; jobs that saw the same files share one.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from remotedl.config.files import write_private
from remotedl.errors import JobNotFound
from remotedl.sync.manifest import digest_of

KEPT = 500


def keep(folder: Path, text: bytes) -> str:
    """Write a manifest below the state folder of project and host; its name."""
    name = digest_of(text)
    path = _path(folder, name)
    if path.exists():
        path.touch()  # it is the newest again
        return name
    write_private(path, gzip.compress(text, 6, mtime=0))
    kept = sorted(path.parent.glob("*.gz"), key=lambda one: one.stat().st_mtime)
    for old in kept[:-KEPT]:
        old.unlink(missing_ok=True)
    return name


def recall(folder: Path, name: str | None, job_id: str) -> bytes:
    """The manifest of a job. Raises JobNotFound where this laptop has none."""
    if name is None:
        raise JobNotFound(
            f"job {job_id} was started without the sync before it: nobody noted its files",
            hint="remotedl run notes them, but for --no-after-sync",
        )
    try:
        return gzip.decompress(_path(folder, name).read_bytes())
    except FileNotFoundError:
        raise JobNotFound(
            f"the files of job {job_id} were noted on another laptop, or too long ago ({name})",
            hint="remotedl jobs --json shows the name of what it saw",
        ) from None


def _path(folder: Path, name: str) -> Path:
    return folder / "seen" / f"{name}.gz"
