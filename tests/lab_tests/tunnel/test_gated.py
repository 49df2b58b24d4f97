"""A gated tunnel towards its clients: programs that keep connections, websockets, other users."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

from remotedl.errors import TunnelError
from remotedl.ssh.remote import Stream
from remotedl.tunnel import TcpPlace, Tunnel, TunnelWish
from remotedl.tunnel.entrance import Dial
from remotedl.tunnel.gate import Door
from remotedl.tunnel.gated import GatedEntrance, _read_head
from remotedl.tunnel.tunnel import start_tunnel
from tests.lab_tests.tunnel.far_end import until
from tests.support.local_remote import LocalRemote

SECRET = "a1" * 32
TOKEN = f"remotedl_token={SECRET}"


class Keeping(http.server.BaseHTTPRequestHandler):
    """A program that keeps its connections open whatever it is told, and counts its requests."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _answer(self, body: bytes) -> None:
        self.seen.append(f"{self.command} {self.path}")
        self.close_connection = False
        said = json.dumps({"headers": dict(self.headers), "body": body.decode()}).encode()
        self.send_response(200)
        self.send_header("Connection", "keep-alive")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def gated(port: int, *, private: bool = True) -> Iterator[Tunnel[Dial]]:
    wish = TunnelWish("Gradio", TcpPlace(None, 0), "box", private=private)
    door = Door("Gradio", SECRET, "remotedl open 7860")
    remote = LocalRemote()
    entrance = GatedEntrance(door, "box")
    with start_tunnel(wish, entrance, lambda: remote.dial("127.0.0.1", port)) as tunnel:
        yield tunnel
    remote.close()


@pytest.fixture
def program() -> Iterator[int]:
    Keeping.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeping) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_one_request_a_connection_and_all_of_its_body(program: int) -> None:
    body = "x" * 300_000
    with gated(program) as tunnel:
        client = http.client.HTTPConnection("127.0.0.1", tunnel.port, timeout=10)
        for _ in range(2):  # http.client opens another connection where it is told to close
            client.request("POST", f"/run?{TOKEN}&a=b", body=body)
            answer = client.getresponse()
            said = json.loads(answer.read())
            assert answer.headers["Connection"] == "close"
            assert said["body"] == body
            assert said["headers"]["Connection"] == "close"
        client.close()
        assert Keeping.seen == ["POST /run?a=b"] * 2
        assert tunnel.counters().total == 2


def test_what_is_sent_behind_a_request_goes_nowhere(program: int) -> None:
    """Another page's request, over the connection that was let in."""
    with gated(program) as tunnel:
        head = f"GET /one?{TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{tunnel.port}\r\n\r\n".encode()
        second = b"GET /two HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        with socket.create_connection(("127.0.0.1", tunnel.port), 10) as client:
            client.sendall(head + second)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
            client.sendall(second)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
        assert Keeping.seen == ["GET /one"]


def test_a_head_that_is_too_long_is_refused_and_not_cut(program: int) -> None:
    """What stands behind a cut (an Origin) would not be judged."""
    with gated(program) as tunnel, socket.create_connection(("127.0.0.1", tunnel.port)) as client:
        client.settimeout(20)
        host = f"Host: 127.0.0.1:{tunnel.port}\r\nCookie: {TOKEN}\r\n"
        client.sendall(f"GET / HTTP/1.1\r\n{host}X: {'x' * 90_000}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 431 ")
    assert Keeping.seen == []


def test_a_head_that_comes_byte_by_byte_has_no_more_time_than_any_other() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(0.5)
    stop = threading.Event()

    def drip() -> None:
        theirs.sendall(b"GET / HTTP/1.1\r\nX: ")
        while not stop.wait(0.05):
            theirs.sendall(b"x")

    began = time.monotonic()
    with ours, theirs:
        dripping = threading.Thread(target=drip)
        dripping.start()
        with pytest.raises(TimeoutError):
            _read_head(ours)
        stop.set()
        dripping.join()
    assert time.monotonic() - began < 5


def test_nobody_gets_in_without_the_secret_and_the_page_says_how(program: int) -> None:
    with gated(program) as tunnel:
        client = http.client.HTTPConnection("127.0.0.1", tunnel.port, timeout=10)
        client.request("GET", "/")
        answer = client.getresponse()
        assert answer.status == 403
        assert b"remotedl open 7860" in answer.read()
        client.close()
        until(lambda: "without its link" in tunnel.counters().last_error, "it is counted")
    assert Keeping.seen == []


@pytest.mark.parametrize("origin", ["own", "http://evil.example"])
def test_a_websocket_for_its_own_page_alone(origin: str) -> None:
    def echo(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with websockets.sync.server.serve(echo, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with gated(server.socket.getsockname()[1]) as tunnel:
            asked = f"http://127.0.0.1:{tunnel.port}" if origin == "own" else origin
            address = f"ws://127.0.0.1:{tunnel.port}/?{TOKEN}"
            if origin != "own":
                with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
                    websockets.sync.client.connect(address, origin=asked)
            else:
                with websockets.sync.client.connect(address, origin=asked) as client:
                    for size in (1, 100_000):
                        client.send("x" * size)
                        assert client.recv(10) == "x" * size
        server.shutdown()


def test_a_program_that_does_not_run_is_a_page_that_says_so() -> None:
    def refusing() -> Stream:
        raise TunnelError("nobody listens")

    wish = TunnelWish("Gradio", TcpPlace(None, 0), "box")
    entrance = GatedEntrance(Door("Gradio", SECRET, "remotedl open 7860"), "box")
    with start_tunnel(wish, entrance, refusing) as tunnel:
        client = http.client.HTTPConnection("127.0.0.1", tunnel.port, timeout=10)
        client.request("GET", f"/?{TOKEN}")
        answer = client.getresponse()
        assert answer.status == 503
        assert b"Gradio does not answer on box" in answer.read()
        client.close()


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="plays another user of the laptop"
)
@pytest.mark.parametrize("private", [True, False])
def test_another_user_of_the_laptop_gets_nothing_even_with_the_secret(
    program: int, private: bool
) -> None:
    with gated(program, private=private) as tunnel:
        code = (
            "import encodings.idna, os, sys, urllib.request as u\n"
            "os.setgid(60123); os.setuid(60123)\n"
            "print(u.urlopen(sys.argv[1], timeout=10).status)"
        )
        url = f"http://127.0.0.1:{tunnel.port}/?{TOKEN}"
        done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True)
        if private:
            assert done.returncode != 0
            assert Keeping.seen == []
            until(lambda: "uid 60123" in tunnel.counters().last_error, "it is counted")
        else:
            assert done.stdout == "200\n", done.stderr
