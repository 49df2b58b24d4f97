"""The proxy that `--via-laptop` offers: who may use it, for what, and that bytes come through."""

from __future__ import annotations

import base64
import socket
import threading

import pytest

from remotedl.provision.laptop_proxy import LaptopProxy, Refused, parse_request
from remotedl.provision.steps import Wish
from remotedl.provision.via_laptop import allowed_ports

SECRET = "remotedl:s3cret"
BASIC = "Basic " + base64.b64encode(SECRET.encode()).decode()


class SocketStream:
    """A Stream over one end of a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def recv(self, size: int) -> bytes:
        return self.end.recv(size)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        self.end.sendall(data)

    def shutdown_write(self) -> None:
        self.end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        try:
            self.end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.end.close()


class Server:
    """What the proxy dials: keeps what it is sent, answers once, and is done."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: tuple[str, int] | None = None
        self.got = b""
        self._ready = threading.Event()

    def dial(self, host: str, port: int) -> socket.socket:
        self.asked = (host, port)
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._play, args=(theirs,), daemon=True).start()
        return ours

    def _play(self, end: socket.socket) -> None:
        with end:
            self.got = end.recv(65536)
            end.sendall(self.answer)


def exchange(request: str, server: Server, ports: tuple[int, ...] = (80, 443)) -> bytes:
    """What a client on the host gets for `request`."""
    client, ours = socket.socketpair()
    proxy = LaptopProxy(SECRET, ports, server.dial)
    thread = threading.Thread(target=proxy.serve, args=(SocketStream(ours),), daemon=True)
    thread.start()
    client.sendall(request.replace("\n", "\r\n").encode())
    said = b""
    while chunk := client.recv(65536):
        said += chunk
    client.close()
    thread.join(5)
    assert not thread.is_alive()
    return said


def test_a_tunnel_carries_both_ways() -> None:
    server = Server(b"pong")

    head = f"CONNECT example.org:443 HTTP/1.1\nProxy-Authorization: {BASIC}\n\nping"
    said = exchange(head, server)

    assert said == b"HTTP/1.1 200 Connection established\r\n\r\npong"
    assert (server.asked, server.got) == (("example.org", 443), b"ping")


def test_a_plain_request_reaches_the_server_without_the_credential() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\n\r\nhello")

    said = exchange(
        "GET http://deb.example/dists/x?y=1 HTTP/1.1\nHost: deb.example\n"
        f"Proxy-Authorization: {BASIC}\nConnection: keep-alive\nRange: bytes=5-\n\n",
        server,
    )

    assert said.endswith(b"hello") and server.asked == ("deb.example", 80)
    assert server.got == (
        b"GET /dists/x?y=1 HTTP/1.1\r\nHost: deb.example\r\nRange: bytes=5-\r\n"
        b"Connection: close\r\n\r\n"
    )


@pytest.mark.parametrize("line", [
    "",
    "Proxy-Authorization: Basic bm90aGluZw==\n",
    "Proxy-Authorization: Bearer x\n",
    "Proxy-Authorization: Basic ***\n",
])  # fmt: skip
def test_without_the_credential_nothing_is_dialled(line: str) -> None:
    server = Server(b"")

    said = exchange(f"CONNECT example.org:443 HTTP/1.1\n{line}\n", server)

    assert said.startswith(b"HTTP/1.1 407 ") and b"Proxy-Authenticate: Basic" in said
    assert server.asked is None


def test_ports_that_are_not_for_packages_are_refused() -> None:
    server = Server(b"")

    said = exchange(f"CONNECT mail.example:25 HTTP/1.1\nProxy-Authorization: {BASIC}\n\n", server)

    assert said.startswith(b"HTTP/1.1 403 ") and server.asked is None


def test_a_server_that_cannot_be_reached_is_said() -> None:
    def nobody(host: str, port: int) -> socket.socket:
        raise OSError("no route")

    client, ours = socket.socketpair()
    proxy = LaptopProxy(SECRET, (443,), nobody)
    head = f"CONNECT x:443 HTTP/1.1\r\nProxy-Authorization: {BASIC}\r\n\r\n"
    client.sendall(head.encode())
    proxy.serve(SocketStream(ours))

    assert client.recv(65536).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("head", [
    "GET / HTTP/1.1",
    "GET ftp://x/y HTTP/1.1",
    "CONNECT example.org HTTP/1.1",
    "CONNECT example.org:http HTTP/1.1",
    "hello",
    "GET http://x/ SPDY/3",
])  # fmt: skip
def test_what_is_no_request_of_a_proxy(head: str) -> None:
    with pytest.raises(Refused):
        parse_request(head)


def test_ports_of_the_mirrors_are_allowed() -> None:
    wish = Wish(docker_mirror="http://m:8081/x", pip_mirror="https://p/simple")

    assert allowed_ports(wish) == {80, 443, 8081}
