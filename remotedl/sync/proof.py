"""Whether a folder that has lost its `.remotedl/` (`git clean -fdx`) is the one that was synced.

A path alone proves nothing (a disk that is not mounted has it too), an inode alone neither (they
are given out again): one of both, and files that are as both sides know them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from remotedl.errors import RemotedlError
from remotedl.sync.agent.disk import this_disk
from remotedl.sync.agent.folder import MARKER, OWN, Folder
from remotedl.sync.agent.tree import Entry, Kind
from remotedl.sync.database import Database

LOOKED_AT = 2000
"""Files of a big folder that are looked at."""
SAME_PLACE = 3
"""Files as they were that are enough where path and inode are the same."""


def place_of(root: Path) -> list[str | int]:
    """What a database notes of the laptop's folder. Raises OSError."""
    return [os.path.realpath(root), os.stat(root).st_ino]


def proves(root: Path, database: Path) -> bool:
    """Whether `root` is the folder that this database is the memory of. Changes nothing."""
    try:
        place, _, ancestor = Database.peek(database)
        same = [was == now for was, now in zip(place or (), place_of(root), strict=True)]
    except (RemotedlError, OSError, ValueError):
        return False
    if not any(same):
        return False
    files = [(key, one) for key, one in ancestor.items() if one.kind is Kind.FILE]
    if not files:
        return all(same)
    seen = files[:: 1 + len(files) // LOOKED_AT]
    wanted = min(SAME_PLACE, len(seen)) if all(same) else (len(seen) + 1) // 2
    return _any_as_they_were(root, seen, wanted)


def put_back(root: Path, database: Path) -> bool:
    """Give a folder that is proved to be the one its marker again. Raises OSError."""
    try:
        (root / OWN / MARKER).lstat()
        return False
    except FileNotFoundError:
        pass
    except OSError:
        return False
    if not database.is_file() or not proves(root, database):
        return False
    marker = Database.peek(database)[1]
    if marker is None:
        return False
    with Folder(str(root), this_disk()) as folder:
        folder.set_marker(marker)
    return True


def _any_as_they_were(root: Path, files: Sequence[tuple[str, Entry]], wanted: int) -> bool:
    def are() -> Iterator[bool]:
        for key, entry in files:
            try:
                found = os.lstat(root / key)
            except (OSError, ValueError):
                continue
            yield found.st_size == entry.size

    return len(list(islice(filter(None, are()), wanted))) == wanted
