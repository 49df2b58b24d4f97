"""Which files are open in Jupyter on this host, where an outside change is merged into them.

Jupyter's side is dockerfiles/base/jupyter/remotedl_documents.py: a file in `.remotedl/open/` for
each, locked as long as the document is open, with its path. A lock goes with its process, so that
what a killed Jupyter left behind says nothing. What is written there is any program's word: it
only ever decides between a conflict and a merge.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import FrozenSet, List, Optional

from remotedl.sync.agent.disk import READ, At, Disk
from remotedl.sync.agent.folder import OWN, Folder
from remotedl.sync.agent.tree import key

OPEN = "open"
MERGES = "merged where it is open"
"""The reason of a change that may only be made to a file that is open."""
MOST = 1000
LONGEST = 4096


def open_documents(folder: Folder) -> FrozenSet[str]:
    """Keys of the open files; none where nothing is told."""
    disk = folder.disk
    try:
        own = disk.open_dir(OWN, folder.top)
    except OSError:
        return frozenset()
    try:
        at = disk.open_dir(OPEN, own)
    except OSError:
        return frozenset()
    finally:
        disk.close_dir(own)
    try:
        names: List[str] = []
        with disk.scandir(at) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) == MOST:
                    break
        found = (_read(disk, name, at) for name in names)
        return frozenset(key(path) for path in found if path)
    except OSError:
        return frozenset()
    finally:
        disk.close_dir(at)


def _read(disk: Disk, name: str, at: At) -> Optional[str]:
    """The path that is in a locked file; a file that is not locked is removed."""
    import fcntl

    try:
        fd = disk.open(name, READ, at)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(disk.fstat(fd).st_mode):
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.EACCES):
                return None
            return os.fsdecode(os.read(fd, LONGEST))
        disk.unlink(name, at)
        return None
    except OSError:
        return None
    finally:
        disk.close(fd)
