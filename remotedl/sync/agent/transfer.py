"""Contents on their way: `Intake` takes PUT, DATA and COPY into the staging area, `Outflow` reads
files and sends them. Both sides use both. Which contents are wanted is decided elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import struct
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from remotedl.sync.agent.blocks import Range, compare, hash_blocks
from remotedl.sync.agent.digest import Blocks
from remotedl.sync.agent.disk import read_blocks
from remotedl.sync.agent.protocol import (
    DATA_LIMIT,
    Content,
    Malformed,
    Type,
    check_path,
    inflate,
    pack_contents,
    pack_entries,
    pack_json,
    unpack_contents,
    unpack_entries,
    unpack_json,
)
from remotedl.sync.agent.replica import Replica, Source
from remotedl.sync.agent.scan import stamp_of
from remotedl.sync.agent.staging import BadContent, Incoming
from remotedl.sync.agent.tree import Entry
from remotedl.sync.agent.wire import Wire

SMALL = 1 << 18
"""Up to here a content is packed with others and waits in memory."""
PACK_BYTES = 1 << 19
PACK_FILES = 512
BLOCK = 1 << 20
CREDIT = 1 << 20
"""Credit is given back in such portions: a frame each costs more than the data."""
COPY = 16 << 20
"""How copies are cut, so that other contents are taken in between."""
_RANGE = struct.Struct(">QQ")
_LENGTH = struct.Struct(">I")
STREAMS = 1024
"""Contents that may be on their way at once."""
GONE = "it changed, or went away, before it was sent"
"""What is there now is seen by looking again, soon."""


class Arrived(NamedTuple):
    """How the contents of one PUT ended: by digest, "" or what went wrong."""

    stream: int
    results: Dict[bytes, str]


class Intake:
    """Takes contents in. Frames of one connection, in their order, from one thread."""

    def __init__(self, replica: Replica, credit: Callable[[int], None]) -> None:
        self._replica = replica
        self._credit = credit
        self._owed = 0
        self._streams: Dict[int, _Arriving] = {}

    def put(self, stream: int, payload: bytes) -> Optional[Arrived]:
        """Raises Malformed."""
        if len(self._streams) >= STREAMS:
            raise Malformed("contents announced on more streams than there are")
        if stream in self._streams:
            raise Malformed("contents announced twice on one stream")
        arriving = _Arriving(self._replica, unpack_contents(payload))
        self._streams[stream] = arriving
        arriving.advance()
        return self._ended(stream, arriving)

    def data(self, stream: int, payload: bytes) -> Optional[Arrived]:
        """Raises Malformed."""
        arriving = self._streams.get(stream)
        if arriving is None:
            raise Malformed("data that nobody announced")
        arriving.data(payload)
        self._owed += len(payload)
        if self._owed >= CREDIT or arriving.is_over:
            owed, self._owed = self._owed, 0
            self._credit(owed)
        return self._ended(stream, arriving)

    def deflated(self, stream: int, payload: bytes) -> Optional[Arrived]:
        """Raises Malformed."""
        return self.data(stream, inflate(payload, DATA_LIMIT))

    def copy(self, stream: int, payload: bytes) -> Optional[Arrived]:
        """Raises Malformed."""
        arriving = self._streams.get(stream)
        if arriving is None or len(payload) < _RANGE.size:
            raise Malformed("a copy that nobody announced")
        start, size = _RANGE.unpack_from(payload)
        path = _path(payload[_RANGE.size :])
        arriving.copy(path, start, size)
        return self._ended(stream, arriving)

    def prepare(self, payload: bytes) -> None:
        """Begin to copy a big file that is known for sure: most of it will be needed soon."""
        try:
            source = self._replica.open_content(_path(payload))
        except OSError:
            return
        stamp = stamp_of(source.found)
        known = self._replica.scanner.marks.of_file(stamp)
        if known is None or self._replica.disk.has_writer(source.fd):
            self._replica.disk.close(source.fd)
            return
        self._replica.staging.clone(source.fd, source.found.st_size, stamp)

    def abandon(self, stream: int) -> None:
        """The sender gave up on this stream; what has come of a big file stays."""
        arriving = self._streams.pop(stream, None)
        if arriving is not None:
            arriving.close()

    def close(self) -> None:
        for stream in list(self._streams):
            self.abandon(stream)

    def _ended(self, stream: int, arriving: _Arriving) -> Optional[Arrived]:
        if not arriving.is_over:
            return None
        self.abandon(stream)
        return Arrived(stream, arriving.results)


class _Old(NamedTuple):
    """The earlier version that is copied from."""

    path: str
    source: Source
    blocks: Optional[Blocks]
    """What it holds, where that is known for sure."""


class _Arriving:
    """The contents of one PUT, one after the other."""

    def __init__(self, replica: Replica, contents: List[Content]) -> None:
        self._replica = replica
        self._staging = replica.staging
        self._contents = contents
        self._number = 0
        self._left = contents[0].size - contents[0].start if contents else 0
        self._small: List[bytes] = []
        self._incoming: Optional[Incoming] = None
        self._failed = ""
        self._basis: Optional[_Old] = None
        self.results: Dict[bytes, str] = {}

    @property
    def is_over(self) -> bool:
        return self._number >= len(self._contents)

    def data(self, payload: bytes) -> None:
        """Raises Malformed for more than was announced."""
        view = memoryview(payload)
        while view:
            if self.is_over:
                raise Malformed("more data than announced")
            piece = view[: self._left]
            self._take(piece)
            self._left -= len(piece)
            view = view[len(piece) :]
            self.advance()

    def copy(self, path: str, start: int, size: int) -> None:
        """Raises Malformed for more than was announced."""
        if self.is_over or size > self._left or self._content.size <= SMALL:
            raise Malformed("more copied than announced")
        if not self._failed:
            try:
                old = self._open_basis(path)
                self._open(old)
                assert self._incoming is not None
                self._incoming.copy(old.source.fd, start, size, old.blocks)
            except (OSError, BadContent) as exc:
                self._fail(str(exc))
        self._left -= size
        self.advance()

    def advance(self) -> None:
        """Finish what is complete, empty files too."""
        while not self.is_over and self._left == 0:
            self._finish()
            self._number += 1
            self._left = 0 if self.is_over else self._content.size - self._content.start

    def close(self) -> None:
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None
        self._close_basis()

    @property
    def _content(self) -> Content:
        return self._contents[self._number]

    def _take(self, piece: memoryview) -> None:
        if self._failed:
            return
        if self._content.size <= SMALL:
            self._small.append(bytes(piece))
            return
        if self._staging.has(self._content.digest):
            return
        try:
            self._open()
            assert self._incoming is not None
            self._incoming.write(piece)
        except (OSError, BadContent) as exc:
            self._fail(str(exc))

    def _finish(self) -> None:
        content = self._content
        try:
            if self._failed:
                pass
            elif content.size <= SMALL:
                self._staging.keep(content.digest, b"".join(self._small))
            elif not self._staging.has(content.digest):
                self._open()
                self._finish_big()
        except (OSError, BadContent) as exc:
            self._fail(str(exc))
        self.results[content.digest] = self._failed
        self._small = []
        self._failed = ""
        self.close()

    def _open(self, old: Optional[_Old] = None) -> None:
        """`old`: the earlier version that the content begins with."""
        if self._incoming is not None:
            return
        clone = None
        if old is not None and old.blocks is not None and not self._content.start:
            clone = self._staging.take_clone(stamp_of(old.source.found))
        self._incoming = self._staging.receive(self._content, clone)

    def _finish_big(self) -> None:
        """Raises OSError, BadContent."""
        assert self._incoming is not None
        self._check_basis()
        self._incoming.finish()
        if self._incoming.blocks is not None:
            marks = self._replica.scanner.marks
            marks.put(self._content.digest, self._incoming.blocks)

    def _open_basis(self, path: str) -> _Old:
        if self._basis is None or path != self._basis.path:
            self._check_basis()
            self._close_basis()
            source = self._replica.open_content(path)
            self._basis = _Old(path, source, None)
            blocks = self._replica.scanner.marks.of_file(stamp_of(source.found))
            if blocks is not None and not self._is_written(self._basis):
                self._basis = _Old(path, source, blocks)
        return self._basis

    def _check_basis(self) -> None:
        """What was copied counts as known only if nobody wrote to it meanwhile."""
        old = self._basis
        if old is None or old.blocks is None:
            return
        if self._is_written(old) or not self._replica.unchanged(old.source):
            raise BadContent("the earlier version changed while it was copied")

    def _is_written(self, old: _Old) -> bool:
        return bool(self._replica.disk.has_writer(old.source.fd))

    def _close_basis(self) -> None:
        if self._basis is not None:
            self._replica.disk.close(self._basis.source.fd)
            self._basis = None

    def _fail(self, why: str) -> None:
        self._failed = why or "it could not be written"
        self._small = []
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None


class Basis(NamedTuple):
    """What the receiver has already of an earlier version: where, and its digest."""

    path: str
    digest: bytes


class Wanted(NamedTuple):
    """A file to send: where it is, what it must be, from which byte on."""

    path: str
    entry: Entry
    start: int = 0
    basis: Optional[Basis] = None


class Outflow:
    """Sends contents of a replica's files. One thread at a time, another than the replica's."""

    def __init__(self, replica: Replica, wire: Wire, next_stream: Callable[[], int]) -> None:
        self._replica = replica
        self._wire = wire
        self._next_stream = next_stream
        self.done = 0
        """Bytes of the big file on its way that the receiver has, or will have soon."""

    def send(self, wanted: Iterable[Wanted]) -> Dict[bytes, str]:
        """Send all; by digest what could not be sent, and why. Raises Closed."""
        failed: Dict[bytes, str] = {}
        pack: List[Tuple[Content, bytes]] = []
        size = 0
        for one in wanted:
            if one.entry.size > SMALL:
                why = self.send_big(one)
                if why:
                    failed[_digest(one)] = why
                continue
            try:
                data = self.read_small(one)
            except OSError as exc:
                failed[_digest(one)] = exc.strerror or str(exc)
                continue
            pack.append((Content(_digest(one), len(data)), data))
            size += len(data)
            if size >= PACK_BYTES or len(pack) >= PACK_FILES:
                self.send_pack(pack)
                pack, size = [], 0
        if pack:
            self.send_pack(pack)
        return failed

    def send_pack(self, pack: Sequence[Tuple[Content, bytes]], *, urgent: bool = False) -> int:
        """Small contents whose bytes are at hand; the stream they went on. Raises Closed."""
        stream = self._next_stream()
        contents = pack_contents([content for content, _ in pack])
        if urgent:
            self._wire.control(Type.PUT, stream, contents)
            self._wire.urgent(stream, b"".join([data for _, data in pack]))
            return stream
        self._wire.in_order(Type.PUT, stream, contents)
        self._wire.data(stream, b"".join([data for _, data in pack]))
        return stream

    def read_small(self, one: Wanted) -> bytes:
        """Raises OSError if it is not what is wanted any more."""
        source = self._replica.open_content(one.path)
        disk = self._replica.disk
        try:
            data = b"".join(read_blocks(disk, source.fd, SMALL))
        finally:
            disk.close(source.fd)
        data = data[: one.entry.size]  # a log may have grown since
        if hashlib.sha256(data).digest() != one.entry.digest:
            raise OSError(GONE)
        return data

    def send_big(self, one: Wanted, stream: Optional[int] = None) -> str:
        """Stream a file; "" or why it could not be sent. The receiver checks the digest."""
        disk = self._replica.disk
        try:
            source = self._replica.open_content(one.path)
        except FileNotFoundError:
            return GONE
        except OSError as exc:
            return exc.strerror or str(exc)
        try:
            if source.found.st_size < one.entry.size:
                return GONE
            if stream is None:
                stream = self._next_stream()
            why = self._stream(one, source, stream)
        finally:
            disk.close(source.fd)
        if why:
            self._wire.in_order(Type.ACK, stream, pack_json({"gave_up": why}))
        return why

    def _stream(self, one: Wanted, source: Source, stream: int) -> str:
        content = Content(_digest(one), one.entry.size, one.start)
        self._wire.in_order(Type.PUT, stream, pack_contents([content]))
        self.done = one.start
        try:
            for piece in self._ranges(one, source.fd):
                if piece.old is None:
                    self._send_range(source.fd, piece, stream)
                else:
                    assert one.basis is not None
                    self._send_copies(one.basis.path, piece, stream)
            # Of a log that grows, the receiver finds out by the digest whether it got this part.
            grows = source.found.st_size > one.entry.size
            unchanged = grows or self._replica.unchanged(source)
        except ConnectionError:
            raise
        except OSError as exc:
            return exc.strerror or str(exc)
        return "" if unchanged else GONE

    def _ranges(self, one: Wanted, fd: int) -> List[Range]:
        """What has to be sent, and what the receiver can copy from what it has."""
        whole = [Range(0, one.entry.size, None)]
        marks = self._replica.scanner.marks
        if one.basis is not None:
            old, new = marks.get(one.basis.digest), marks.get(one.entry.digest)
            if old is not None and new is not None:
                hasher = partial(hash_blocks, self._replica.disk, fd)
                whole = compare(old, new, hasher)
        found = []
        for start, size, at in whole:
            skip = min(size, max(0, one.start - start))
            if size - skip:
                found.append(Range(start + skip, size - skip, None if at is None else at + skip))
        return found

    def _send_range(self, fd: int, piece: Range, stream: int) -> None:
        disk = self._replica.disk
        disk.seek(fd, piece.start)
        left = piece.size
        while left:
            block = disk.read(fd, min(left, BLOCK))
            if not block:
                raise OSError(errno.EAGAIN, GONE)
            self._wire.data(stream, block)
            left -= len(block)
            self.done += len(block)

    def _send_copies(self, path: str, piece: Range, stream: int) -> None:
        assert piece.old is not None
        for done in range(0, piece.size, COPY):
            size = min(COPY, piece.size - done)
            self._wire.in_order(Type.COPY, stream, pack_copy(path, piece.old + done, size))
            self.done += size


def pack_get(wanted: Sequence[Wanted], *, deflate: bool = False) -> bytes:
    """Several small files, or one big one with where to start and what to build upon."""
    head: Dict[str, Any] = {"deflate": deflate}
    if len(wanted) == 1:
        head["start"] = wanted[0].start
        basis = wanted[0].basis
        if basis is not None:
            head["basis"] = [basis.path, basis.digest.hex()]
    packed = pack_json(head)
    table = pack_entries([(one.path, one.entry) for one in wanted])
    return _LENGTH.pack(len(packed)) + packed + table


def unpack_get(payload: bytes) -> Tuple[List[Wanted], bool]:
    """What is wanted, and whether to deflate it. Raises Malformed."""
    try:
        (size,) = _LENGTH.unpack_from(payload)
        head = unpack_json(payload[4 : 4 + size])
        rows = unpack_entries(payload[4 + size :])
        start = int(head.get("start", 0))
        basis = None
        if "basis" in head:
            path, digest = head["basis"]
            basis = Basis(check_path(str(path)), bytes.fromhex(digest))
    except (struct.error, TypeError, ValueError) as exc:
        raise Malformed(f"a GET that makes no sense: {exc}") from exc
    wanted = []
    for path, entry in rows:
        if entry is None or entry.digest is None or not 0 <= start <= entry.size:
            raise Malformed("a GET of something that is no file")
        wanted.append(Wanted(path, entry, start, basis))
    return wanted, bool(head.get("deflate"))


def _path(payload: bytes) -> str:
    """Raises Malformed."""
    return check_path(payload.decode("utf-8", "surrogateescape"))


def pack_copy(path: str, start: int, size: int) -> bytes:
    return _RANGE.pack(start, size) + path.encode("utf-8", "surrogateescape")


def _digest(one: Wanted) -> bytes:
    assert one.entry.digest is not None
    return one.entry.digest
