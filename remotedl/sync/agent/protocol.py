"""What laptop and agent say to each other: frames over one channel, and tables of entries.

A frame is length (4 bytes), type (1), stream (4), payload. Every answer carries the stream of its
request. Tables are columns, not rows: 20,000 paths are split by one call of C code. Everything
that is read is bounded and checked here, for neither side trusts the other: `Malformed` says
what was wrong. No I/O: bytes come in, bytes go out.

| frame | from | payload |
|---|---|---|
| HELLO | both | JSON: who I am, what I can do |
| SNAP | laptop, then agent | JSON request; answer: parts of a listing, the last one says so |
| DIRTY | agent | a listing of what changed since the last one, unasked |
| GET | laptop | a table of files that it wants |
| PUT | both | which contents follow on this stream: digest, size, where to start |
| DATA | both | the bytes of those contents, one after the other, cut small |
| DEFLATED | both | DATA, compressed |
| COPY | both | instead of DATA: take this range from the file that is replaced |
| PREPARE | laptop | the path of a big file that will soon be replaced by one much like it |
| COMMIT | laptop | a table of changes: path, what is expected there, what shall be there |
| OPS | laptop | JSON: a request about the trash, the staging area or the rules |
| ACK | both | JSON: how the request of this stream ended |
| PING | both | echoed with its first byte set, and with for how long the disk has been silent |
| FLUSH | laptop | JSON: a cookie to write and to wait for |
| CREDIT | both | 8 bytes: so many more bytes of DATA may be sent |
| MORE | both | the type of a frame that follows on this stream, and the next part of its payload |
| LOOKING | agent | 8 bytes: so many paths are known to have changed and are not told yet |
| BYE | laptop | nothing: end in order |
"""

from __future__ import annotations

import json
import struct
import zlib
from array import array
from enum import IntEnum
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from remotedl.sync.agent.tree import DIR, Change, Entry, Kind

VERSION = 1
MAGIC = b"\x00remotedl-agent\x01\xf0\x9f\x94\x81\n"
"""What the agent says first. Whatever a login script prints before it is skipped."""
NOISE_LIMIT = 1 << 20
"""So many bytes of noise before the magic; a host that prints more is not talked to."""
FRAME_LIMIT = 4 << 20
"""The longest payload that is accepted."""
DATA_SIZE = 128 << 10
"""How DATA is cut at least: 10 ms of a 100 Mbit/s link, so that control frames interleave."""
DATA_LIMIT = 1 << 20
"""The longest piece of DATA, deflated or not."""
CREDIT_START = 16 << 20
"""How many bytes of DATA may be on their way unconfirmed, each way."""
LONG = 1 << 16
"""DATA from this size on is put together at its place instead of in the parser's buffer."""
PART = 1 << 20
"""A longer payload is cut into MORE frames of so many bytes, a listing into tables of about so
many, whatever is in them."""
MESSAGE_LIMIT = 512 << 20
"""So many bytes of MORE are kept at most; a history of a million changes is shorter."""
ROW = 64
"""Bytes of a table's row beside its path and target."""
PATH_LIMIT = 1 << 16
NAME_LIMIT = 255

_HEADER = struct.Struct(">IBI")
HEADER_SIZE = _HEADER.size
_COUNTS = struct.Struct(">IIIII")
_NOTHING, _FILE, _DIR, _LINK = range(4)
_EXECUTABLE = 4
_PROGRAM = _FILE | _EXECUTABLE
KINDS = {
    _FILE: (Kind.FILE, False),
    _PROGRAM: (Kind.FILE, True),
    _DIR: (Kind.DIR, False),
    _LINK: (Kind.LINK, False),
}
"""By their codes in a table: kinds, and whether such a file is executable."""
_new_entry = tuple.__new__
"""Half the time of Entry(…), and tables hold 100,000 of them."""


class Malformed(ValueError):
    """The other side said something that the protocol does not know."""


class Type(IntEnum):
    HELLO = 1
    SNAP = 2
    DIRTY = 3
    GET = 4
    PUT = 5
    DATA = 6
    COPY = 7
    COMMIT = 8
    OPS = 9
    ACK = 10
    PING = 11
    FLUSH = 12
    CREDIT = 13
    BYE = 14
    DEFLATED = 15
    PREPARE = 16
    LOOKING = 17
    MORE = 18


class Frame(NamedTuple):
    type: Type
    stream: int
    payload: bytes
    """Of long DATA a bytearray: bytes that nobody else holds, too."""


class Content(NamedTuple):
    """One file's bytes, named by what they are. `start` > 0 resumes."""

    digest: bytes
    size: int
    start: int = 0


def frame(kind: Type, stream: int, payload: bytes = b"") -> bytes:
    return _HEADER.pack(len(payload), kind, stream) + payload


def header(kind: Type, stream: int, size: int) -> bytes:
    """For a payload that is sent right after, without copying it."""
    return _HEADER.pack(size, kind, stream)


def cut(kind: Type, stream: int, payload: bytes) -> List[Tuple[bytes, bytes]]:
    """A message as frames, each a header and what follows it: none is longer than may be."""
    if len(payload) <= PART:
        return [(header(kind, stream, len(payload)), payload)]
    view, name = memoryview(payload), bytes([kind])
    ends = range(PART, len(payload), PART)
    pieces = [name + bytes(view[end - PART : end]) for end in ends]
    found = [(header(Type.MORE, stream, len(piece)), piece) for piece in pieces]
    rest = bytes(view[ends[-1] :])
    return [*found, (header(kind, stream, len(rest)), rest)]


class Parser:
    """Cuts a stream of bytes into frames; before the first one it skips to MAGIC if asked.

    What was cut into MORE frames comes out whole.
    """

    def __init__(
        self,
        *,
        skip_noise: bool = False,
        most: Callable[[int, int], int] = lambda kind, stream: MESSAGE_LIMIT,
    ) -> None:
        """`most`: how many bytes a message of this type on this stream may have in MORE frames."""
        self._most = most
        self._buffer = bytearray()
        self._noise: Optional[bytearray] = bytearray() if skip_noise else None
        self._long: Optional[_Long] = None
        self._begun: Dict[Tuple[int, int], bytearray] = {}
        """By type and stream, what has come of a message in MORE frames."""

    @property
    def noise(self) -> bytes:
        """What came before the magic so far; b"" once that was seen."""
        return bytes(self._noise or b"")

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Raises Malformed."""
        if self._noise is not None:
            data = self._skip(data)
        if self._long is not None:
            data = self._long.fill(data)
            if self._long.missing:
                return
            yield self._long.frame()
            self._long = None
        self._buffer += data
        position = 0
        size = len(self._buffer)
        while size - position >= HEADER_SIZE:
            length, code, stream = _HEADER.unpack_from(self._buffer, position)
            if length > FRAME_LIMIT:
                raise Malformed(f"a frame of {length} bytes")
            start = position + HEADER_SIZE
            if size - start < length:
                if length >= LONG and code == Type.DATA:
                    self._long = _Long(stream, length, self._buffer[start:])
                    position = size
                break
            position = start + length
            payload = bytes(memoryview(self._buffer)[start:position])
            if code == Type.MORE:
                self._begin(stream, payload)
            else:
                begun = self._begun.pop((code, stream), None) if self._begun else None
                yield Frame(
                    _type(code), stream, payload if begun is None else bytes(begun + payload)
                )
        if position:
            del self._buffer[:position]

    def _begin(self, stream: int, payload: bytes) -> None:
        if not payload:
            raise Malformed("a message that is cut off")
        begun = self._begun.setdefault((payload[0], stream), bytearray())
        most = self._most(payload[0], stream)
        if len(begun) + len(payload) > most or sum(map(len, self._begun.values())) > MESSAGE_LIMIT:
            raise Malformed("a message that is longer than any can be")
        begun.extend(payload[1:])

    def _skip(self, data: bytes) -> bytes:
        assert self._noise is not None
        self._noise += data
        at = self._noise.find(MAGIC)
        if at < 0:
            if len(self._noise) > NOISE_LIMIT:
                raise Malformed("no agent answered, only noise")
            return b""
        rest = bytes(self._noise[at + len(MAGIC) :])
        self._noise = None
        return rest


class _Long:
    """DATA that comes in many pieces, each copied once."""

    def __init__(self, stream: int, length: int, begun: bytearray) -> None:
        self._stream = stream
        self._payload: Any = bytearray(length)
        self.missing = length
        self.fill(bytes(begun))

    def fill(self, data: bytes) -> bytes:
        """Take what belongs to it; the rest."""
        at = len(self._payload) - self.missing
        taken = data if len(data) <= self.missing else data[: self.missing]
        self._payload[at : at + len(taken)] = taken
        self.missing -= len(taken)
        return data[len(taken) :]

    def frame(self) -> Frame:
        return Frame(Type.DATA, self._stream, self._payload)


def pack_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogateescape")


def unpack_json(payload: bytes) -> Dict[str, Any]:
    """A JSON object. Raises Malformed."""
    try:
        value = json.loads(payload.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value


def pack_entries(rows: Sequence[Tuple[str, Optional[Entry]]]) -> bytes:
    """A table of paths and what is there (None: nothing)."""
    paths = "\0".join([path for path, _ in rows]).encode("utf-8", "surrogateescape")
    return _join([paths, *_columns([entry for _, entry in rows])], len(rows))


def unpack_entries(payload: bytes) -> List[Tuple[str, Optional[Entry]]]:
    """Raises Malformed; every path is checked."""
    rows, (paths, *columns) = _split(payload, 5)
    return list(zip(_paths(paths, rows), _entries(columns, rows)))


class Columns(NamedTuple):
    """A table of entries as it comes, for whoever need not take it apart."""

    paths: bytes
    """Joined by NUL."""
    kinds: bytes
    """A row each; see `KINDS`."""
    digests: bytes
    """Of the files alone, as are the sizes."""
    sizes: array[int]
    targets: List[str]
    """Of the links alone."""


def columns_of(entries: Iterable[Entry]) -> Columns:
    """Without paths."""
    kinds, digests, sizes, joined = _columns(entries)
    return Columns(b"", kinds, digests, _sizes(sizes), _targets(joined))


def unpack_columns(payload: bytes) -> Columns:
    """A table in which every row is an entry. Raises Malformed; every path is checked."""
    rows, (paths, kinds, digests, raw_sizes, joined) = _split(payload, 5)
    if len(digests) % 32 or len(raw_sizes) % 8 or _leads_out(paths):
        raise Malformed("a table whose columns differ")
    found = Columns(paths, kinds, digests, _sizes(raw_sizes), _targets(joined))
    files, links = kinds.count(_FILE) + kinds.count(_PROGRAM), kinds.count(_LINK)
    if not rows == len(kinds) == files + links + kinds.count(_DIR) == paths.count(b"\0") + 1:
        raise Malformed("a table that is cut off")
    if not len(digests) // 32 == len(found.sizes) == files or len(found.targets) != links:
        raise Malformed("a table that is cut off")
    return found


def count_rows(payload: bytes) -> int:
    """Of a table of entries. Raises Malformed."""
    return _split(payload, 0)[0]


def pack_changes(changes: Sequence[Change]) -> bytes:
    old = pack_entries([(change.path, change.old) for change in changes])
    return _join([old, *_columns([change.new for change in changes])], len(changes))


def unpack_changes(payload: bytes) -> List[Change]:
    """Raises Malformed; every path is checked."""
    rows, (old, *columns) = _split(payload, 5)
    before = unpack_entries(old)
    if len(before) != rows:
        raise Malformed("a table of changes whose halves differ")
    after = _entries(columns, rows)
    return [Change(path, entry, new) for (path, entry), new in zip(before, after)]


def pack_commit(step: str, reasons: Sequence[str], changes: Sequence[Change]) -> bytes:
    head = pack_json({"step": step, "reasons": list(reasons)})
    return struct.pack(">I", len(head)) + head + pack_changes(changes)


def unpack_commit(payload: bytes) -> Tuple[str, List[str], List[Change]]:
    """step, reasons, changes. Raises Malformed."""
    if len(payload) < 4:
        raise Malformed("a commit that is cut off")
    (size,) = struct.unpack_from(">I", payload)
    head = unpack_json(payload[4 : 4 + size])
    changes = unpack_changes(payload[4 + size :])
    step, reasons = head.get("step"), head.get("reasons")
    if not isinstance(step, str) or not isinstance(reasons, list) or len(reasons) != len(changes):
        raise Malformed("a commit that makes no sense")
    return step, [str(reason) for reason in reasons], changes


def pack_contents(contents: Sequence[Content]) -> bytes:
    return b"".join(
        content.digest + struct.pack(">QQ", content.size, content.start) for content in contents
    )


def unpack_contents(payload: bytes) -> List[Content]:
    """Raises Malformed."""
    if len(payload) % 48:
        raise Malformed("a list of contents that is cut off")
    found = []
    for at in range(0, len(payload), 48):
        size, start = struct.unpack_from(">QQ", payload, at + 32)
        if start > size:
            raise Malformed("a content that starts behind its end")
        found.append(Content(payload[at : at + 32], size, start))
    return found


def check_path(path: str) -> str:
    """The path itself. Raises Malformed for one that leads out of the root, or nowhere."""
    _paths(path.encode("utf-8", "surrogateescape"), 1)
    return path


def parts(
    rows: Sequence[Tuple[str, Optional[Entry]]], limit: int = PART
) -> Iterator[Sequence[Tuple[str, Optional[Entry]]]]:
    """`rows` in pieces of about `limit` bytes; one empty piece where there are none, for somebody
    waits for it.
    """
    start = size = 0
    for at, (path, entry) in enumerate(rows):
        size += ROW + len(path) + len((entry.target or "") if entry is not None else "")
        if size > limit and at > start:
            yield rows[start:at]
            start, size = at, ROW + len(path)
    yield rows[start:]


def deflate(data: Any, level: int) -> bytes:
    return zlib.compress(data, level)


def inflate(data: bytes, limit: int) -> bytes:
    """Raises Malformed where more than `limit` bytes would come out."""
    engine = zlib.decompressobj()
    try:
        out = engine.decompress(data, limit)
    except zlib.error as exc:
        raise Malformed(str(exc)) from exc
    if engine.unconsumed_tail or not engine.eof:
        raise Malformed("compressed data that is longer than it says")
    return out


def _type(code: int) -> Type:
    try:
        return Type(code)
    except ValueError as exc:
        raise Malformed(f"a frame of unknown type {code}") from exc


def _columns(entries: Iterable[Optional[Entry]]) -> List[bytes]:
    """kinds, digests, sizes, targets of a list of entries."""
    kinds = bytearray()
    digests: List[bytes] = []
    sizes = array("Q")
    targets: List[str] = []
    file, folder = Kind.FILE, Kind.DIR
    for entry in entries:
        if entry is None:
            kinds.append(_NOTHING)
            continue
        kind, digest, size, executable, target = entry
        if kind is file:
            assert digest is not None
            digests.append(digest)
            sizes.append(size)
            kinds.append(_FILE | _EXECUTABLE if executable else _FILE)
        elif kind is folder:
            kinds.append(_DIR)
        else:
            assert target is not None
            targets.append(target)
            kinds.append(_LINK)
    joined = "\0".join(targets).encode("utf-8", "surrogateescape")
    return [bytes(kinds), b"".join(digests), _little(sizes), joined]


def _entries(columns: Sequence[bytes], rows: int) -> List[Optional[Entry]]:
    kinds, digests, raw_sizes, joined = columns
    if len(kinds) != rows or len(digests) % 32 or len(raw_sizes) % 8:
        raise Malformed("a table whose columns differ")
    contents = [digests[at : at + 32] for at in range(0, len(digests), 32)]
    files = iter(list(zip(contents, _sizes(raw_sizes))))
    targets = iter(_targets(joined))
    found: List[Optional[Entry]] = []
    add, new, kind = found.append, _new_entry, Kind.FILE
    try:
        for code in kinds:
            if code & ~_EXECUTABLE == _FILE:
                digest, size = next(files)
                add(new(Entry, (kind, digest, size, code != _FILE, None)))
            elif code & ~_EXECUTABLE == _LINK:
                add(Entry(Kind.LINK, target=next(targets)))
            elif code & ~_EXECUTABLE == _DIR:
                add(DIR)
            elif code & ~_EXECUTABLE == _NOTHING:
                add(None)
            else:
                raise Malformed(f"an entry of unknown kind {code}")
    except StopIteration as exc:
        raise Malformed("a table that is cut off") from exc
    return found


def _sizes(raw: bytes) -> array[int]:
    sizes = array("Q")
    sizes.frombytes(raw)
    return _native(sizes)


def _targets(joined: bytes) -> List[str]:
    return joined.decode("utf-8", "surrogateescape").split("\0") if joined else []


def _paths(blob: bytes, rows: int) -> List[str]:
    if not rows:
        return []
    if _leads_out(blob):
        raise Malformed(f"a path that leads out of the folder: {_worst(blob)!r}")
    found = blob.decode("utf-8", "surrogateescape").split("\0")
    if len(found) != rows:
        raise Malformed("a table whose columns differ")
    return found


def _leads_out(blob: bytes) -> bool:
    """Whether a component of any path is empty, "." or "..". A search a kind: 20,000 in 1 ms."""
    parted = b"\0" + blob.replace(b"/", b"\0") + b"\0"
    return b"\0\0" in parted or b"\0.\0" in parted or b"\0..\0" in parted


def _worst(blob: bytes) -> bytes:
    return next((path[:200] for path in blob.split(b"\0") if _leads_out(path)), b"")


def _join(columns: Sequence[bytes], rows: int) -> bytes:
    sizes = [len(column) for column in columns]
    return struct.pack(">I", rows) + struct.pack(">5I", *sizes) + b"".join(columns)


def _split(payload: bytes, count: int) -> Tuple[int, List[bytes]]:
    try:
        (rows,) = struct.unpack_from(">I", payload)
        sizes = struct.unpack_from(">5I", payload, 4)
    except struct.error as exc:
        raise Malformed("a table that is cut off") from exc
    if 24 + sum(sizes) != len(payload) or rows > len(payload):
        raise Malformed("a table that is cut off")
    columns = []
    at = 24
    for size in sizes[:count]:
        columns.append(payload[at : at + size])
        at += size
    return rows, columns


def _little(sizes: array[int]) -> bytes:
    return _native(sizes).tobytes()


def _native(sizes: array[int]) -> array[int]:
    import sys

    if sys.byteorder == "big":
        sizes = array("Q", sizes)
        sizes.byteswap()
    return sizes
