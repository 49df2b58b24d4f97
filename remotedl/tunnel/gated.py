"""The gate of a tunnel at work: each request is read, judged (gate.py), and passed on or answered.

A gated connection carries one request and its answer, or one websocket. Nothing here decides who
may come in.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from dataclasses import dataclass

from remotedl.ssh.remote import Stream
from remotedl.tunnel.entrance import (
    LONGEST_HEAD,
    PATIENCE_S,
    PROGRAM_S,
    Answered,
    Dial,
    Refusal,
    explained,
)
from remotedl.tunnel.gate import Answer, Door, Pass, closing, judge
from remotedl.tunnel.refusal import is_http, is_of_a_page

END = b"\r\n\r\n"
TOO_LONG = b"HTTP/1.1 431 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")


@dataclass(frozen=True, slots=True)
class GatedEntrance:
    """One target, for who holds its secret. An Entrance."""

    door: Door
    host: str

    def greet(self, client: socket.socket) -> GatedCaller:
        """Raises Answered, OSError."""
        head, rest = _read_head(client)
        verdict = judge(head, client.getsockname()[1], self.door)
        if isinstance(verdict, Answer):
            _answer(client, verdict.page)
            raise Answered(verdict.refused)
        return GatedCaller(client, verdict, rest, self.door.name, self.host)


@dataclass(frozen=True, slots=True)
class GatedCaller:
    """A client whose request may pass."""

    client: socket.socket
    passed: Pass
    rest: bytes
    """What came behind the head already."""
    name: str
    host: str

    @property
    def patience_s(self) -> float:
        return PROGRAM_S if is_of_a_page(self.passed.head) else 0.0

    def dial(self, link: Dial) -> Stream:
        stream = GatedStream(link(), self.passed.body)
        stream.begin(self.passed.head, self.rest)
        return stream

    def welcome(self) -> None:
        pass

    def refuse(self, refusal: Refusal) -> None:
        _answer(self.client, explained(self.name, self.host, refusal))

    def explanation(self, start: bytes, refusal: Refusal) -> bytes:
        return explained(self.name, self.host, refusal)


class GatedStream:
    """A stream of the host's that takes one request and no byte more."""

    def __init__(self, stream: Stream, body: int | None) -> None:
        """`body`: bytes of it; None: any number, and the answer is not ours to change."""
        self._stream = stream
        self._left = body
        self._head: bytearray | None = None if body is None else bytearray()
        """Of the answer, while it is not whole."""
        self._ready = b""

    def begin(self, head: bytes, rest: bytes) -> None:
        """Raises LinkLost."""
        self._stream.sendall(head + self._allowed(rest))

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        if allowed := self._allowed(bytes(data)):
            self._stream.sendall(allowed)

    def recv(self, size: int) -> bytes:
        while not self._ready:
            data = self._stream.recv(size)
            if self._head is None:
                return data
            self._take(data)
            if not data:
                break
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken

    def shutdown_write(self) -> None:
        self._stream.shutdown_write()

    def close(self) -> None:
        self._stream.close()

    def _allowed(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        allowed = data[: self._left]
        self._left -= len(allowed)
        return allowed

    def _take(self, data: bytes) -> None:
        """More of the answer's head. What is no HTTP, or has no end to its head, goes as it is."""
        assert self._head is not None
        self._head += data
        while END in self._head:
            head, self._head = bytes(self._head).partition(END)[0] + END, self._head
            status = STATUS.match(head)
            del self._head[: len(head)]
            interim = status is not None and status[1].startswith(b"1") and status[1] != b"101"
            self._ready += head if status is None or interim else closing(head)
            if not interim:
                self._release()
                return
        if not data or len(self._head) > LONGEST_HEAD:
            self._release()

    def _release(self) -> None:
        assert self._head is not None
        self._ready += bytes(self._head)
        self._head = None


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """A request's head, and what came behind it. Raises Answered, OSError.

    All of it is judged or none of it passes: what is too long is refused, and one that comes byte
    by byte has no more time than any other.
    """
    data, limit_s = b"", client.gettimeout()
    deadline = None if limit_s is None else time.monotonic() + limit_s
    while END not in data:
        if is_http(data) is False and data:
            return data, b""
        if len(data) > LONGEST_HEAD:
            _answer(client, TOO_LONG)
            raise Answered
        if deadline is not None:
            client.settimeout(max(deadline - time.monotonic(), 0.001))
        part = client.recv(16 * 1024)
        if not part:
            raise Answered  # a browser opens connections that it may need
        data += part
    head, _, rest = data.partition(END)
    return head + END, rest


def _answer(client: socket.socket, page: bytes) -> None:
    """And wait a moment for the rest of what it says: closing with unread bytes would reset it."""
    with contextlib.suppress(OSError):
        client.settimeout(PATIENCE_S)
        client.sendall(page)
        client.shutdown(socket.SHUT_WR)
        for _ in range(64):
            if not client.recv(LONGEST_HEAD):
                break
