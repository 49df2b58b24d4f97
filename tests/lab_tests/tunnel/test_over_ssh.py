"""The tunnel over real OpenSSH: what the local double cannot show (channels, windows, cuts)."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remotedl.errors import TunnelError
from remotedl.ssh.remote import Remote, Stream
from remotedl.tunnel import TcpPlace, Tunnel, TunnelWish, Way, open_tunnel
from remotedl.tunnel.entrance import Dial
from remotedl.tunnel.relay import RelayStream
from tests.lab.badlink import MakeBadLink, login_over
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.tunnel.door import hastened, open_door
from tests.lab_tests.tunnel.far_end import (
    Behaviour,
    Server,
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

WISH = TunnelWish("Jupyter", TcpPlace(None, 0), "box")
MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=["channels", "fast lane"])
def remote(sshd: Sshd, request: pytest.FixtureRequest) -> Iterator[Remote]:
    """Python's SSH alone, and with the system's ssh for what is dialled."""
    connection = open_door(sshd.login)
    if request.param == "fast lane":
        hastened(connection)
    yield connection
    connection.close()


def to(remote: Remote, server: Server) -> Dial:
    def dial() -> Stream:
        return remote.dial("127.0.0.1", server.port)

    return dial


@contextmanager
def tunnelled(remote: Remote, behaviour: Behaviour) -> Iterator[tuple[Server, Tunnel[Dial]]]:
    """With the target met already, so that the fast lane is taken where there is one."""
    with serving(behaviour) as server, open_tunnel(WISH, to(remote, server)) as tunnel:
        remote.dial("127.0.0.1", server.port).close()
        yield server, tunnel


def test_both_half_closes(remote: Remote) -> None:
    with tunnelled(remote, answer_after_eof) as (_, tunnel), connect(tunnel.port) as client:
        client.sendall(b"x" * 300_000)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"got 300000"
    with tunnelled(remote, hang_up_then_read) as (_, tunnel), connect(tunnel.port) as client:
        assert read_all(client) == b"goodbye"
        client.sendall(b"x" * 300_000)
        client.shutdown(socket.SHUT_WR)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        assert tunnel.counters().to_remote == 300_000


def test_three_hundred_connections_at_once(remote: Remote) -> None:
    with tunnelled(remote, echo) as (server, tunnel):
        clients = [connect(tunnel.port) for _ in range(300)]
        for number, client in enumerate(clients):
            client.sendall(b"%04d" % number)
        for number, client in enumerate(clients):
            assert read_exactly(client, 4) == b"%04d" % number
        for client in clients:
            client.close()
        until(lambda: tunnel.counters().now == 0, "every connection is over")
        until(lambda: server.open_connections == 0, "the host's ends are over")
        assert tunnel.counters().errors == 0


def test_a_hundred_megabytes_each_way_arrive_whole(remote: Remote) -> None:
    block = random.Random(1).randbytes(MEGABYTE)
    with tunnelled(remote, pour(block, 100)) as (_, tunnel), connect(tunnel.port) as client:
        down = hashlib.sha256()
        while data := client.recv(MEGABYTE):
            down.update(data)
    arrived = hashlib.sha256()

    def swallow(connection: socket.socket) -> None:
        while data := connection.recv(MEGABYTE):
            arrived.update(data)
        connection.sendall(b"done")

    with tunnelled(remote, swallow) as (_, tunnel), connect(tunnel.port) as client:
        for _ in range(100):
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"done"
    expected = hashlib.sha256(block * 100).digest()
    assert down.digest() == expected
    assert arrived.digest() == expected


def test_a_slow_reader_holds_the_host_back_and_nobody_else(remote: Remote) -> None:
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        for _ in range(200):
            connection.sendall(bytes(MEGABYTE))
            sent += MEGABYTE

    with tunnelled(remote, flood) as (_, tunnel), connect(tunnel.port) as slow:
        read_exactly(slow, 1)
        at_rest(lambda: sent)
        assert sent < 100 * MEGABYTE, "somebody buffers what the client does not read"
        with tunnelled(remote, echo) as (_, other), connect(other.port) as client:
            client.sendall(b"x")
            assert read_exactly(client, 1) == b"x"


def test_nothing_listens_on_the_host(remote: Remote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with open_tunnel(WISH, lambda: remote.dial("127.0.0.1", port)) as tunnel:
        with connect(tunnel.port) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answer = read_all(client)
        assert b"Jupyter does not answer on box" in answer
        assert b"refused" in answer


def test_a_unix_socket_of_the_host(remote: Remote, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        dial = functools.partial(remote.dial_unix, path)
        with open_tunnel(WISH, dial) as tunnel, connect(tunnel.port) as client:
            far, _ = listener.accept()
            with far:
                far.sendall(b"from a unix socket")
            assert read_all(client) == b"from a unix socket"


SOCKETS_FORBIDDEN = {
    "allowed": ([], False),
    "sockets forbidden": (["AllowStreamLocalForwarding no"], True),
    "all forbidden": (["DisableForwarding yes"], True),
}


@pytest.mark.parametrize("kind", SOCKETS_FORBIDDEN)
@pytest.mark.parametrize("deep", [False, True], ids=["short", "over 107 bytes"])
def test_a_unix_socket_whatever_sshd_allows(
    make_sshd: MakeSshd, tmp_path: Path, kind: str, deep: bool
) -> None:
    config, relayed = SOCKETS_FORBIDDEN[kind]
    folder = tmp_path / ("d" * 90 if deep else "")
    folder.mkdir(exist_ok=True)
    remote = open_door(make_sshd(config=config).login)
    way = Way(remote, hasten=False)
    with pytest.raises(TunnelError, match="No such file"):
        way.dial_unix(str(folder / "none"))
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(folder, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/s")
        os.close(here)
        listener.listen()
        for _ in range(2):
            stream = way.dial_unix(str(folder / "s"))
            assert isinstance(stream, RelayStream) is (relayed or deep)
            far, _ = listener.accept()
            with far:
                far.sendall(b"from a unix socket")
            assert read_stream(stream) == b"from a unix socket"
            stream.close()
    way.close()
    remote.close()


def read_stream(stream: Stream) -> bytes:
    return b"".join(iter(lambda: stream.recv(4096), b""))


def test_a_connection_that_dies_in_mid_flow_and_the_next_one(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    first = open_door(sshd.login)
    with tunnelled(first, pour(bytes(MEGABYTE), 1000)) as (server, tunnel):
        with connect(tunnel.port) as client:
            read_exactly(client, MEGABYTE)
            sshd.kill_connections()
            with pytest.raises(OSError):
                read_all(client)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        first.close()
        tunnel.set_dial(None)
        with connect(tunnel.port) as waiting:
            second = open_door(sshd.login)
            tunnel.set_dial(to(second, server))
            read_exactly(waiting, MEGABYTE)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
    second.close()


def test_a_frozen_link_lets_go_of_its_connections(sshd: Sshd, bad_link: MakeBadLink) -> None:
    link = bad_link(sshd)
    remote = open_door(login_over(link, sshd))
    with tunnelled(remote, pour(bytes(MEGABYTE), 1000)) as (server, tunnel):
        with connect(tunnel.port) as client:
            read_exactly(client, MEGABYTE)
            link.freeze()
            tunnel.set_dial(None)  # as the session does once its ping has failed
            with pytest.raises(OSError):
                read_all(client)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        remote.close()
        link.resume()
        back = open_door(login_over(link, sshd))
        tunnel.set_dial(to(back, server))
        with connect(tunnel.port) as client:
            read_exactly(client, MEGABYTE)
    back.close()


def test_the_slow_link_is_filled(sshd: Sshd, bad_link: MakeBadLink) -> None:
    """40 ms and 100 Mbit/s: 10 MB take 0.8 s on the wire."""
    link = bad_link(sshd, delay_s=0.02, bandwidth=12.5e6)
    remote = open_door(login_over(link, sshd))
    with tunnelled(remote, pour(bytes(MEGABYTE), 10)) as (_, tunnel):
        with connect(tunnel.port) as client:
            began = time.monotonic()
            assert len(read_all(client)) == 10 * MEGABYTE
        assert time.monotonic() - began < 2.0
    remote.close()
