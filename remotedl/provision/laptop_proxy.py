"""An HTTP proxy in remotedl, for a host without a way out: CONNECT, and plain requests.

It speaks over streams that it is handed (connections to a port on the host's loopback), asks for
a credential that only this run knows, and reaches a few ports of public places (`laptop_reach.py`).
It keeps nothing and logs nothing. This file neither opens the port nor tells
anybody of it: that is `via_laptop.py`.
"""

from __future__ import annotations

import base64
import hmac
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from remotedl.errors import LinkLost
from remotedl.provision.laptop_reach import OutOfReach, Reach
from remotedl.ssh.remote import Stream

MOST_HEAD = 65_536
"""Bytes of a request's head."""
CHUNK = 65_536
WEB_PORTS = frozenset({80, 443})
HOP_HEADERS = ("proxy-authorization", "proxy-connection", "connection", "keep-alive")

Dial = Callable[[str, int], socket.socket]


class Refused(Exception):
    """Why a request is not carried out: an HTTP status and a sentence."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A proxy request, read."""

    method: str
    host: str
    port: int
    head: bytes = b""
    """What goes to the server; empty for CONNECT."""
    credential: str = ""
    body: bytes = b""
    """What came with the head already."""


@dataclass(slots=True)
class LaptopProxy:
    """Answers one connection a call of `serve`; any number of threads."""

    credential: str
    """ "user:password", as Basic authentication has it."""
    ports: Collection[int] = WEB_PORTS
    dial: Dial = field(default_factory=lambda: Reach().dial)
    carried: int = 0
    """Bytes that came down, for the report."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, stream: Stream) -> None:
        """Until either side is done. Never raises for what the other side does."""
        try:
            self._serve(stream)
        except (LinkLost, OSError):
            pass
        finally:
            stream.close()

    def _serve(self, stream: Stream) -> None:
        try:
            request = read_request(stream)
            self._check(request)
            server = self._dialled(request)
        except Refused as exc:
            stream.sendall(answer(exc.status, str(exc)))
            return
        except OSError as exc:
            stream.sendall(answer("502 Bad Gateway", f"the laptop cannot reach it: {exc}"))
            return
        with server:
            if request.method == "CONNECT":
                stream.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            server.sendall(request.head + request.body)
            self._splice(stream, server)

    def _check(self, request: Request) -> None:
        if not hmac.compare_digest(request.credential.encode(), self.credential.encode()):
            raise Refused("407 Proxy Authentication Required", "only this run has the credential")
        if request.port not in self.ports:
            raise Refused("403 Forbidden", f"port {request.port} is not for packages")

    def _dialled(self, request: Request) -> socket.socket:
        try:
            return self.dial(request.host, request.port)
        except OutOfReach as exc:
            raise Refused("403 Forbidden", str(exc)) from exc

    def _splice(self, stream: Stream, server: socket.socket) -> None:
        """Both directions, until the server is done; then the way up is cut as well."""
        up = threading.Thread(
            target=_carry_up, args=(stream, server), name="remotedl-proxy-up", daemon=True
        )
        up.start()
        while data := server.recv(CHUNK):
            stream.sendall(data)
            with self._lock:
                self.carried += len(data)
        stream.shutdown_write()
        stream.close()
        up.join()


def _carry_up(stream: Stream, server: socket.socket) -> None:
    try:
        while data := stream.recv(CHUNK):
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)
    except (LinkLost, OSError):
        try:
            server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def read_request(stream: Stream) -> Request:
    """One head. Raises Refused for what is no proxy request, OSError at an early end."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = stream.recv(CHUNK)
        if not chunk:
            raise OSError("no whole request came")
        data += chunk
        if len(data) > MOST_HEAD:
            raise Refused("431 Request Header Fields Too Large", "too long a request")
    head, _, body = data.partition(b"\r\n\r\n")
    return parse_request(head.decode("latin-1"), body)


def parse_request(head: str, body: bytes = b"") -> Request:
    """ "CONNECT host:port HTTP/1.1" or "GET http://host/path HTTP/1.1", with its headers.

    The connection to a server carries one request: a second one on it might be for another
    server, and would not be looked at.
    """
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refused("400 Bad Request", "no request of a proxy")
    method, target, version = words
    pairs = (line.partition(":") for line in lines)
    headers = [(name.strip(), value.strip()) for name, _, value in pairs]
    credential = _credential({name.lower(): value for name, value in headers})
    try:
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = url.hostname, url.port
    except ValueError:
        raise Refused("400 Bad Request", "no address") from None
    if not host or (method == "CONNECT" and port is None):
        raise Refused("400 Bad Request", "no address")
    if method == "CONNECT":
        return Request(method, host, port or 443, b"", credential, body)
    if url.scheme != "http":
        raise Refused("400 Bad Request", f"{url.scheme or 'this'} is not asked for like this")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    kept = [f"{name}: {value}" for name, value in headers if name.lower() not in HOP_HEADERS]
    text = "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""])
    return Request(method, host, port or 80, text.encode("latin-1"), credential, body)


def answer(status: str, why: str) -> bytes:
    """A whole response that ends the connection."""
    body = f"remotedl: {why}\n".encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain", f"Content-Length: {len(body)}"]
    if status.startswith("407"):
        lines.append('Proxy-Authenticate: Basic realm="remotedl"')
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def _credential(headers: Mapping[str, str]) -> str:
    kind, _, encoded = headers.get("proxy-authorization", "").partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""
