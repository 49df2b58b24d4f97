"""Listening sockets on the laptop: the wished port, or the next free one.

Only binds; knows nothing of links and connections.

Where nobody says otherwise the listener is 127.0.0.1 and nothing else. [::1] is not bound as
well: `remotedl` prints 127.0.0.1 addresses, browsers that try ::1 for "localhost" fall back when
it refuses, and "nothing of ours but on 127.0.0.1" stays a line that `ss -ltn` can check. But a
port that someone else holds on [::1] counts as taken, or http://localhost:8888 would carry our
Jupyter token to a stranger. BIND `localhost` binds both families.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from dataclasses import dataclass

from remotedl.errors import TunnelError
from remotedl.tunnel.forward import LOOPBACK, Place, TcpPlace, UnixPlace

BACKLOG = 512
TRIES = 100
"""Ports looked at above the wished one before the system picks any."""
EVERYWHERE = ("*", "")
V6_LOOPBACK = "::1"
WINDOWS = sys.platform == "win32"

Address = tuple[socket.AddressFamily, str]


@dataclass(frozen=True, slots=True)
class Bound:
    """Listening sockets at one place; `moved_from` is the wished port where it was taken."""

    sockets: tuple[socket.socket, ...]
    place: Place
    moved_from: int | None = None

    def close(self) -> None:
        for listener in self.sockets:
            listener.close()
        if isinstance(self.place, UnixPlace):
            try:
                os.unlink(self.place.path)
            except FileNotFoundError:
                pass


def bind(place: Place, *, may_move: bool = True) -> Bound:
    """Listen at `place`; port 0 is any free one. Raises TunnelError."""
    if isinstance(place, UnixPlace):
        return _bind_unix(place)
    addresses = _addresses(place.host)
    taken: OSError | None = None
    for port in _candidates(place.port, may_move):
        try:
            sockets = _bind_all(addresses, port)
        except OSError as exc:
            if not _is_taken(exc, port):
                raise _refusal(place, exc) from exc
            taken = taken or exc
            continue
        landed = sockets[0].getsockname()[1]
        moved = place.port if place.port not in (0, landed) else None
        return Bound(sockets, TcpPlace(place.host, landed), moved)
    raise _refusal(place, taken or OSError(errno.EADDRINUSE, "address in use")) from taken


def is_loopback(place: Place) -> bool:
    """True if only this laptop can reach a listener at `place`."""
    if isinstance(place, UnixPlace) or place.host is None:
        return True
    return place.host in ("localhost", V6_LOOPBACK) or place.host.startswith("127.")


def _candidates(port: int, may_move: bool) -> list[int]:
    if port == 0 or not may_move:
        return [port]
    return [*range(port, min(port + TRIES, 65535) + 1), 0]


def _addresses(host: str | None) -> list[Address]:
    if host is None:
        return [(socket.AF_INET, LOOPBACK)]
    if host in EVERYWHERE:
        return _with_v6([(socket.AF_INET, "0.0.0.0")], "::")
    if host == "localhost":
        return _with_v6([(socket.AF_INET, LOOPBACK)], V6_LOOPBACK)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        raise TunnelError(
            f"cannot listen on {host}: this laptop cannot resolve that name ({exc})",
            hint=f"use an address of this laptop, or leave it out for {LOOPBACK}",
        ) from exc
    return sorted({(family, str(address[0])) for family, _, _, _, address in found})


def _with_v6(addresses: list[Address], v6: str) -> list[Address]:
    return [*addresses, (socket.AF_INET6, v6)] if _has_v6() else addresses


def _has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((V6_LOOPBACK, 0))
    except OSError:
        return False
    return True


def _bind_all(addresses: list[Address], port: int) -> tuple[socket.socket, ...]:
    """One port on every address, or none at all."""
    _check_v6_neighbour(addresses, port)
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            listener = _bind_one(family, address, port)
            sockets.append(listener)
            port = listener.getsockname()[1]
    except OSError:
        for listener in sockets:
            listener.close()
        raise
    return tuple(sockets)


def _bind_one(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # SO_REUSEADDR would let two programs share the port there
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # connections in TIME_WAIT must not keep a restarted session off its port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _check_v6_neighbour(addresses: list[Address], port: int) -> None:
    """Raise EADDRINUSE when somebody else answers on [::1] at this port (see the docstring)."""
    if port == 0 or addresses != [(socket.AF_INET, LOOPBACK)] or not _has_v6():
        return
    try:
        _bind_one(socket.AF_INET6, V6_LOOPBACK, port).close()
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise


def _is_taken(exc: OSError, port: int) -> bool:
    # Windows answers EACCES for a port that another program holds exclusively.
    held = WINDOWS and exc.errno == errno.EACCES and port >= 1024
    return exc.errno == errno.EADDRINUSE or held


def _refusal(place: TcpPlace, exc: OSError) -> TunnelError:
    if exc.errno in (errno.EACCES, errno.EPERM):
        free = place.port + 8000 if place.port < 1024 else 8080
        return TunnelError(
            f"cannot listen on {place}: ports below 1024 are the administrator's",
            hint=f"take a port from 1024 on, {free} for example",
        )
    if exc.errno == errno.EADDRNOTAVAIL:
        return TunnelError(
            f"cannot listen on {place}: this laptop has no such address",
            hint=f"use an address of this laptop, or leave it out for {LOOPBACK}",
        )
    if exc.errno == errno.EADDRINUSE:
        return TunnelError(
            f"cannot listen on {place}: the port is taken by another program",
            hint="choose another port, or end that program",
        )
    return TunnelError(f"cannot listen on {place}: {exc.strerror or exc}")


def _bind_unix(place: UnixPlace) -> Bound:
    """A socket file that only this user can open. A dead one of the same name is replaced."""
    if sys.platform == "win32":
        raise TunnelError(
            f"cannot listen on {place}: unix sockets are not to be had on this laptop",
            hint="use a port instead",
        )
    path = os.path.abspath(os.path.expanduser(place.path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead_socket(path)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        why = "it exists already" if exc.errno == errno.EADDRINUSE else exc.strerror or exc
        raise TunnelError(
            f"cannot listen on {path}: {why}",
            hint="choose a path in a folder of yours that is not taken, 100 bytes at most",
        ) from exc
    return Bound((listener,), UnixPlace(path))


def _remove_dead_socket(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
