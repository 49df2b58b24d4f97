"""Both versions of a conflict, read where they stand, to be shown beside each other.

Reads only; neither side is changed. A version that is another one by now is not to be had.
"""

from __future__ import annotations

from remotedl.errors import SyncError
from remotedl.sync.agent.disk import read_blocks
from remotedl.sync.agent.staging import NoContent
from remotedl.sync.agent.transfer import Wanted
from remotedl.sync.agent.tree import DIR, Entry, sort_key
from remotedl.sync.conflicts import (
    HOST,
    LAPTOP,
    LIMIT,
    Comparison,
    How,
    Part,
    compare,
    compare_held,
    is_comparable,
    is_readable,
)
from remotedl.sync.opening import Pair
from remotedl.sync.verdict import Conflict, ConflictKind, unmerged

BLOCK = 1 << 18


def compare_versions(pair: Pair, conflict: Conflict) -> Comparison:
    """What differs. Raises LinkLost."""
    if conflict.held:
        return compare_held(conflict, [_read_part(pair, key) for key in _keys_in(pair, conflict)])
    if not is_comparable(conflict):
        return compare(conflict, None, None)
    key, remote = conflict.key, conflict.remote
    assert remote is not None
    return compare(
        conflict,
        _read_here(pair, pair.replica.side.path(key)),
        _read_there(pair, pair.picture.side.path(key), remote),
    )


def _keys_in(pair: Pair, conflict: Conflict) -> list[str]:
    """The conflict's path and all below it that is not the same on both sides."""
    here, there = pair.replica.side.tree, pair.picture.tree
    ignore = pair.replica.scanner.ignore
    found: set[str] = set()
    for key, entry in (*here.items(), *there.items()):
        inside = key == conflict.key or key.startswith(conflict.key + "/")
        differs = inside and here.get(key) != there.get(key)
        if differs and not ignore.ignores(key, entry == DIR):
            found.add(key)
    return sorted(found, key=sort_key)


def _read_part(pair: Pair, key: str) -> Part:
    here, there = pair.replica.side, pair.picture.side
    laptop, remote = here.tree.get(key), there.tree.get(key)
    return Part(
        key,
        laptop,
        remote,
        _read_here(pair, here.path(key)) if laptop and is_readable(laptop) else None,
        _read_there(pair, there.path(key), remote) if remote and is_readable(remote) else None,
    )


def compare_unmerged(pair: Pair, key: str) -> Comparison:
    """What differs between a file and the copy of it at `key` that could not be merged."""
    tree, original = pair.replica.side.tree, unmerged(key)
    copy, file = tree.get(key), tree.get(original or "")
    if copy is None or file is None:
        return Comparison(key, How.NOT_COMPARED, ("the file that it was kept beside is gone",))
    paths = (pair.replica.side.path(one) for one in (original or "", key))
    texts = [_read_here(pair, path) for path in paths]
    conflict = Conflict(key, None, file, copy, ConflictKind.BOTH_EDITED, "")
    found = compare(conflict, *texts)
    return found._replace(lines=tuple(_of_copy(line) for line in found.lines))


def _of_copy(line: str) -> str:
    """Both stand on the laptop: no side is named then, but which of the two."""
    if line.startswith(("--- ", "+++ ", "@@", "laptop: ", "host: ", " (a ")):
        for side, said in ((LAPTOP, "file"), (HOST, "copy")):
            line = line.replace(f"on the {side}", f"in the {said}").replace(side, said)
    return line


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
