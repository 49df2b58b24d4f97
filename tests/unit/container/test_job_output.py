"""A job's output is bounded on the host's disk: its beginning and its end are kept, in order."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotedl.container.payload import job as program

LIMIT = 4000
ALLOWED = 1.3
"""A part is closed after the write that fills it, and its index counts too."""


def kept(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("output.*"))


def frames(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while data:
        kind, length = program.FRAME.unpack_from(data)
        found.append((kind, data[program.FRAME.size :][:length]))
        data = data[program.FRAME.size + length :]
    return found


class Seen:
    """What came over, put where the frames say that it belongs."""

    def __init__(self, offset: int = 0) -> None:
        self.at = offset
        self.pieces: list[tuple[int, bytes]] = []
        self.gaps = 0

    def take(self, data: bytes) -> None:
        for kind, body in frames(data):
            if kind == b"g":
                size = int(json.loads(body)["bytes"])
                self.gaps += size
                self.at += size
            else:
                self.pieces.append((self.at, body))
                self.at += len(body)


def read_all(folder: Path, offset: int = 0) -> Seen:
    reader, out, seen = program.Reader(str(folder), offset), io.BytesIO(), Seen(offset)
    while reader.forward(out):
        pass
    seen.take(out.getvalue())
    return seen


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=120), late=st.integers(0, 30_000))
@settings(deadline=None, max_examples=60)
def test_every_byte_that_comes_is_where_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], late: int
) -> None:
    folder = tmp_path_factory.mktemp("job")
    output, sent = program.Output(str(folder), LIMIT), bytearray()
    reader, live, seen = program.Reader(str(folder), 0), io.BytesIO(), Seen()
    for number, size in enumerate(sizes):
        data = bytes((number + step) % 251 for step in range(size))
        output.write(1 + number % 2, data)
        sent += data
        if number % 3 == 0:
            reader.forward(live)
    while reader.forward(live):
        pass
    seen.take(live.getvalue())
    for found in (seen, read_all(folder), read_all(folder, min(late, len(sent)))):
        assert found.at == len(sent), "the end always comes"
        assert all(sent[at : at + len(body)] == body for at, body in found.pieces)
    assert kept(folder) <= LIMIT * ALLOWED
    assert read_all(folder).gaps == output.left_out == program.gap(str(folder))


def test_what_is_within_the_limit_is_all_there(tmp_path: Path) -> None:
    output = program.Output(str(tmp_path), LIMIT)
    for number in range(100):
        output.write(1, f"{number}\n".encode())
    assert output.left_out == 0
    assert b"".join(body for _, body in read_all(tmp_path).pieces) == b"".join(
        f"{number}\n".encode() for number in range(100)
    )


@pytest.mark.parametrize("count", [0, 1, 7, 30])
def test_the_last_lines_across_parts(tmp_path: Path, count: int) -> None:
    output = program.Output(str(tmp_path), LIMIT)
    for number in range(2000):
        output.write(1, f"line {number:04d}\n".encode())
    assert output.left_out > 0
    offset = program.tail_offset(str(tmp_path), count)
    found = b"".join(body for _, body in read_all(tmp_path, offset).pieces)
    assert found.decode().split() == [
        word for number in range(2000 - count, 2000) for word in ("line", f"{number:04d}")
    ]


def test_a_reader_that_is_too_slow_is_told_what_it_missed(tmp_path: Path) -> None:
    output = program.Output(str(tmp_path), LIMIT)
    output.write(1, b"first\n")
    reader, out = program.Reader(str(tmp_path), 0), io.BytesIO()
    assert reader.forward(out)
    for _ in range(5000):
        output.write(2, b"0123456789\n")
    while reader.forward(out):
        pass
    seen = Seen()
    seen.take(out.getvalue())
    assert seen.gaps == output.left_out > 40_000
    assert seen.at == output.written
