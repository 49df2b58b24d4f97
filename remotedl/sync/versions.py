"""Both versions of a conflict, read where they stand, to be shown beside each other.

Reads only; neither side is changed. A version that is another one by now is not to be had.
"""

from __future__ import annotations

from remotedl.errors import SyncError
from remotedl.sync.agent.disk import read_blocks
from remotedl.sync.agent.staging import NoContent
from remotedl.sync.agent.transfer import Wanted
from remotedl.sync.agent.tree import Entry
from remotedl.sync.conflicts import LIMIT, Comparison, compare, is_comparable
from remotedl.sync.opening import Pair
from remotedl.sync.verdict import Conflict

BLOCK = 1 << 18


def compare_versions(pair: Pair, conflict: Conflict) -> Comparison:
    """What differs. Raises LinkLost."""
    if not is_comparable(conflict):
        return compare(conflict, None, None)
    key = conflict.key
    return compare(
        conflict,
        _read_here(pair, pair.replica.side.path(key)),
        _read_there(pair, pair.picture.side.path(key), conflict.remote),
    )


def _read_here(pair: Pair, path: str) -> bytes | None:
    replica = pair.replica
    try:
        source = replica.open_content(path)
    except OSError:
        return None
    try:
        data = bytearray()
        for block in read_blocks(replica.disk, source.fd, BLOCK):
            data += block
            if len(data) > LIMIT:
                return None
        return bytes(data) if replica.unchanged(source) else None
    except OSError:
        return None
    finally:
        replica.disk.close(source.fd)


def _read_there(pair: Pair, path: str, entry: Entry) -> bytes | None:
    """The content comes by its digest, as every content does; then it is thrown away."""
    assert entry.digest is not None
    staging = pair.replica.staging
    try:
        pair.peer.get([Wanted(path, entry)]).wait()
        data = staging.read(entry.digest, LIMIT)
    except (NoContent, OSError, SyncError):
        return None
    staging.spent({entry.digest})
    return data
