"""OpenSSH's multiplexing, spoken to a master of our own: forwarded connections as unix sockets.

A master (`ssh -M`, see `system.py`) takes requests on a unix socket. It is asked for one local
forward a target, which listens on a unix socket in the same private folder; a connection to that
is a connection to the target, moved by ssh at its own speed. Source: PROTOCOL.mux and mux.c.

Decision: not the "stdio forward" behind `ssh -W`, which would tell whether the target accepts.
It ends both directions as soon as the host has ended its own (force_drain in channels.c), and a
host that hangs up first may still want to read. POSIX only; starts no process.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from remotedl.errors import LinkLost

VERSION = 4
HELLO = 0x00000001
ALIVE_CHECK = 0x10000004
OPEN_FORWARD = 0x10000006
ALIVE = 0x80000005
OK = 0x80000001
LOCAL = 1
UNIX_SOCKET = 0xFFFFFFFE
"""In the place of a port: the name beside it is a path."""
NUMBER = struct.Struct(">I")
REQUEST_ID = 1
LONGEST_ANSWER = 64 * 1024
ANSWER_LIMIT_S = 10.0
MOST_TARGETS = 64
"""Each keeps a listener open in the master; a SOCKS client may name any number."""


class NoForward(Exception):
    """The master opens no such forward."""


class Master:
    """A client's view of a running master. All calls may come from any thread."""

    def __init__(self, control: Path) -> None:
        """Meet it. Raises OSError while there is none."""
        self._folder = control.parent
        self._asking = threading.Lock()
        self._paths: dict[tuple[str, int], str] = {}
        self._lost = False
        self._control = _connect(str(control))
        try:
            self._control.sendall(_packet(HELLO, VERSION))
            if _read_packet(self._control)[:8] != NUMBER.pack(HELLO) + NUMBER.pack(VERSION):
                raise ConnectionError("the master speaks another protocol")
        except OSError:
            self._control.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the master runs, as far as the system knows. Never waits."""
        if not self._lost:
            look = select.poll()
            try:
                look.register(self._control, 0)  # nothing but a hang-up or an error
                self._lost = bool(look.poll(0))
            except (OSError, ValueError):  # closed by us
                self._lost = True
        return not self._lost

    def answers(self) -> bool:
        """Whether the master runs, by its own word.

        Asked after each end-of-file, since a link that is gone must not look like a clean end,
        and a master that exits closes one descriptor after the other.
        """
        with self._asking:
            if self.alive:
                try:
                    self._control.sendall(_packet(ALIVE_CHECK, REQUEST_ID))
                    self._lost = _read_packet(self._control)[:4] != NUMBER.pack(ALIVE)
                except OSError:
                    self._lost = True
            return not self._lost

    def dial(self, address: str, port: int) -> SocketStream:
        """`port` UNIX_SOCKET: the address is a path. Raises NoForward, LinkLost.

        A target that refuses shows as an end without a word.
        """
        path = self._path_to(address, port)
        try:
            end = _connect(path)
        except OSError as exc:
            raise LinkLost("the system's ssh has ended") from exc
        end.settimeout(None)
        return SocketStream(end, self.answers)

    def close(self) -> None:
        self._control.close()

    def _path_to(self, address: str, port: int) -> str:
        with self._asking:
            path = self._paths.get((address, port))
            if path is None:
                if len(self._paths) >= MOST_TARGETS:
                    raise NoForward
                path = str(self._folder / str(len(self._paths)))
                self._ask_for(path, address, port)
                self._paths[address, port] = path
            return path

    def _ask_for(self, path: str, address: str, port: int) -> None:
        there = (path.encode(), UNIX_SOCKET, address.encode(), port)
        try:
            self._control.sendall(_packet(OPEN_FORWARD, REQUEST_ID, LOCAL, *there))
            answer = _read_packet(self._control)
        except OSError as exc:
            raise LinkLost("the system's ssh has ended") from exc
        if answer[:4] != NUMBER.pack(OK):
            raise NoForward


class SocketStream:
    """A forwarded connection as a Stream."""

    def __init__(self, end: socket.socket, link_lives: Callable[[], bool]) -> None:
        self._end = end
        self._link_lives = link_lives
        self._closed = False

    def recv(self, size: int) -> bytes:
        try:
            data = self._end.recv(size)
        except OSError as exc:
            if self._closed:
                return b""
            raise LinkLost("the connection ended") from exc
        if not data and not self._closed and not self._link_lives():
            raise LinkLost("the connection ended")
        return data

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._end.sendall(data)
        except OSError as exc:
            raise LinkLost("the other side reads no more") from exc

    def shutdown_write(self) -> None:
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # ended already

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._end.shutdown(socket.SHUT_RDWR)  # wakes whoever reads or writes
        except OSError:
            pass
        self._end.close()


def _connect(path: str) -> socket.socket:
    """Raises OSError."""
    end = socket.socket(socket.AF_UNIX)
    try:
        end.settimeout(ANSWER_LIMIT_S)
        end.connect(path)
    except OSError:
        end.close()
        raise
    return end


def _packet(*fields: int | bytes) -> bytes:
    body = b"".join(
        NUMBER.pack(field) if isinstance(field, int) else NUMBER.pack(len(field)) + field
        for field in fields
    )
    return NUMBER.pack(len(body)) + body


def _read_packet(control: socket.socket) -> bytes:
    """Raises OSError, at the end as well."""
    (length,) = NUMBER.unpack(_exactly(control, NUMBER.size))
    if length > LONGEST_ANSWER:
        raise ConnectionError("the master speaks another protocol")
    return _exactly(control, length)


def _exactly(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = control.recv(size - len(data))
        if not part:
            raise ConnectionError("the master hung up")
        data += part
    return data
