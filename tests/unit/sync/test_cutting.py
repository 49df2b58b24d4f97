"""Whatever is in an answer is cut by its bytes: no table, history or listing is too long."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotedl.sync.agent import protocol
from remotedl.sync.agent.listing import Around, Listing, Version, pack_listing, unpack_listing
from remotedl.sync.agent.protocol import FRAME_LIMIT, PART, Malformed, Parser, Type, cut, parts
from remotedl.sync.agent.tree import DIR, Entry, Issue, Kind
from remotedl.sync.agent.wire import Wire

FILE = Entry(Kind.FILE, bytes(32), 5)
NAMES = st.sampled_from(["a", "e\u0301", "\udcff", "深", "🙂", "x/y"])
TABLES = st.builds(
    lambda name, times, rows, extra: (name * times, rows, extra),
    NAMES,
    st.integers(1, 600),
    st.integers(0, 300),
    st.sampled_from(["rows", "links", "issues", "spelling", "holding", "twins"]),
)


def listing(stem: str, rows: int, extra: str) -> Listing:
    """A listing that is long in one of its parts."""
    keys = [f"{stem}/{number}" for number in range(rows)]
    entry = Entry(Kind.LINK, target=stem) if extra == "links" else FILE
    around = Around(
        dict.fromkeys(keys, Issue.UNREADABLE) if extra == "issues" else {},
        dict.fromkeys(keys, stem) if extra == "spelling" else {},
        frozenset(keys) if extra == "holding" else frozenset(),
        {key: (key, stem) for key in keys} if extra == "twins" else {},
    )
    told = [(key, entry) for key in keys] if extra in ("rows", "links") else [("d", DIR)]
    return Listing(Version("e", 1), True, True, told, around, "m")


def through_a_wire(messages: list[tuple[Type, int, bytes]], chunk: int) -> list[protocol.Frame]:
    """What comes out at the other end, in pieces of `chunk` bytes."""
    sent = bytearray()
    wire = Wire(sent.extend, lambda _: None)
    for kind, stream, payload in messages:
        wire.control(kind, stream, payload)
        wire.in_order(kind, stream + 1, payload)
    assert wire.drain(10)
    wire.close()
    parser = Parser()
    found = []
    for start in range(0, len(sent), chunk):
        found += list(parser.feed(bytes(sent[start : start + chunk])))
    return found


@settings(max_examples=40, deadline=None)
@given(tables=st.lists(TABLES, min_size=1, max_size=3), chunk=st.integers(1 << 9, 1 << 16))
def test_tables_of_every_shape_come_out_as_they_went_in(
    tables: list[tuple[str, int, str]], chunk: int
) -> None:
    """With limits of a thousandth: what is over the limit is small enough to be tried often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "PART", 1 << 10)
        patch.setattr(protocol, "FRAME_LIMIT", 1 << 12)
        told = [listing(*table) for table in tables]
        packed = [(Type.SNAP, 2 * number, pack_listing(one)) for number, one in enumerate(told)]
        frames = through_a_wire(packed, chunk)
    assert len(frames) == 2 * len(told)
    by_stream = {frame.stream: frame for frame in frames}
    for number, one in enumerate(told):
        for stream in (2 * number, 2 * number + 1):
            assert by_stream[stream].type is Type.SNAP
            assert unpack_listing(by_stream[stream].payload) == one


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, FRAME_LIMIT + 1])
def test_no_frame_is_longer_than_may_be(size: int) -> None:
    payload = bytes(size)
    pieces = cut(Type.ACK, 7, payload)
    assert all(len(piece) <= PART + 1 for _, piece in pieces)
    parser = Parser()
    frames = [frame for head, piece in pieces for frame in parser.feed(head + piece)]
    assert [(frame.type, frame.stream, frame.payload) for frame in frames] == [
        (Type.ACK, 7, payload)
    ]


def test_rows_are_cut_by_their_bytes() -> None:
    long = [("n" * 600 + str(number), FILE) for number in range(20_000)]
    pieces = list(parts(long))
    assert [row for piece in pieces for row in piece] == long
    assert all(sum(len(path) for path, _ in piece) <= PART for piece in pieces)
    assert len(list(parts([("n" * (2 * PART), FILE)]))) == 1
    assert list(parts([])) == [[]]


def test_messages_of_several_threads_do_not_mix() -> None:
    sent = bytearray()
    wire = Wire(sent.extend, lambda _: None)
    payloads = {stream: bytes([stream]) * (3 * PART) for stream in range(4)}

    def send(stream: int) -> None:
        (wire.control if stream % 2 else wire.in_order)(Type.ACK, stream, payloads[stream])

    threads = [threading.Thread(target=send, args=(stream,)) for stream in payloads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wire.drain(10)
    wire.close()
    assert {f.stream: f.payload for f in Parser().feed(bytes(sent))} == payloads


def test_a_message_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MESSAGE_LIMIT", 3 * PART)
    parser = Parser()
    piece = protocol.frame(Type.MORE, 1, bytes([Type.ACK]) + bytes(PART))
    with pytest.raises(Malformed):
        for _ in range(10):
            list(parser.feed(piece))
    with pytest.raises(Malformed):
        list(Parser().feed(protocol.frame(Type.MORE, 1)))
