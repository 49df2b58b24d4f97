"""What two versions of a big file share, found at the speed of a checksum.

While a version is read for its digest, two marks are kept for every MiB: the digest of all before
it, and a checksum of the block that ends so many MiB before the end. Equal marks of two versions
show a common beginning, and equal blocks counted from the end: what was appended, changed in
place or inserted. They are hints: the receiver checks the digest of the whole.

Decision: no rolling checksum. Alternative: rsync's. Reason: in Python it runs at 3 MB/s; these
marks cost a third of the digest, in a thread of their own.
"""

from __future__ import annotations

import errno
import hashlib
import queue
import threading
import zlib
from array import array
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from remotedl.sync.agent.disk import Disk

BLOCK = 1 << 20
FROM = 8 << 20
"""Smaller files are sent whole."""
MARK = 8
"""Bytes that are kept of the digest of a beginning."""
KEPT = 64
"""Marks of so many versions are kept."""
BUFFERS = 4


class Changed(OSError):
    """A file is not the one that was listed, or changed while it was read."""


class Blocks(NamedTuple):
    """The marks of one version."""

    size: int
    beginnings: Tuple[bytes, ...]
    """Of the first MiB, the first two, …: the digest's first bytes."""
    ends: Tuple[int, ...]
    """The checksums of the last MiB, the one before it, …; the first, short one is left out."""


class Range(NamedTuple):
    """A piece of the new version, in order. `old` None: it must be sent."""

    start: int
    size: int
    old: Optional[int]
    """Where the same bytes stand in the old version."""


class Marks:
    """The marks of versions seen lately, by digest. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: Dict[bytes, Blocks] = {}

    def put(self, digest: bytes, blocks: Blocks) -> None:
        with self._lock:
            self._kept.pop(digest, None)
            self._kept[digest] = blocks
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]

    def get(self, digest: Optional[bytes]) -> Optional[Blocks]:
        with self._lock:
            return self._kept.get(digest) if digest is not None else None


def compare(old: Blocks, new: Blocks) -> List[Range]:
    """How the new version is put together from the old one and what has to be sent."""
    head = 0
    for mine, other in zip(new.beginnings, old.beginnings):
        if mine != other:
            break
        head += 1
    ranges = [Range(0, head * BLOCK, 0)] if head else []
    position = head * BLOCK
    # Blocks are counted from the end; those that the common beginning covers are done.
    for number in range(len(new.ends) - 1, -1, -1):
        start = new.size - (number + 1) * BLOCK
        if start + BLOCK <= position:
            continue
        if start > position:
            ranges.append(Range(position, start - position, None))
            position = start
        same = number < len(old.ends) and old.ends[number] == new.ends[number]
        before = old.size - (number + 1) * BLOCK + (position - start)
        size = start + BLOCK - position
        ranges.append(Range(position, size, before if same else None))
        position += size
    if position < new.size:
        ranges.append(Range(position, new.size - position, None))
    return _joined(ranges)


def hash_blocks(disk: Disk, fd: int, size: int) -> Tuple[bytes, Blocks]:
    """Digest and marks of an open file. Raises Changed if it has not `size` bytes."""
    engine = hashlib.sha256()
    beginnings: List[bytes] = []
    checksums = _Checksums(size)
    done = 0
    try:
        while True:
            buffer = checksums.buffer()
            got = _fill(disk, fd, buffer)
            if not got:
                break
            view = memoryview(buffer)[:got]
            checksums.put(buffer, got)
            engine.update(view)
            done += got
            if done > size:
                raise Changed(errno.EAGAIN, "a file that grows")
            if got == BLOCK:
                beginnings.append(engine.copy().digest()[:MARK])
    finally:
        ends = checksums.end()
    if done != size:
        raise Changed(errno.EAGAIN, "a file that shrinks")
    return engine.digest(), Blocks(size, tuple(beginnings), ends)


class _Checksums:
    """Counts the blocks' checksums in a thread of its own, while the digest is computed."""

    def __init__(self, size: int) -> None:
        self._free: queue.Queue[bytearray] = queue.Queue()
        for _ in range(BUFFERS):
            self._free.put(bytearray(BLOCK))
        self._work: queue.Queue[Optional[Tuple[bytearray, int]]] = queue.Queue()
        self._first = size % BLOCK
        self._found = array("Q")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def buffer(self) -> bytearray:
        return self._free.get()

    def put(self, buffer: bytearray, size: int) -> None:
        self._work.put((buffer, size))

    def end(self) -> Tuple[int, ...]:
        """From the last block backwards, the short first one left out."""
        self._work.put(None)
        self._thread.join()
        whole = self._found[1:] if self._first else self._found
        return tuple(reversed(whole))

    def _run(self) -> None:
        checksum, left = 0, self._first or BLOCK
        while True:
            item = self._work.get()
            if item is None:
                return
            buffer, size = item
            view = memoryview(buffer)[:size]
            while view:
                piece = view[:left]
                checksum = zlib.crc32(piece, checksum)
                left -= len(piece)
                view = view[len(piece) :]
                if not left:
                    self._found.append(checksum)
                    checksum, left = 0, BLOCK
            self._free.put(buffer)


def _fill(disk: Disk, fd: int, buffer: Any) -> int:
    """Read until the buffer is full or the file ends; how many bytes."""
    view = memoryview(buffer)
    got = 0
    while got < len(buffer):
        more = disk.readinto(fd, view[got:])
        if not more:
            break
        got += more
    return got


def _joined(ranges: List[Range]) -> List[Range]:
    """Neighbours that go on where the one before ends become one."""
    found: List[Range] = []
    for one in ranges:
        last = found[-1] if found else None
        if last is not None and (
            (last.old is None and one.old is None)
            or (last.old is not None and one.old == last.old + last.size)
        ):
            found[-1] = last._replace(size=last.size + one.size)
        else:
            found.append(one)
    return found
