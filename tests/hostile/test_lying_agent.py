"""An agent that lies: it sends without end, before it is asked, or what nobody asked for.

Each ends in a named error, with less than 200 MB of memory, and puts nothing on the laptop's disk.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remotedl.errors import LinkLost, ProtocolError, RemotedlError
from remotedl.sync.agent import protocol
from remotedl.sync.agent.listing import Around, Listing, Version, pack_listing
from remotedl.sync.agent.protocol import Content, Parser, Type, pack_json
from remotedl.sync.agent.tree import DIR, Change, Entry, Issue, Kind
from tests.hostile.test_endless import MOST_MEMORY, Memory
from tests.lab_tests.sync.folders import Folders, ThreadProcess, tree
from tests.lab_tests.sync.test_liar import HELLO, Liar

FUZZ_S = float(os.environ.get("REMOTEDL_FUZZ_S", "4"))
"""`make soak` asks for ten minutes."""
pytestmark = pytest.mark.timeout(120 + 2 * FUZZ_S)
SEED = int(os.environ.get("REMOTEDL_FUZZ_SEED", str(random.randrange(1 << 32))))

Said = Iterator[tuple[Type, int, bytes]]


class Endless(Liar):
    """Says `before` as soon as it runs, and `after` once it was asked for a listing, for ever."""

    def __init__(self, before: Said, after: Callable[[int], Said]) -> None:
        super().__init__({})
        self._before, self._after = before, after

    def start(self, argv: object, **_: Any) -> Endless:
        threading.Thread(target=self._talk, daemon=True).start()
        return self

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        """It did not start, so it is uploaded."""

    def _talk(self) -> None:
        try:
            self._theirs.sendall(protocol.MAGIC)
            for said in self._before:
                self.say(*said)
            parser = Parser()
            while data := self._theirs.recv(1 << 16):
                for got in parser.feed(data):
                    if got.type is Type.SNAP:
                        for said in self._after(got.stream):
                            self.say(*said)
        except OSError:
            pass  # the laptop hung up

    def close(self) -> None:
        super().close()
        try:
            self._theirs.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def rows(number: int) -> list[tuple[str, Entry | None]]:
    return [(f"{number:09d}-{'x' * 200}-{at}", DIR) for at in range(4096)]


def listing(number: int, *, last: bool = False) -> bytes:
    return pack_listing(Listing(Version("e", number), False, last, rows(number), None, "m"))


def hello() -> Said:
    yield Type.HELLO, 0, pack_json(HELLO)


def silent(_: int) -> Said:
    return iter(())


def dirty_at_once() -> Said:
    return ((Type.DIRTY, 0, listing(n)) for n in itertools.count())


def endless_snap(stream: int) -> Said:
    return ((Type.SNAP, stream, listing(n)) for n in itertools.count())


def endless_dirty(stream: int) -> Said:
    yield Type.SNAP, stream, pack_listing(Listing(Version("e", 1), True, True, [], None, "m"))
    yield from ((Type.DIRTY, 0, listing(n, last=True)) for n in itertools.count())


def endless_more(kind: Type) -> Callable[[int], Said]:
    return lambda stream: itertools.repeat((Type.MORE, stream, bytes([kind]) + bytes(1 << 20)))


def unasked_contents(stream: int) -> Said:
    for n in itertools.count():
        digest = n.to_bytes(32, "big")
        yield Type.PUT, 2 * n + 2, protocol.pack_contents([Content(digest, 1 << 20)])
        yield Type.DATA, 2 * n + 2, bytes(1 << 20)


def unannounced_data(stream: int) -> Said:
    return itertools.repeat((Type.DATA, 2, bytes(1 << 20)))


def endless_answers(stream: int) -> Said:
    return itertools.repeat((Type.ACK, 7, pack_json({"x": "y" * (1 << 20)})))


def endless_hello(stream: int) -> Said:
    return itertools.repeat((Type.HELLO, 0, pack_json({**HELLO, "x": "y" * (1 << 20)})))


def endless_issues(stream: int) -> Said:
    for n in itertools.count():
        issues = dict.fromkeys((f"{n}-{at}" for at in range(20_000)), Issue.UNSTABLE)
        told = Listing(Version("e", n), False, False, [], Around(issues, {}, frozenset()), "m")
        yield Type.SNAP, stream, pack_listing(told)


ATTACKS: dict[str, tuple[Callable[[], Said], Callable[[int], Said]]] = {
    "changes before it introduces itself": (dirty_at_once, silent),
    "a listing without end": (hello, endless_snap),
    "changes without end": (hello, endless_dirty),
    "an answer without end": (hello, endless_more(Type.ACK)),
    "one part of a listing without end": (hello, endless_more(Type.SNAP)),
    "contents that nobody asked for": (hello, unasked_contents),
    "data that nobody announced": (hello, unannounced_data),
    "it introduces itself without end": (hello, endless_hello),
    "troubles without end": (hello, endless_issues),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_has_no_end_ends_in_a_named_error(folders: Folders, attack: str) -> None:
    before, after = ATTACKS[attack]
    folders.remote = Endless(before(), after)
    began = time.monotonic()
    with Memory() as memory, pytest.raises((ProtocolError, LinkLost)) as ended:
        sync = folders.open()
        while time.monotonic() - began < 60:
            sync.cycle(scan=False)
    assert "the agent on host" in ended.value.message
    assert memory.peak - memory._before < MOST_MEMORY
    assert tree(folders.laptop) == {}
    taken = sum(path.stat().st_size for path in folders.laptop.rglob("*") if path.is_file())
    assert taken < 1 << 20, "nothing of it is kept on the disk"


# --- every frame, by its grammar, with something wrong in it


class Grammar:
    """Frames as they are, and nearly so. Equal seeds, equal frames."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def frame(self, stream: int) -> tuple[Type | int, int, bytes]:
        kind = self.random.choice([*Type, *Type, self.random.randrange(256)])
        payload = self._payload(kind)
        for _ in range(self.random.choice([0, 0, 1, 3])):
            payload = self._damaged(payload)
        return kind, self.random.choice([stream, stream, 0, 2, 3, self._number(32)]), payload

    def _payload(self, kind: int) -> bytes:
        one = self.random
        if kind in (Type.SNAP, Type.DIRTY):
            return one.choice([self._listing, lambda: pack_json(self._json(0))])()
        if kind == Type.COMMIT:
            return protocol.pack_commit(self._name(), [self._name()], [self._change()])
        if kind == Type.PUT:
            size = self._number(20)
            return protocol.pack_contents([Content(one.randbytes(32), size, 0)])
        if kind in (Type.DATA, Type.COPY, Type.PREPARE):
            return one.randbytes(one.randrange(300))
        if kind == Type.DEFLATED:
            return protocol.deflate(bytes(one.choice([10, 1 << 22])), 1)
        if kind in (Type.CREDIT, Type.PING, Type.LOOKING):
            return one.choice([b"\0", b"\1"]) * one.choice([0, 1, 8]) + struct.pack(
                ">d", one.choice([0.0, -1.0, float("nan"), float("inf"), 1e300])
            )
        if kind == Type.MORE:
            return bytes([one.choice(list(Type))]) + one.randbytes(40)
        return pack_json(one.choice([self._request, self._answer, lambda: self._json(0)])())

    def _listing(self) -> bytes:
        names = [(self._path(), self._entry()) for _ in range(self.random.randrange(5))]
        around = self.random.choice([None, Around({}, {self._path(): self._path()}, frozenset())])
        version = Version(self._name(), self._number(70))
        yes = self.random.random() < 0.5
        return pack_listing(Listing(version, yes, not yes, names, around, self._name()))

    def _request(self) -> Any:
        ops = ["marker", "digests", "rules", "offsets", "trash", "undo", "probe", "prune", "sync"]
        return {
            "op": self.random.choice([*ops, "?"]),
            "marker": self._path(),
            "data": "0",
            "keys": self._json(0),
            "rules": self._json(0),
            "contents": self._json(0),
            "step": self._path(),
            "new_step": self._name(),
            "paths": [self._path()],
            "made": self._json(0),
            "days": self._json(2),
            "size": self._json(2),
            "cookie": self._path(),
            "since": self._json(1),
            "scan": True,
        }

    def _answer(self) -> Any:
        return {
            self.random.choice(["failed", "outcomes", "lines", "offsets", "error", "freed"]): (
                self._json(0)
            )
        }

    def _json(self, depth: int) -> Any:
        one = self.random
        plain = [None, True, -1, 10**30, 1e308, "", self._path(), "\ud800", {}, []]
        if depth > 2 or one.random() < 0.5:
            return one.choice(plain)
        if one.random() < 0.5:
            return [self._json(depth + 1) for _ in range(one.randrange(3))]
        return {self._name(): self._json(depth + 1)}

    def _change(self) -> Change:
        return Change(self._path(), self._entry(), self._entry())

    def _entry(self) -> Entry | None:
        size = self._number(64)
        return self.random.choice(
            [None, DIR, Entry(Kind.FILE, bytes(32), size), Entry(Kind.LINK, target="../../x")]
        )

    def _path(self) -> str:
        return self.random.choice(
            [
                "a",
                "d/a",
                "../x",
                "/etc/passwd",
                "d/../../x",
                ".remotedl/marker",
                "\udcff",
                "x" * 300,
            ]
        )

    def _name(self) -> str:
        return self.random.choice(["s", "a-1", "", "../s", "é", "\n"])

    def _number(self, bits: int) -> int:
        return self.random.choice([0, 1, (1 << bits) - 1]) & ((1 << 64) - 1)

    def _damaged(self, payload: bytes) -> bytes:
        at = self.random.randrange(len(payload) + 1)
        return self.random.choice(
            [
                payload[:at],
                payload[:at] + self.random.randbytes(4) + payload[at + 4 :],
                payload[:at] + payload[: at // 2] + payload[at:],
            ]
        )


def raw(kind: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload), kind, stream & 0xFFFFFFFF) + payload


class Fuzzing(Liar):
    """An agent that begins well, and then says nearly what an agent says."""

    def __init__(self, grammar: Grammar) -> None:
        super().__init__({})
        self.grammar = grammar

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None: ...

    def _run(self) -> None:
        one = self.grammar.random
        threading.Timer(0.3, self._hang_up).start()  # who says nothing more is the link's matter
        try:
            self._theirs.sendall(protocol.MAGIC)
            if one.random() < 0.9:
                self.say(Type.HELLO, 0, pack_json(HELLO))
            parser = Parser()
            while data := self._theirs.recv(1 << 16):
                for got in parser.feed(data):
                    if got.type is Type.SNAP and one.random() < 0.8:
                        told = Listing(Version("e", 1), True, True, [("a", DIR)], None, "m")
                        self.say(Type.SNAP, got.stream, pack_listing(told))
                    for _ in range(one.randrange(4)):
                        self._theirs.sendall(raw(*self.grammar.frame(got.stream)))
        except OSError:
            pass

    def _hang_up(self) -> None:
        try:
            self._theirs.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the laptop was faster


def test_no_frame_of_an_agent_does_more_than_end_the_session(
    make_folders: Callable[..., Folders], monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_value))
    until, seed = time.monotonic() + FUZZ_S, SEED
    with Memory():
        while time.monotonic() < until:
            folders = make_folders(remote=Fuzzing(Grammar(seed)))
            (folders.laptop / "mine").write_text("mine")
            try:
                sync = folders.open()
                sync.cycle()
                sync.close()
            except RemotedlError as exc:
                assert exc.message, seed
            except BaseException as exc:
                raise AssertionError(f"REMOTEDL_FUZZ_SEED={seed}") from exc
            folders.close()
            assert (folders.laptop / "mine").read_text() == "mine", seed
            assert set(os.listdir(folders.base)) <= {"laptop", "host", "state"}, seed
            assert not died, f"REMOTEDL_FUZZ_SEED={seed}: {died}"
            seed += 1


def test_no_frame_of_a_laptop_does_more_than_end_the_agent(
    make_folders: Callable[..., Folders],
) -> None:
    until, seed = time.monotonic() + FUZZ_S, SEED
    with Memory():
        while time.monotonic() < until:
            grammar, folders = Grammar(seed), make_folders()
            process = ThreadProcess(None)
            said = {
                "root": str(folders.host), "create": True, "holder": {"id": "x"}, "rules": [],
                "watch": False,
            }  # fmt: skip
            answers = bytearray()

            def listen(process: ThreadProcess = process, answers: bytearray = answers) -> None:
                try:
                    while data := process.recv(1 << 16):
                        answers.extend(data)
                except RemotedlError:
                    pass

            listener = threading.Thread(target=listen)
            listener.start()
            try:
                process.sendall(raw(Type.HELLO, 0, pack_json(said)))
                for stream in range(1, 40, 2):
                    process.sendall(raw(*grammar.frame(stream)))
            except LinkLost:
                pass
            process.shutdown_write()
            process.thread.join(20)
            assert not process.thread.is_alive(), f"REMOTEDL_FUZZ_SEED={seed}"
            process.close()
            listener.join(10)
            assert b"Traceback" not in answers, f"REMOTEDL_FUZZ_SEED={seed} {answers[-1500:]!r}"
            assert set(os.listdir(folders.base)) <= {"laptop", "host", "state"}, seed
            assert not any(Path(folders.host).glob("x*/../../x")), seed
            seed += 1
