"""An agent that lies, and a laptop that does: neither gets the other to leave its folder."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remotedl.errors import LinkLost, ProtocolError
from remotedl.sync.agent import protocol
from remotedl.sync.agent.listing import Around, Listing, Version, pack_listing
from remotedl.sync.agent.protocol import Content, Parser, Type, frame
from remotedl.sync.agent.transfer import Basis, Wanted, pack_get
from remotedl.sync.agent.tree import DIR, Change, Entry, Kind
from tests.lab_tests.sync.folders import Folders, ThreadProcess, tree

FILE = Entry(Kind.FILE, bytes(32), 4)
HELLO = {
    "version": protocol.VERSION, "root": "/x", "marker": "m", "boot": "", "created": True,
}  # fmt: skip
ESCAPES = ["../escape", "/tmp/escape", "a/../../escape", "./a", "a//b", "a/", "", "..", "a\0b"]

Answer = Callable[["Liar", protocol.Frame], None]


class Liar:
    """An agent that answers as a test wants it to."""

    name = "host"
    user = "user"

    def __init__(self, answers: dict[Type, Answer]) -> None:
        self.answers = answers
        self._ours, self._theirs = socket.socketpair()

    def start(self, argv: object, **_: Any) -> Liar:
        import threading

        threading.Thread(target=self._run, daemon=True).start()
        return self

    def say(self, kind: Type, stream: int, payload: bytes) -> None:
        self._theirs.sendall(frame(kind, stream, payload))

    def _run(self) -> None:
        self._theirs.sendall(protocol.MAGIC)
        parser = Parser()
        while data := self._theirs.recv(1 << 16):
            for got in parser.feed(data):
                if got.type is Type.HELLO and Type.HELLO not in self.answers:
                    self.say(Type.HELLO, 0, protocol.pack_json(HELLO))
                elif got.type in self.answers:
                    self.answers[got.type](self, got)
                elif got.type is Type.BYE:
                    self._theirs.close()
                    return
                elif got.type is Type.OPS:
                    self.say(Type.ACK, got.stream, b"{}")

    recv = property(lambda self: self._ours.recv)
    sendall = property(lambda self: self._ours.sendall)

    def recv_stderr(self, size: int) -> bytes:
        return b""

    def wait(self, timeout_s: float | None = None) -> int:
        return 0

    def shutdown_write(self) -> None: ...

    def close(self) -> None:
        try:
            self._ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def tell(rows: list[tuple[str, Entry | None]], **more: Any) -> Answer:
    """Answer SNAP with these rows, unchecked."""
    around = Around(more.get("issues", {}), more.get("spelling", {}), frozenset())

    def answer(liar: Liar, got: protocol.Frame) -> None:
        listing = Listing(Version("e", 1), True, True, rows, around, "m")
        liar.say(Type.SNAP, got.stream, pack_listing(listing))

    return answer


@pytest.mark.parametrize("path", [path for path in ESCAPES if "\0" not in path])
def test_a_path_that_leads_out_ends_the_session(folders: Folders, path: str) -> None:
    folders.remote = Liar({Type.SNAP: tell([("a", DIR), (path, FILE)])})
    with pytest.raises(ProtocolError, match="nonsense"):
        folders.open()
    assert tree(folders.laptop) == {}


@pytest.mark.parametrize(
    "answer",
    [
        tell([("a", FILE)], spelling={"a": "../b"}),
        tell([("a", FILE)], spelling={"a": "b"}),
        tell([("e\u0301", FILE)]),
        tell([("a", FILE._replace(size=1 << 63))]),
        tell([("a", Entry(Kind.LINK, target=""))]),
        lambda liar, got: liar.say(Type.SNAP, got.stream, b"nonsense"),
        lambda liar, got: liar.say(Type.SNAP, got.stream, struct.pack(">I", 1 << 30)),
        lambda liar, got: liar._theirs.sendall(struct.pack(">IBI", 1 << 31, 2, 1)),
        lambda liar, got: liar._theirs.sendall(struct.pack(">IBI", 0, 99, 1)),
        lambda liar, got: liar.say(Type.DATA, 2, b"never announced"),
        lambda liar, got: liar.say(Type.COPY, 2, b"x" * 20),
        lambda liar, got: liar.say(Type.PUT, 2, b"x"),
        lambda liar, got: liar.say(Type.CREDIT, 0, b"x"),
        lambda liar, got: liar.say(Type.ACK, 0, b"[]"),
        lambda liar, got: liar.say(Type.HELLO, 0, b"\xff"),
        lambda liar, got: liar.say(Type.COMMIT, 0, b""),
    ],
)
def test_nonsense_ends_the_session(folders: Folders, answer: Answer) -> None:
    folders.remote = Liar({Type.SNAP: answer})
    with pytest.raises((ProtocolError, LinkLost)):
        folders.open()
    assert tree(folders.laptop) == {}


def test_content_that_is_not_what_was_promised_is_not_put_in_place(folders: Folders) -> None:
    def send_other(liar: Liar, got: protocol.Frame) -> None:
        liar.say(Type.PUT, 2, protocol.pack_contents([Content(bytes(32), 4)]))
        liar.say(Type.DATA, 2, b"evil")
        liar.say(Type.ACK, got.stream, b'{"failed":{}}')

    folders.remote = Liar({Type.SNAP: tell([("a", FILE)]), Type.GET: send_other})
    sync = folders.open()
    outcome = sync.cycle(scan=False)
    assert outcome.pending == 1
    assert tree(folders.laptop) == {}


def test_a_lie_about_what_was_done_costs_nothing(folders: Folders) -> None:
    """The agent claims success and does nothing: its own listing shows it later."""
    (folders.laptop / "a").write_text("one")

    def claim(liar: Liar, got: protocol.Frame) -> None:
        liar.say(Type.ACK, got.stream, b'{"outcomes":[["done",""]],"version":["e",2]}')

    folders.remote = Liar({Type.SNAP: tell([]), Type.COMMIT: claim})
    folders.open().cycle(scan=False)
    folders.close()
    assert (folders.laptop / "a").read_text() == "one"


def test_too_many_answers_end_the_session(folders: Folders) -> None:
    (folders.laptop / "a").write_text("one")

    def claim(liar: Liar, got: protocol.Frame) -> None:
        liar.say(Type.ACK, got.stream, b'{"outcomes":[["done",""],["done",""]]}')

    folders.remote = Liar({Type.SNAP: tell([]), Type.COMMIT: claim})
    sync = folders.open()
    with pytest.raises(ProtocolError):
        sync.cycle(scan=False)


class LyingLaptop:
    """Speaks the protocol to a real agent, badly."""

    def __init__(self, root: Path) -> None:
        self.process = ThreadProcess(None)
        self.parser = Parser(skip_noise=True)
        hello = {
            "root": str(root), "create": True, "holder": {"id": "x"}, "rules": [], "watch": False,
        }  # fmt: skip
        self.say(Type.HELLO, 0, protocol.pack_json(hello))
        assert self.hear(Type.HELLO) is not None

    def say(self, kind: Type, stream: int, payload: bytes) -> None:
        self.process.sendall(frame(kind, stream, payload))

    def hear(self, *kinds: Type) -> protocol.Frame | None:
        while data := self.process.recv(1 << 16):
            for got in self.parser.feed(data):
                if got.type in kinds:
                    return got
        return None


@pytest.mark.parametrize("path", ESCAPES)
def test_the_agent_refuses_paths_that_lead_out(folders: Folders, path: str) -> None:
    outside = folders.base / "escape"
    laptop = LyingLaptop(folders.host)
    changes = [Change(path, None, DIR)]
    laptop.say(Type.COMMIT, 1, protocol.pack_commit("s", [""], changes))
    answer = laptop.hear(Type.ACK)
    assert answer is None or b"malformed" in answer.payload
    assert not outside.exists()
    assert tree(folders.host) == {}
    laptop.process.close()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Type.OPS, b'{"op":"marker","marker":"../../x"}'),
        (Type.OPS, b'{"op":"unknown"}'),
        (Type.OPS, b"{}"),
        (Type.FLUSH, b'{"cookie":"../x"}'),
        (Type.GET, pack_get([Wanted("../x", FILE)])),
        (Type.GET, pack_get([Wanted("x", FILE, basis=Basis("../x", bytes(32)))])),
        (Type.GET, pack_get([Wanted("x", FILE, start=5)])),
        (Type.PUT, b"x"),
        (Type.DATA, b"x"),
        (Type.COMMIT, b"\0\0\0\x02{}"),
        (Type.SNAP, b"[]"),
        (Type.HELLO, b"{}"),
    ],
)
def test_nonsense_ends_the_agent(folders: Folders, kind: Type, payload: bytes) -> None:
    laptop = LyingLaptop(folders.host)
    laptop.say(kind, 3, payload)
    answer = laptop.hear(Type.ACK)
    assert answer is None or b"error" in answer.payload
    laptop.process.close()
    assert tree(folders.host) == {}
    assert sorted(os.listdir(folders.base)) == ["host", "laptop"]


def test_get_does_not_follow_links_out(folders: Folders) -> None:
    secret = folders.base / "secret"
    secret.write_text("SECRET")
    (folders.host / "link").symlink_to(secret)
    (folders.host / "dir").symlink_to(folders.base)
    laptop = LyingLaptop(folders.host)
    for stream, path in ((1, "link"), (3, "dir/secret")):
        wanted = pack_get([Wanted(path, FILE._replace(size=6))])
        laptop.say(Type.GET, stream, wanted)
        answer = laptop.hear(Type.ACK, Type.DATA, Type.PUT)
        assert answer is not None
        assert answer.type is Type.ACK
        assert b"SECRET" not in answer.payload
    laptop.process.close()
