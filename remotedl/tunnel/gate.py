"""Who may use a page of the host's: decided by the head of one request. Pure: no I/O, no clock.

A tunnel's port on the laptop is open to all that runs there: other users, and every page that the
browser shows. TensorBoard and most programs behind `ports` ask nobody who they are, so the tunnel
asks: for the Host that it was opened with (a foreign name that was bound to 127.0.0.1 is refused),
for the Origin and Sec-Fetch-Site of a page of its own, and for a secret. The secret comes in the
link that `remotedl` prints and opens, once, and is a cookie from then on.

Decision: each request is judged, and ends its connection (`Connection: close`). A browser sends the
requests of different pages over one connection, so a judged connection would say nothing about
the next request on it. A body has the length that its head names, and what follows it goes nowhere.

Decision: SameSite=Strict. Ports are one site to a browser, so it keeps out pages of other sites
alone; the pages of another port are kept out by Origin and Sec-Fetch-Site. For the same reason no
program behind a tunnel is shown our cookies, nor Jupyter's, which every port's requests have.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from remotedl.tunnel.refusal import is_http, page

QUERY = "remotedl_token"
COOKIE = "remotedl-"
"""And the port: cookies are shared by all ports of an address."""
NO_HTTP = "this is no HTTP"
OURS_AND_JUPYTERS = ("remotedl-", "username-")
MONTH_S = 30 * 24 * 3600
REQUEST = re.compile(rb"([A-Z]{1,20}) (/[^\s\x00-\x20\x7f]*) HTTP/1\.[01]")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
"""One way to match: blanks of their own around the value took hours on 64 KB of tabs."""
HOP = ("connection", "keep-alive", "proxy-connection", "cookie")
"""Headers that are said anew."""
OTHERS = ("cross-site", "same-site")


@dataclass(frozen=True, slots=True)
class Pass:
    """Let through."""

    head: bytes
    """What the program gets in place of the request's head."""
    body: int | None
    """Bytes that follow it; None: any number, both ways (a websocket)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Not let through, or not yet: what the client gets."""

    page: bytes
    refused: str = ""
    """Why; "" for the redirect that sets the cookie."""


@dataclass(frozen=True, slots=True)
class Door:
    """What a gate knows of its tunnel."""

    name: str
    secret: str
    how: str
    """What to type to get in."""


class _No(Exception):
    """Refused: the status and the reason, for people."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


def judge(head: bytes, port: int, door: Door) -> Pass | Answer:
    """`head` up to and with its empty line, as it came to the laptop's `port`."""
    try:
        return _judge(_Request.parse(head), port, door)
    except _No as no:
        what = f"{door.name}: {no}. To open it, type: {door.how}"
        return Answer(page(no.status, f"{door.name} is not open to this request", what), str(no))


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, head: bytes) -> _Request:
        """Strictly: what two programs could read in two ways is refused."""
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        request = REQUEST.fullmatch(first)
        if request is None:
            known = is_http(head[:16])
            why = NO_HTTP if known is False else "the request's first line is odd"
            raise _No("400 Bad Request", why)
        rows = [HEADER.fullmatch(line) for line in lines]
        if not all(rows):
            raise _No("400 Bad Request", "a header of the request is odd")
        headers = tuple(
            (row[1].decode(), row[2].strip(b" \t").decode("latin-1")) for row in rows if row
        )
        return cls(request[1].decode(), request[2].decode("latin-1"), headers)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def one(self, name: str) -> str:
        """ "" where there is none."""
        found = self.all(name)
        if len(found) > 1:
            raise _No("400 Bad Request", f"the request has {name} more than once")
        return found[0] if found else ""


def _judge(request: _Request, port: int, door: Door) -> Pass | Answer:
    host = request.one("host").lower()
    if host not in _own_hosts(port):
        raise _No("421 Misdirected Request", f"it was asked for as {host[:80]!r}")
    _check_page(request, host)
    target, given = _without_secret(request.target)
    if _same(given, door.secret):
        if request.method == "GET" and "text/html" in request.one("accept"):
            return Answer(_welcome(f"http://{host}{target}", port, door.secret))
    elif not any(_same(value, door.secret) for value in _cookies(request, f"{COOKIE}{port}")):
        raise _No("403 Forbidden", "it was opened without its link")
    return _passed(request, target)


def _own_hosts(port: int) -> set[str]:
    names = ("127.0.0.1", "localhost", "[::1]")
    return {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())


def _check_page(request: _Request, host: str) -> None:
    """Whether the page that asks, where there is one, is our own."""
    origin = request.one("origin")
    if origin and origin.lower() != f"http://{host}":
        raise _No("403 Forbidden", f"a page of {origin[:80]!r} asked for it")
    site = request.one("sec-fetch-site")
    if site in OTHERS:
        # A link may lead here. What it leads to is shown, and nothing of it to who linked.
        led = request.one("sec-fetch-mode") == "navigate" and request.method in ("GET", "HEAD")
        if not led or (site == "cross-site" and request.one("sec-fetch-dest") != "document"):
            raise _No("403 Forbidden", "another page asked for it")


def _without_secret(target: str) -> tuple[str, str]:
    """The target without our part of its query, and the secret that it held."""
    path, mark, query = target.partition("?")
    if QUERY not in query:
        return target, ""
    kept = [part for part in query.split("&") if part.partition("=")[0] != QUERY]
    given = dict(parse_qsl(query)).get(QUERY, "")
    return path + (mark + "&".join(kept) if kept else ""), given


def _cookies(request: _Request, name: str) -> list[str]:
    return [value for key, value in _cookie_pairs(request) if key == name]


def _cookie_pairs(request: _Request) -> list[tuple[str, str]]:
    parts = [part.strip() for line in request.all("cookie") for part in line.split(";")]
    return [(name.strip(), value) for name, _, value in (part.partition("=") for part in parts)]


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


def _welcome(where: str, port: int, secret: str) -> bytes:
    lines = (
        "HTTP/1.1 303 See Other",
        f"Location: {where}",
        f"Set-Cookie: {COOKIE}{port}={secret}; Path=/; HttpOnly; SameSite=Strict; "
        f"Max-Age={MONTH_S}",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "Content-Length: 0",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _passed(request: _Request, target: str) -> Pass:
    upgrade = "upgrade" in [word.strip().lower() for word in _words(request, "connection")]
    upgrade = upgrade and request.one("upgrade").lower() == "websocket"
    kept = [(name, value) for name, value in request.headers if name.lower() not in HOP]
    shown = [
        f"{name}={value}"
        for name, value in _cookie_pairs(request)
        if name and not name.startswith(OURS_AND_JUPYTERS)
    ]
    if shown:
        kept.append(("Cookie", "; ".join(shown)))
    kept.append(("Connection", "Upgrade" if upgrade else "close"))
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in kept)]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return Pass(head, None if upgrade else _body_length(request))


def _words(request: _Request, name: str) -> list[str]:
    return [word for value in request.all(name) for word in value.split(",")]


def _body_length(request: _Request) -> int:
    if request.all("transfer-encoding"):
        raise _No("411 Length Required", "the request does not say how long it is")
    length = request.one("content-length")
    if not length:
        return 0
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise _No("400 Bad Request", "the request's length is odd")
    return int(length)


def link(address: str, secret: str) -> str:
    """The address that lets a browser in."""
    return f"{address}?{urlencode({QUERY: secret})}"


def closing(head: bytes) -> bytes:
    """A program's answer up to and with its empty line, told to end its connection."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [
        line
        for line in lines
        if line.partition(b":")[0].strip().lower() not in (b"connection", b"keep-alive")
    ]
    return b"\r\n".join([first, *kept, b"Connection: close"]) + b"\r\n\r\n"
