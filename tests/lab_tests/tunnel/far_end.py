"""Servers that stand for what runs on the host, and clients' ways to treat a tunnel.

Each server is one function of the accepted socket; a thread a connection. On loopback only.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Behaviour = Callable[[socket.socket], None]
LIMIT_S = 15.0


class Server:
    """Listens on 127.0.0.1 and treats every connection as `behaviour` says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.accepted = 0
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self._behaviour(connection)
        self._open.discard(connection)


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[Server]:
    server = Server(behaviour)
    try:
        yield server
    finally:
        server.close()


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def answer_after_eof(connection: socket.socket) -> None:
    """Reads to the end, then says how much it was; as HTTP/1.0 servers of old do."""
    size = 0
    while data := connection.recv(65536):
        size += len(data)
    connection.sendall(f"got {size}".encode())


def hang_up_then_read(connection: socket.socket) -> None:
    """Says goodbye at once, ends its side, and still counts what comes."""
    connection.sendall(b"goodbye")
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


def pour(block: bytes, times: int) -> Behaviour:
    """Sends `block` so many times, then ends."""

    def behaviour(connection: socket.socket) -> None:
        for _ in range(times):
            connection.sendall(block)

    return behaviour


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((address, port), timeout=LIMIT_S)


def read_all(connection: socket.socket) -> bytes:
    """Everything up to a clean end. Raises ConnectionResetError where there is none."""
    parts = []
    while data := connection.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, f"ended after {len(data)} of {size} bytes"
        data += part
    return data


def until(true: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a state that others bring about; fails with `what` after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.005)


def at_rest(value: Callable[[], int], still_s: float = 0.3) -> None:
    """Wait until a number that grows has stood still for a while."""
    before, since = value(), time.monotonic()
    while time.monotonic() - since < still_s:
        time.sleep(0.01)
        if (now := value()) != before:
            before, since = now, time.monotonic()
