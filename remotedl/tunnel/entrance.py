"""How a client of a tunnel is received before its bytes flow: what it wants, and what it hears.

`PlainEntrance` is for tunnels with one target; `socks.py` has the other one. Waiting for the link
and counting are the tunnel's; nothing here decides when to give up.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from remotedl.ssh.remote import Stream
from remotedl.tunnel import refusal

PROGRAM_S = 60.0
"""How long a page's own requests and websockets wait for the link. Nobody would see why they are
refused, and JupyterLab answers a refusal with a dialog, which takes the keyboard away: what is
typed while the link is gone would be lost."""
PATIENCE_S = 1.0
"""How long a client that is refused may take to say what it speaks."""
LONGEST_HEAD = 64 * 1024

Dial = Callable[[], Stream]
Link_contra = TypeVar("Link_contra", contravariant=True)


class Why(Enum):
    """Why a client cannot be connected."""

    NO_LINK = "no link"
    """The link to the host is gone and did not come back in time."""
    REFUSED = "refused"
    """The link stands; nothing answers at its far end."""


@dataclass(frozen=True, slots=True)
class Refusal:
    why: Why
    reason: str


class Answered(Exception):
    """A client that has all that it gets, without the host."""

    def __init__(self, refused: str = "") -> None:
        """`refused`: why; "" where nothing was wrong."""
        super().__init__(refused)
        self.refused = refused


class Caller(Protocol[Link_contra]):
    """One client whose wish is known."""

    @property
    def patience_s(self) -> float:
        """How long it may wait for the link, beyond the tunnel's own grace."""
        ...

    def dial(self, link: Link_contra) -> Stream:
        """What it wants, over `link`. Raises TunnelError, LinkLost."""
        ...

    def welcome(self) -> None:
        """Tell the client that it is connected."""
        ...

    def refuse(self, refusal: Refusal) -> None:
        """Tell the client, as far as its protocol has words for it. May raise OSError."""
        ...

    def explanation(self, start: bytes, refusal: Refusal) -> bytes:
        """The same for a client that was connected and began with `start`; b"": no words."""
        ...


class Entrance(Protocol[Link_contra]):
    """Receives clients. One serves a tunnel; `greet` is called in many threads."""

    def greet(self, client: socket.socket) -> Caller[Link_contra]:
        """Learn what the client wants. Raises OSError when it makes no sense, Answered."""
        ...


@dataclass(frozen=True, slots=True)
class PlainEntrance:
    """One target for all: nothing to be asked, and HTTP clients are refused with a page."""

    name: str
    host: str

    def greet(self, client: socket.socket) -> Caller[Dial]:
        return _PlainCaller(client, self.name, self.host)


@dataclass(frozen=True, slots=True)
class _PlainCaller:
    client: socket.socket
    name: str
    host: str

    @property
    def patience_s(self) -> float:
        return PROGRAM_S if refusal.is_of_a_page(_peek(self.client)) else 0.0

    def dial(self, link: Dial) -> Stream:
        return link()

    def welcome(self) -> None:
        pass

    def refuse(self, refused: Refusal) -> None:
        self.client.settimeout(PATIENCE_S)
        if not _read_http_head(self.client):
            return
        self.client.sendall(explained(self.name, self.host, refused))
        self.client.shutdown(socket.SHUT_WR)
        # Closing with unread bytes would send a reset, and the client would lose the page.
        while self.client.recv(LONGEST_HEAD):
            pass

    def explanation(self, start: bytes, refused: Refusal) -> bytes:
        return explained(self.name, self.host, refused) if refusal.is_http(start) else b""


def explained(name: str, host: str, refused: Refusal) -> bytes:
    """The page about a tunnel that cannot be connected."""
    if refused.why is Why.NO_LINK:
        return refusal.reconnecting(name, host)
    return refusal.not_answering(name, host, refused.reason)


def _peek(client: socket.socket) -> bytes:
    """What it has said already, without taking it: these bytes are the host's."""
    limit_s = client.gettimeout()
    try:
        client.setblocking(False)
        return client.recv(LONGEST_HEAD, socket.MSG_PEEK)
    except OSError:
        return b""
    finally:
        client.settimeout(limit_s)


def _read_http_head(client: socket.socket) -> bool:
    """Read a request's head; False as soon as this is no HTTP."""
    head = b""
    while len(head) < LONGEST_HEAD and b"\r\n\r\n" not in head:
        data = client.recv(4096)
        head += data
        if not data or refusal.is_http(head) is False:
            return False
    return True
