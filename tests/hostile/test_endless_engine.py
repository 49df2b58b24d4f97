"""Whatever is in the engine's place answers without end: each answer has one."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator

import pytest

from remotedl.engine import client, images, wire
from remotedl.engine.engine import Engine
from remotedl.engine.images import STANDSTILL_S, _moving
from remotedl.engine.types import LayerProgress
from remotedl.errors import EngineError
from tests.hostile.test_endless import Memory

pytestmark = pytest.mark.timeout(60)
VERSION = json.dumps({"ApiVersion": "1.45", "MinAPIVersion": "1.24"}).encode()
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
BLOCK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


class Liar:
    """A stream that answers /version as an engine does, and then says `more`."""

    def __init__(self, more: Callable[[], Iterator[bytes]]) -> None:
        self._more = more
        self._said: Iterator[bytes] = iter(())
        self._asked = b""

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        self._asked += bytes(data)
        if b"\r\n\r\n" not in self._asked:
            return
        path = self._asked.split(b" ")[1]
        self._asked = b""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(VERSION)
        self._said = iter([head + VERSION]) if path.endswith(b"/version") else self._more()

    def recv(self, size: int) -> bytes:
        deadline = time.monotonic() + 30
        while (said := next(self._said, None)) is None:
            if time.monotonic() > deadline:
                return b""
            time.sleep(0.005)
        return said

    def shutdown_write(self) -> None: ...

    def close(self) -> None:
        self._more = lambda: iter(())
        self._said = itertools.repeat(b"")


def engine(more: Callable[[], Iterator[bytes]]) -> Engine:
    return Engine(lambda: Liar(more), timeout_s=5)


ANSWERS = {
    "a body": lambda: itertools.chain([CHUNKED], itertools.repeat(BLOCK)),
    "headers": lambda: itertools.chain(
        [b"HTTP/1.1 200 OK\r\n"], (b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in itertools.count())
    ),
    "a header": lambda: itertools.chain(
        [b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"x" * 65536)
    ),
    "100 Continue": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_without_end(answer: Callable[[], Iterator[bytes]]) -> None:
    began = time.monotonic()
    with Memory(), pytest.raises(EngineError):
        engine(answer).containers.changes("c")
    assert time.monotonic() - began < 20


def test_an_answer_that_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    def trickle() -> Iterator[bytes]:
        yield CHUNKED
        while True:
            time.sleep(0.05)
            yield b"1\r\nx\r\n"

    monkeypatch.setattr(wire, "BODY_LIMITS", 0.2)
    with pytest.raises(EngineError, match="answers without end"):
        engine(trickle).containers.changes("c")


def test_a_line_of_a_pull_without_end() -> None:
    assert client.LONGEST_LINE < 10e6
    with Memory(), pytest.raises(EngineError, match="answers without end"):
        list(engine(ANSWERS["a body"]).images.pull("x:1"))


def test_a_pull_of_endless_layers() -> None:
    def layers() -> Iterator[bytes]:
        yield CHUNKED
        for number in itertools.count():
            line = json.dumps({"id": f"{number}", "status": "Waiting"}).encode() + b"\n"
            yield b"%x\r\n%s\r\n" % (len(line), line)

    said = re.escape(f"more than {images.MOST_LAYERS} layers")
    with Memory(), pytest.raises(EngineError, match=said):
        list(engine(layers).images.pull("x:1"))


def test_a_pull_without_bytes() -> None:
    """The same line again and again: alive, and nothing moves."""
    clock = itertools.count(0, STANDSTILL_S / 3)
    same = itertools.repeat(LayerProgress("a", "Downloading", 5, 10, "B"))
    with pytest.raises(EngineError, match="nothing has come for 10 minutes"):
        list(_moving(same, "x:1", lambda: next(clock)))


def test_a_pull_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> Iterator[bytes]:
        yield CHUNKED
        time.sleep(5)

    monkeypatch.setattr(images, "STANDSTILL_S", 0.3)
    with pytest.raises(EngineError, match="does not answer"):
        list(engine(silent).images.pull("x:1"))
