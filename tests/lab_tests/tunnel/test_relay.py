"""The relay: connections through a command's stdin and stdout, in both directions."""

from __future__ import annotations

import hashlib
import queue
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from remotedl.errors import LinkLost, TunnelError
from remotedl.ssh.remote import Stream
from remotedl.tunnel import TcpPlace, TunnelWish, UnixPlace, open_tunnel
from remotedl.tunnel.relay import Relay
from tests.lab_tests.tunnel.far_end import (
    answer_after_eof,
    at_rest,
    connect,
    echo,
    hang_up_then_read,
    pour,
    read_all,
    read_exactly,
    serving,
    until,
)
from tests.support.local_remote import LocalRemote

MEGABYTE = 1 << 20
WISH = TunnelWish("Jupyter", TcpPlace(None, 0), "box")


@pytest.fixture(scope="module")
def relay() -> Iterator[Relay]:
    running = Relay(LocalRemote())
    yield running
    running.close()


def read_stream(stream: Stream) -> bytes:
    parts = []
    while data := stream.recv(MEGABYTE):
        parts.append(data)
    return b"".join(parts)


def take(stream: Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        assert part
        data += part
    return data


def test_echo(relay: Relay) -> None:
    with serving(echo) as server:
        stream = relay.dial("localhost", server.port)
        stream.sendall(b"hello")
        assert take(stream, 5) == b"hello"
        stream.close()
        until(lambda: server.open_connections == 0, "the host's end is over")


def test_both_half_closes(relay: Relay) -> None:
    with serving(answer_after_eof) as server:
        stream = relay.dial("127.0.0.1", server.port)
        stream.sendall(b"x" * 3_000_000)
        stream.shutdown_write()
        assert read_stream(stream) == b"got 3000000"
        stream.close()
    with serving(hang_up_then_read) as server:
        stream = relay.dial("127.0.0.1", server.port)
        assert read_stream(stream) == b"goodbye"
        stream.sendall(b"x" * 3_000_000)
        stream.shutdown_write()
        until(lambda: server.open_connections == 0, "the host has read all")
        stream.close()


def test_a_refused_connection_says_why(relay: Relay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TunnelError, match="Connection refused"):
        relay.dial("127.0.0.1", port)
    with pytest.raises(TunnelError, match=r"no-such-host\.invalid"):
        relay.dial("no-such-host.invalid", 80)


def test_fifty_megabytes_arrive_whole(relay: Relay) -> None:
    block = random.Random(1).randbytes(MEGABYTE)
    got = hashlib.sha256()
    with serving(pour(block, 50)) as server:
        stream = relay.dial("127.0.0.1", server.port)
        while data := stream.recv(MEGABYTE):
            got.update(data)
        stream.close()
    assert got.digest() == hashlib.sha256(block * 50).digest()


def test_a_stream_that_nobody_reads_holds_up_no_other(relay: Relay) -> None:
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        for _ in range(100):
            connection.sendall(bytes(MEGABYTE))
            sent += MEGABYTE

    with serving(flood) as server, serving(echo) as other:
        stuck = relay.dial("127.0.0.1", server.port)
        at_rest(lambda: sent)
        assert sent < 30 * MEGABYTE
        stream = relay.dial("127.0.0.1", other.port)
        stream.sendall(b"x")
        assert take(stream, 1) == b"x"
        stream.close()
        stuck.close()
        until(lambda: server.open_connections == 0, "the flood has ended")


def test_a_host_that_hangs_up_ends_a_sender_that_is_stuck(relay: Relay) -> None:
    def rude(connection: socket.socket) -> None:
        connection.sendall(b"no")

    with serving(rude) as server:
        stream = relay.dial("127.0.0.1", server.port)
        with pytest.raises(LinkLost):
            for _ in range(100):
                stream.sendall(bytes(MEGABYTE))
        stream.close()


def test_two_hundred_streams_at_once(relay: Relay) -> None:
    with serving(echo) as server:
        streams = [relay.dial("127.0.0.1", server.port) for _ in range(200)]
        for number, stream in enumerate(streams):
            stream.sendall(b"%04d" % number)
        for number, stream in enumerate(streams):
            assert take(stream, 4) == b"%04d" % number
            stream.close()
        until(lambda: server.open_connections == 0, "the host's ends are over")


def test_a_unix_socket_of_the_host(relay: Relay, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        stream = relay.dial_unix(path)
        far, _ = listener.accept()
        with far:
            far.sendall(b"unix")
        assert read_stream(stream) == b"unix"
        stream.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_listener_on_the_host(relay: Relay, tmp_path: Path, kind: str) -> None:
    accepted: queue.Queue[Stream] = queue.Queue()
    place = TcpPlace(None, 0) if kind == "tcp" else UnixPlace(str(tmp_path / "s"))
    listening = relay.listen(place, accepted.put)
    with ExitStack() as stack:
        if kind == "tcp":
            client = stack.enter_context(connect(listening.port))
        else:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(tmp_path / "s"))
        stream = accepted.get(timeout=10)
        client.sendall(b"ping")
        assert take(stream, 4) == b"ping"
        stream.sendall(b"pong")
        stream.shutdown_write()
        assert read_all(client) == b"pong"
        listening.close()
        client.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""
        stream.close()
    if kind == "unix":
        until(lambda: not (tmp_path / "s").exists(), "the socket file is removed")


def test_a_listener_on_a_taken_port_says_so(relay: Relay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = TcpPlace(None, taken.getsockname()[1])
        with pytest.raises(TunnelError, match=r"cannot listen on .*in use"):
            relay.listen(place, lambda stream: stream.close())


def test_the_end_of_the_command_is_the_end_of_every_stream() -> None:
    remote = LocalRemote()
    relay = Relay(remote)
    with serving(echo) as server:
        stream = relay.dial("127.0.0.1", server.port)
        remote.lose_link()
        with pytest.raises(LinkLost):
            stream.recv(1)
        until(lambda: not relay.alive, "the relay knows")
        with pytest.raises(LinkLost):
            relay.dial("127.0.0.1", server.port)
        until(lambda: server.open_connections == 0, "nothing is left on the host")
    relay.close()


def test_a_host_without_python_is_a_clear_error() -> None:
    with pytest.raises(TunnelError, match="did not start") as caught:
        Relay(LocalRemote(), python="no-such-python")
    assert "Python 3.8" in caught.value.hint


def test_a_tunnel_through_the_relay(relay: Relay) -> None:
    with serving(echo) as server:
        port = server.port
        with open_tunnel(WISH, lambda: relay.dial("127.0.0.1", port)) as tunnel:
            clients = [connect(tunnel.port) for _ in range(50)]
            for client in clients:
                client.sendall(b"x")
            for client in clients:
                assert read_exactly(client, 1) == b"x"
                client.close()
            until(lambda: tunnel.counters().now == 0, "every connection is over")
            assert tunnel.counters().errors == 0
