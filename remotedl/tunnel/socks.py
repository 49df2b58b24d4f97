"""The server's side of SOCKS5 (RFC 1928), for `-D`: each client names its own target.

CONNECT only, no authentication (the listener is on loopback), names resolved on the host. Who
speaks anything else is told so where the protocol has a word for it, and closed.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass

from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Stream
from remotedl.tunnel.entrance import Caller, Refusal, Why
from remotedl.tunnel.tunnel import GRACE_S, LIMIT, Tunnel, TunnelWish, start_tunnel

DialTo = Callable[[str, int], Stream]

VERSION = 5
NO_AUTHENTICATION = 0
NO_METHOD = 0xFF
CONNECT = 1
IPV4, DOMAIN, IPV6 = 1, 3, 4

SUCCEEDED = 0
NETWORK_UNREACHABLE = 3
CONNECTION_REFUSED = 5
COMMAND_NOT_SUPPORTED = 7
ADDRESS_NOT_SUPPORTED = 8
ANSWERS = {Why.NO_LINK: NETWORK_UNREACHABLE, Why.REFUSED: CONNECTION_REFUSED}


def open_socks(
    wish: TunnelWish,
    dial: DialTo | None,
    *,
    report: Report = SILENT,
    grace_s: float = GRACE_S,
    limit: int = LIMIT,
) -> Tunnel[DialTo]:
    """A SOCKS5 listener whose clients come out on the host. Raises TunnelError."""
    return start_tunnel(wish, SocksEntrance(), dial, report=report, grace_s=grace_s, limit=limit)


class SocksEntrance:
    """Asks each client where it wants to go."""

    def greet(self, client: socket.socket) -> Caller[DialTo]:
        version, count = _exactly(client, 2)
        if version != VERSION:
            raise ConnectionError(f"a client spoke no SOCKS5 (its first byte is {version})")
        if NO_AUTHENTICATION not in _exactly(client, count):
            client.sendall(bytes((VERSION, NO_METHOD)))
            raise ConnectionError("a SOCKS client insists on a password")
        client.sendall(bytes((VERSION, NO_AUTHENTICATION)))
        _, command, _, kind = _exactly(client, 4)
        if kind not in (IPV4, DOMAIN, IPV6):
            _answer(client, ADDRESS_NOT_SUPPORTED)
            raise ConnectionError(f"a SOCKS client named an address of the unknown kind {kind}")
        address, port = _address(client, kind), int.from_bytes(_exactly(client, 2), "big")
        if command != CONNECT:
            _answer(client, COMMAND_NOT_SUPPORTED)
            raise ConnectionError(f"a SOCKS client asked for command {command}, not CONNECT")
        return _SocksCaller(client, address, port)


@dataclass(frozen=True, slots=True)
class _SocksCaller:
    client: socket.socket
    address: str
    port: int

    @property
    def patience_s(self) -> float:
        return 0.0

    def dial(self, link: DialTo) -> Stream:
        return link(self.address, self.port)

    def welcome(self) -> None:
        _answer(self.client, SUCCEEDED)

    def refuse(self, refusal: Refusal) -> None:
        _answer(self.client, ANSWERS[refusal.why])

    def explanation(self, start: bytes, refusal: Refusal) -> bytes:
        return b""  # what it was told is that it is connected


def _address(client: socket.socket, kind: int) -> str:
    if kind == IPV4:
        return str(ipaddress.IPv4Address(_exactly(client, 4)))
    if kind == IPV6:
        return str(ipaddress.IPv6Address(_exactly(client, 16)))
    (length,) = _exactly(client, 1)
    return _exactly(client, length).decode("ascii", "replace")


def _answer(client: socket.socket, code: int) -> None:
    """An answer that names 0.0.0.0:0 as our end, which clients do not look at."""
    client.sendall(bytes((VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0)))


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            raise ConnectionError("a SOCKS client hung up in mid-greeting")
        data += part
    return data
