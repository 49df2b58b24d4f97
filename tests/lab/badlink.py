"""A bad link: a TCP proxy with delay, limited bandwidth, freezes and cuts, each on command.

tc's netem is not in every kernel, so the link is spoiled one layer up. What that cannot show:
lost packets, and a connect that times out while frozen (the kernel accepts it; then silence).
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import pytest

from tests.lab.login import Login

CHUNK = 64 * 1024
LEAST_BUFFER = 256 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Way = Literal["up", "down"]
MakeBadLink = Callable[..., "BadLink"]


class Reachable(Protocol):
    """Anything with an address, a port and a login: Sshd, a lab host."""

    @property
    def login(self) -> Login: ...


class BadLink:
    """A listening port on 127.0.0.1 that leads to `target`, as well as it is told to."""

    def __init__(
        self, target: tuple[str, int], *, delay_s: float = 0.0, bandwidth: float | None = None
    ) -> None:
        """`delay_s`: one way, seconds. `bandwidth`: bytes a second, each way; None: unlimited."""
        self.target = target
        """May be set anew: later connections go there (the host has a new address)."""
        self.delay_s = delay_s
        self.bandwidth = bandwidth
        self.address = "127.0.0.1"
        self.bytes_up = 0
        """Bytes handed to the host since the start."""
        self.bytes_down = 0
        self.connections = 0
        """Connections accepted since the start."""
        self.lock = threading.Condition()
        self.frozen: set[Way] = set()
        self._open: set[_Connection] = set()
        self._closed = False
        self._socket = self._bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._listen()

    @property
    def open_connections(self) -> int:
        with self.lock:
            return len(self._open)

    def freeze(self, *ways: Way) -> None:
        """Half-open: nothing moves (one way or both), and neither side is told."""
        with self.lock:
            self.frozen |= set(ways or ("up", "down"))
            self.lock.notify_all()

    def reset(self) -> None:
        """Every open connection is reset; new ones are let through."""
        with self.lock:
            connections = list(self._open)
        for connection in connections:
            connection.reset()

    def cut(self) -> None:
        """Every open connection is reset and new ones are refused, until `resume`."""
        self._unlisten()
        self._socket = self._bound(self.port)  # bound, not listening: the port stays ours
        self.reset()

    def resume(self) -> None:
        """All is well again: what was frozen flows on, new connections are let through."""
        with self.lock:
            self.frozen.clear()
            self.lock.notify_all()
        self._unlisten()
        self._socket = self._bound(self.port)
        self._listen()

    def close(self) -> None:
        self._closed = True
        self._unlisten()
        self.reset()
        with self.lock:
            self.frozen.clear()
            self.lock.notify_all()

    def count(self, way: Way, size: int) -> None:
        with self.lock:
            if way == "up":
                self.bytes_up += size
            else:
                self.bytes_down += size

    def forget(self, connection: _Connection) -> None:
        with self.lock:
            self._open.discard(connection)

    def _bound(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, port))
        return listener

    def _listen(self) -> None:
        self._socket.listen(64)
        threading.Thread(
            target=self._accept, args=(self._socket,), name="bad-link-accept", daemon=True
        ).start()

    def _unlisten(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept
        except OSError:
            pass
        self._socket.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self.target, timeout=10)
            far.settimeout(None)
        except OSError:
            _reset(near)
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(self, near, far)
        with self.lock:
            self.connections += 1
            self._open.add(connection)
        connection.start()
        if self._closed:
            connection.reset()


class _Connection:
    """The two lanes of one connection; forgotten when both have ended."""

    def __init__(self, link: BadLink, near: socket.socket, far: socket.socket) -> None:
        self.link = link
        self.near = near
        self.far = far
        self.lanes = (_Lane(self, "up", near, far), _Lane(self, "down", far, near))

    def start(self) -> None:
        for lane in self.lanes:
            lane.start()

    def reset(self) -> None:
        self.link.forget(self)
        for lane in self.lanes:
            lane.stop()
        for end in (self.near, self.far):
            _reset(end)

    def lane_ended(self) -> None:
        if all(lane.ended for lane in self.lanes):
            self.link.forget(self)
            self.near.close()
            self.far.close()


class _Lane:
    """One way of a connection: a reader stamps chunks with when they are due, a writer waits."""

    def __init__(
        self, connection: _Connection, way: Way, source: socket.socket, sink: socket.socket
    ) -> None:
        self.connection = connection
        self.link = connection.link
        self.way: Way = way
        self.source = source
        self.sink = sink
        self.ended = False
        self._stopped = False
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued = 0
        self._wire_free = 0.0

    def start(self) -> None:
        for work in (self._read, self._write):
            threading.Thread(target=work, name=f"bad-link-{self.way}", daemon=True).start()

    def stop(self) -> None:
        with self.link.lock:
            self._stopped = True
            self.link.lock.notify_all()

    def _read(self) -> None:
        data = b"-"
        while data:
            try:
                data = self.source.recv(CHUNK)
            except OSError:
                return self.connection.reset()
            with self.link.lock:
                while self._queued > self._buffer() and not self._stopped:
                    self.link.lock.wait()
                if self._stopped:
                    return None
                self._queue.append((self._due(len(data)), data))
                self._queued += len(data)
                self.link.lock.notify_all()
        return None

    def _write(self) -> None:
        while (data := self._next()) is not None:
            try:
                if not data:
                    self.sink.shutdown(socket.SHUT_WR)
                    break
                self._send(data)
            except (OSError, ValueError):  # ValueError: closed under us by a reset
                return self.connection.reset()
        if self._stopped:
            return None  # whoever resets the connection closes it, and wakes its readers first
        self.ended = True
        self.connection.lane_ended()
        return None

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._stopped:
            if select.select([], [self.sink], [], 0.2)[1]:
                sent = self.sink.send(view, socket.MSG_DONTWAIT)
                self.link.count(self.way, sent)
                view = view[sent:]

    def _next(self) -> bytes | None:
        """The next chunk once it is due and the link is not frozen; None when stopped."""
        with self.link.lock:
            while not self._stopped:
                if self._queue and self.way not in self.link.frozen:
                    wait_s = self._queue[0][0] - time.monotonic()
                    if wait_s <= 0:
                        _, data = self._queue.popleft()
                        self._queued -= len(data)
                        self.link.lock.notify_all()
                        return data
                    self.link.lock.wait(wait_s)
                else:
                    self.link.lock.wait()
            return None

    def _due(self, size: int) -> float:
        now = time.monotonic()
        if self.link.bandwidth is not None:
            self._wire_free = max(now, self._wire_free) + size / self.link.bandwidth
            now = self._wire_free
        return now + self.link.delay_s

    def _buffer(self) -> float:
        """What the wire and its queues hold, in bytes: twice the bandwidth-delay product."""
        return max(LEAST_BUFFER, 2 * self.link.delay_s * (self.link.bandwidth or 100e6))


@pytest.fixture
def bad_link() -> Iterator[MakeBadLink]:
    """`bad_link(sshd, delay_s=0.04, bandwidth=12.5e6)`; log in with `login_over(link, sshd)`."""
    links: list[BadLink] = []

    def make(target: Reachable | tuple[str, int], **options: float) -> BadLink:
        if not isinstance(target, tuple):
            target = (target.login.address, target.login.port)
        links.append(BadLink(target, **options))
        return links[-1]

    yield make
    for link in links:
        link.close()


def login_over(link: BadLink, host: Reachable) -> Login:
    """The login of `host` through `link`, with the host's key known under the link's port."""
    return host.login.at(link.address, link.port)


def _reset(end: socket.socket) -> None:
    # SHUT_RD wakes a reader and sends nothing; shutting the other way would send a polite FIN
    # before the reset. The reset goes out once the last thread has let go of the socket.
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        end.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    end.close()
