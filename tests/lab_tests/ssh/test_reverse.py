"""Ports of the host that lead to the laptop."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from remotedl.errors import TunnelError
from remotedl.ssh.process import RemoteStream
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.ssh.door import open_door


def shout(stream: RemoteStream) -> None:
    """Sends back what comes in upper case, to its end."""
    while data := stream.recv(1 << 16):
        stream.sendall(data.upper())
    stream.close()


def ask(end: socket.socket, data: bytes) -> bytes:
    with end:
        end.sendall(data)
        end.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: end.recv(1 << 16), b""))


def test_a_port_of_the_host_leads_to_us(sshd: Sshd) -> None:
    remote = open_door(sshd.login)
    listener = remote.listen_remote("127.0.0.1", 0, shout)
    for word in (b"hello", b"x" * 1_000_000):
        end = socket.create_connection(("127.0.0.1", listener.port))
        assert ask(end, word) == word.upper()
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.port))
    remote.close()


def test_two_ports_have_two_handlers(sshd: Sshd) -> None:
    remote = open_door(sshd.login)
    one = remote.listen_remote("127.0.0.1", 0, shout)
    two = remote.listen_remote(
        "127.0.0.1", 0, lambda stream: (stream.sendall(b"two"), stream.close())
    )  # type: ignore[arg-type, return-value]
    assert ask(socket.create_connection(("127.0.0.1", one.port)), b"one") == b"ONE"
    assert ask(socket.create_connection(("127.0.0.1", two.port)), b"") == b"two"
    remote.close()


def test_a_unix_socket_of_the_host_leads_to_us(sshd: Sshd) -> None:
    remote = open_door(sshd.login)
    path = str(Path(sshd.folder) / "r")
    listener = remote.listen_remote_unix(path, shout)
    end = socket.socket(socket.AF_UNIX)
    end.connect(path)
    assert ask(end, b"hello") == b"HELLO"
    listener.close()
    remote.close()


def test_a_taken_port_is_an_error(sshd: Sshd) -> None:
    remote = open_door(sshd.login)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TunnelError, match=f"127.0.0.1:{port}"):
            remote.listen_remote("127.0.0.1", port, shout)
    remote.close()


def test_a_host_that_forbids_forwarding_is_an_error(make_sshd: MakeSshd) -> None:
    remote = open_door(make_sshd(config=["AllowTcpForwarding no"]).login)
    with pytest.raises(TunnelError) as caught:
        remote.listen_remote("127.0.0.1", 0, shout)
    assert "AllowTcpForwarding" in caught.value.hint
    with pytest.raises(TunnelError) as caught:
        remote.dial("127.0.0.1", 22)
    assert "AllowTcpForwarding" in caught.value.hint
    assert remote.run(["echo", "still here"]).text == "still here\n"
    remote.close()
