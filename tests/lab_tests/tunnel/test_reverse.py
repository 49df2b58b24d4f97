"""-R over real OpenSSH, and tunnels to a host that forbids forwarding."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from remotedl.errors import TunnelError
from remotedl.ssh.remote import Remote
from remotedl.tunnel import TcpPlace, TunnelWish, open_tunnel
from remotedl.tunnel.forward import Forward, UnixPlace
from remotedl.tunnel.reverse import Reverse, open_reverse
from remotedl.tunnel.socks import open_socks
from remotedl.tunnel.way import Way
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.tunnel.door import Listener, hastened, open_door
from tests.lab_tests.tunnel.far_end import (
    answer_after_eof,
    connect,
    echo,
    read_all,
    read_exactly,
    serving,
    until,
)

WISH = TunnelWish("Jupyter", TcpPlace(None, 0), "box")


@pytest.fixture(scope="module")
def remote(sshd: Sshd) -> Iterator[Remote]:
    connection = hastened(open_door(sshd.login))
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def way(remote: Remote) -> Iterator[Way]:
    way = Way(remote)
    way.relay()
    yield way
    way.close()


def to_laptop(port: int, on_host: int = 0) -> Forward:
    return Forward(TcpPlace(None, on_host), TcpPlace("127.0.0.1", port))


def test_a_port_of_the_host_leads_to_the_laptop(way: Way) -> None:
    with serving(answer_after_eof) as server:
        reverse = open_reverse(to_laptop(server.port), way)
        with connect(reverse.port) as client:
            client.sendall(b"x" * 300_000)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"got 300000"
        until(lambda: reverse.counters().now == 0, "the connection is over")
        counters = reverse.counters()
        reverse.close()
    assert (counters.total, counters.errors) == (1, 0)
    assert (counters.to_laptop, counters.to_remote) == (300_000, len("got 300000"))


def test_unix_sockets_on_both_sides(way: Way, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here))
        listener.listen()
        reverse = open_reverse(Forward(UnixPlace(str(there)), UnixPlace(str(here))), way)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(there))
            far, _ = listener.accept()
            with far:
                far.sendall(b"from the laptop")
            assert read_all(client) == b"from the laptop"
        reverse.close()


def test_a_taken_port_of_the_host_is_a_clear_error(way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        forward = to_laptop(1, on_host=port)
        with pytest.raises(TunnelError, match="in use") as refused:
            open_reverse(forward, way)
        assert refused.value.hint == f"remotedl tunnel -R {port + 1}:127.0.0.1:1"


def test_nothing_listens_on_the_laptop(way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    reverse = open_reverse(to_laptop(port), way)
    with suppress(ConnectionResetError), connect(reverse.port) as client:
        assert client.recv(1) == b""
    until(lambda: reverse.counters().errors == 1, "it is counted")
    assert "on this laptop: Connection refused" in reverse.counters().last_error
    reverse.close()


def test_closing_ends_the_listener_and_its_connections(way: Way) -> None:
    with serving(echo) as server:
        reverse = open_reverse(to_laptop(server.port), way)
        port = reverse.port
        with connect(port) as client:
            client.sendall(b"x")
            read_exactly(client, 1)
            reverse.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        until(lambda: _refuses(port), "nobody listens on the host any more")


def test_the_same_port_is_listened_on_over_the_next_link(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with serving(echo) as server:
        first = open_door(sshd.login)
        reverse = open_reverse(to_laptop(server.port, on_host=port), Way(first))
        sshd.kill_connections()
        reverse.set_way(None)
        first.close()
        second = open_door(sshd.login)
        reverse.set_way(Way(second))
        until(lambda: reverse.port == port, "it listens again")
        with connect(port) as client:
            client.sendall(b"again")
            assert read_exactly(client, 5) == b"again"
        reverse.close()
        second.close()


def test_a_port_that_is_held_is_tried_again(way: Way) -> None:
    report = Listener()
    with serving(echo) as server:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
            reverse = Reverse(to_laptop(server.port, on_host=port), report)
            reverse.set_way(way)
            until(lambda: report.warnings, "it is said")
        until(lambda: reverse.port == port, "it listens")
        reverse.close()
    assert len(report.warnings) == 1
    assert "trying again" in report.warnings[0]


def test_a_host_that_forbids_forwarding_is_reached_through_a_command(make_sshd: MakeSshd) -> None:
    sshd = make_sshd(config=["AllowTcpForwarding no", "AllowStreamLocalForwarding no"])
    report = Listener()
    remote = open_door(sshd.login)
    way = Way(remote, report=report)
    with serving(echo) as server:
        port = server.port
        with open_tunnel(WISH, lambda: way.dial("127.0.0.1", port)) as tunnel:
            for _ in range(2):
                with connect(tunnel.port) as client:
                    client.sendall(b"hello")
                    assert read_exactly(client, 5) == b"hello"
        with open_socks(WISH, way.dial) as socks, connect(socks.port) as client:
            client.sendall(b"\x05\x01\x00")
            read_exactly(client, 2)
            client.sendall(b"\x05\x01\x00\x03\x09localhost" + port.to_bytes(2, "big"))
            assert read_exactly(client, 10)[1] == 0
            client.sendall(b"x")
            assert read_exactly(client, 1) == b"x"
    remote.close()
    way.close()
    assert len(report.notes) == 1
    assert "forbids forwarding" in report.notes[0]


def test_the_relay_copes_with_a_chatty_login(make_sshd: MakeSshd) -> None:
    sshd = make_sshd(config=["AllowTcpForwarding no"], noise="Welcome to the cluster!\n" * 50)
    remote = open_door(sshd.login)
    with serving(echo) as server:
        stream = Way(remote).dial("127.0.0.1", server.port)
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
    remote.close()


def _refuses(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False
