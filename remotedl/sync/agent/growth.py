"""Big files that a program keeps open and appends to: what they held at the last look, proved by
the digests of their blocks to be what they still begin with.

A log is followed while it grows; what changes anywhere else, or grows like a checkpoint that is
being written, waits until its program is done.
"""

from __future__ import annotations

import errno
import hashlib
from typing import Dict, NamedTuple, Optional

from remotedl.sync.agent.blocks import Changed, hash_blocks
from remotedl.sync.agent.digest import BLOCK, FROM, Blocks
from remotedl.sync.agent.disk import Disk

PACE = 4 << 20
"""Bytes between two looks; a file that grows by more is no log."""
LOOK_NS = 1_000_000_000
"""How far two looks are apart at least: a writer that pauses a moment is not done."""
KEPT = 1000
_WAIT = "a big file in mid-write"


class _Seen(NamedTuple):
    """What a file was when it was looked at."""

    inode: int
    at: int
    blocks: Blocks
    tail: bytes
    """The digest of its last block, which may be short."""


class Prefix(NamedTuple):
    """The state of a growing file that is taken for a version."""

    digest: bytes
    blocks: Optional[Blocks]
    """From `digest.FROM` on, as of any big file."""


class Growths:
    """What growing files held lately, by key. Several threads, each with keys of its own."""

    def __init__(self) -> None:
        self._seen: Dict[str, _Seen] = {}

    def prefix(self, disk: Disk, fd: int, key: str, inode: int, size: int, now: int) -> Prefix:
        """The first `size` bytes of an open file that is appended to.

        Raises Changed where it is not known to be appended to, or to nothing else.
        """
        before = self._seen.get(key)
        if before is not None and before.inode == inode and now - before.at < LOOK_NS:
            raise Changed(errno.EAGAIN, _WAIT)
        blocks = Blocks(size, hash_blocks(disk, fd, 0, size))
        last = blocks.number - 1
        self._seen[key] = _Seen(inode, now, blocks, blocks.some(last, last + 1))
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]
        if before is None or before.inode != inode or not _is_appended(disk, fd, before, blocks):
            raise Changed(errno.EAGAIN, _WAIT)
        if size >= FROM:
            return Prefix(blocks.digest, blocks)
        return Prefix(_plain(disk, fd, size), None)


def begins_with(disk: Disk, new: int, old: int, size: int) -> bool:
    """Whether one open file begins with all of another one, which is `size` bytes long."""
    disk.seek(new, 0)
    disk.seek(old, 0)
    left = size
    while left:
        piece = disk.read(old, min(left, BLOCK))
        if not piece or _exactly(disk, new, len(piece)) != piece:
            return False
        left -= len(piece)
    return not disk.read(old, 1)


def _is_appended(disk: Disk, fd: int, before: _Seen, now: Blocks) -> bool:
    """Whether it grew, as a log does, and begins with what it was."""
    old = before.blocks
    if not 0 < now.size - old.size <= PACE:
        return False
    whole = old.size // BLOCK
    if now.some(0, whole) != old.some(0, whole):
        return False
    rest = old.size - whole * BLOCK
    if not rest:
        return True
    disk.seek(fd, whole * BLOCK)
    return hashlib.sha256(_exactly(disk, fd, rest)).digest() == before.tail


def _plain(disk: Disk, fd: int, size: int) -> bytes:
    disk.seek(fd, 0)
    engine = hashlib.sha256()
    for start in range(0, size, BLOCK):
        piece = _exactly(disk, fd, min(BLOCK, size - start))
        engine.update(piece)
    return engine.digest()


def _exactly(disk: Disk, fd: int, size: int) -> bytes:
    """So many bytes, or fewer at the end of the file."""
    found = b""
    while len(found) < size:
        piece = disk.read(fd, size - len(found))
        if not piece:
            break
        found += piece
    return found
