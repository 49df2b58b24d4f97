"""The SOCKS5 listener, spoken to byte by byte."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from remotedl.errors import TunnelError
from remotedl.ssh.remote import Stream
from remotedl.tunnel import TcpPlace, Tunnel, TunnelWish
from remotedl.tunnel.socks import DialTo, open_socks
from tests.lab_tests.tunnel.far_end import (
    Server,
    connect,
    echo,
    read_all,
    read_exactly,
    serving,
    until,
)
from tests.support.local_remote import LocalRemote

WISH = TunnelWish("SOCKS", TcpPlace(None, 0), "box")
HELLO = b"\x05\x01\x00"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(echo) as running:
        yield running


@contextmanager
def socks(dial: DialTo | None) -> Iterator[tuple[Tunnel[DialTo], socket.socket]]:
    with open_socks(WISH, dial, grace_s=0.05) as tunnel, connect(tunnel.port) as client:
        yield tunnel, client


def hello(client: socket.socket) -> None:
    client.sendall(HELLO)
    assert read_exactly(client, 2) == b"\x05\x00"


def ask(client: socket.socket, kind: int, address: bytes, port: int, command: int = 1) -> int:
    """The answer's code."""
    client.sendall(bytes((5, command, 0, kind)) + address + struct.pack(">H", port))
    answer = read_exactly(client, 10)
    assert answer[0] == 5
    return answer[1]


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        pytest.param(1, bytes((127, 0, 0, 1)), id="IPv4"),
        pytest.param(3, b"\x09localhost", id="name"),
        pytest.param(4, bytes(10) + b"\xff\xff\x7f\x00\x00\x01", id="IPv6"),
    ],
)
def test_connect(server: Server, kind: int, address: bytes) -> None:
    with socks(LocalRemote().dial) as (_, client):
        hello(client)
        assert ask(client, kind, address, server.port) == 0
        client.sendall(b"through")
        assert read_exactly(client, 7) == b"through"


def test_names_are_resolved_on_the_host() -> None:
    asked: list[tuple[str, int]] = []

    def dial(address: str, port: int) -> Stream:
        asked.append((address, port))
        raise TunnelError("refused")

    with socks(dial) as (_, client):
        hello(client)
        assert ask(client, 3, b"\x04db-1", 5432) == 5
        assert read_all(client) == b""
    assert asked == [("db-1", 5432)]


def test_no_link_is_told() -> None:
    with socks(None) as (_, client):
        hello(client)
        assert ask(client, 1, bytes(4), 80) == 3


def test_bind_and_udp_are_refused_with_the_protocols_word() -> None:
    with socks(LocalRemote().dial) as (tunnel, client):
        hello(client)
        assert ask(client, 1, bytes(4), 80, command=2) == 7
        assert read_all(client) == b""
        until(lambda: tunnel.counters().errors == 1, "it is counted")


def test_an_unknown_kind_of_address_is_refused_with_the_protocols_word() -> None:
    with socks(LocalRemote().dial) as (_, client):
        hello(client)
        client.sendall(b"\x05\x01\x00\x09")
        assert read_exactly(client, 10)[1] == 8


def test_a_client_that_insists_on_a_password_is_told() -> None:
    with socks(LocalRemote().dial) as (_, client):
        client.sendall(b"\x05\x01\x02")
        assert read_all(client) == b"\x05\xff"


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\n", b"\x04\x01\x00\x50", b"\x05"])
def test_what_is_no_socks5_is_closed(start: bytes) -> None:
    with socks(LocalRemote().dial) as (tunnel, client):
        client.sendall(start)
        client.shutdown(socket.SHUT_WR)
        try:
            assert client.recv(10) == b""
        except ConnectionResetError:
            pass
        until(lambda: tunnel.counters().now == 0, "it is over")
