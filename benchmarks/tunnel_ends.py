"""The two ends of a tunnel that is measured: a server on "the host", and a client's stopwatch.

`python -m benchmarks.tunnel_ends` is the server: it prints its port and does what the first byte
of each connection asks for.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MEGA = 1_000_000
BLOCK = bytes(MEGA)
DOWN, UP, ECHO = b"d", b"u", b"e"


@contextmanager
def far_end() -> Iterator[int]:
    """The server in a process of its own; its port."""
    argv = [sys.executable, "-m", "benchmarks.tunnel_ends"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def download(port: int, megabytes: int) -> float:
    """MB/s."""
    buffer = bytearray(MEGA)
    with _connect(port) as client:
        began = time.perf_counter()
        client.sendall(DOWN + megabytes.to_bytes(4, "big"))
        left = megabytes * MEGA
        while left:
            count = client.recv_into(buffer)
            assert count, "the download ended early"
            left -= count
        return megabytes / (time.perf_counter() - began)


def upload(port: int, megabytes: int) -> float:
    """MB/s, until the far end says that it has all."""
    with _connect(port) as client:
        began = time.perf_counter()
        client.sendall(UP + megabytes.to_bytes(4, "big"))
        for _ in range(megabytes):
            client.sendall(BLOCK)
        assert client.recv(1) == UP
        return megabytes / (time.perf_counter() - began)


def echo(port: int, times: int) -> float:
    """The median round trip of one byte, ms."""
    trips = []
    with _connect(port) as client:
        client.sendall(ECHO)
        for _ in range(times):
            began = time.perf_counter()
            client.sendall(b"x")
            client.recv(1)
            trips.append(time.perf_counter() - began)
    return statistics.median(trips) * 1000


def new_connection(port: int, times: int) -> float:
    """The median from connect to the first byte echoed, ms."""
    trips = []
    for _ in range(times):
        began = time.perf_counter()
        with _connect(port) as client:
            client.sendall(ECHO + b"x")
            client.recv(1)
            trips.append(time.perf_counter() - began)
    return statistics.median(trips) * 1000


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _serve(connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wish = connection.recv(1)
        if wish == ECHO:
            while data := connection.recv(4096):
                connection.sendall(data)
        elif wish == DOWN:
            for _ in range(int.from_bytes(connection.recv(4), "big")):
                connection.sendall(BLOCK)
        elif wish == UP:
            left = int.from_bytes(connection.recv(4), "big") * MEGA
            buffer = bytearray(MEGA)
            while left:
                left -= connection.recv_into(buffer, min(left, MEGA))
            connection.sendall(UP)


def _listen() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    _listen()
