"""OpenSSH's multiplexing, spoken to a master of our own: forwarded connections as pipes.

A master (`ssh -M`, see `system.py`) takes requests on a unix socket. "stdio forward" is the one
behind `ssh -W`: it is handed two descriptors, and moves the bytes between them and a channel
itself, at its own speed. Here they are the ends of two pipes, so that end-of-file can be told in
each direction. Source: PROTOCOL.mux and mux.c of OpenSSH. POSIX only; starts no process.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from remotedl.errors import LinkLost

VERSION = 4
HELLO = 0x00000001
NEW_STDIO_FORWARD = 0x10000008
SESSION_OPENED = 0x80000006
NUMBER = struct.Struct(">I")
REQUEST_ID = 1
MEETING_LIMIT_S = 10.0
LONGEST_ANSWER = 64 * 1024
BIG = 32 * 1024
BIG_PIPE = 1 << 20


class Refused(Exception):
    """The master, or the host behind it, does not open the connection; it does not say why."""


class Master:
    """A client's view of a running master."""

    def __init__(self, path: Path) -> None:
        """Meet it. Raises OSError while there is none."""
        self._path = str(path)
        self._standing = self._meet()
        self._standing.setblocking(False)
        self._late: list[socket.socket] = []
        self._lost = False

    @property
    def alive(self) -> bool:
        """Asked after each end-of-file: a link that is gone must not look like a clean end.

        The master's end of this connection is its oldest descriptor but a few, so the system
        closes it before those of the forwarded connections when the master exits.
        """
        if not self._lost:
            try:
                self._lost = self._standing.recv(1) == b""
            except BlockingIOError:
                pass
            except OSError:
                self._lost = True
        return not self._lost

    def fileno(self) -> int:
        """Readable when the master has gone."""
        return self._standing.fileno()

    def dial(self, address: str, port: int, timeout_s: float) -> PipeStream:
        """Raises Refused, LinkLost, TimeoutError, OSError (no more descriptors)."""
        down_out, down_in = os.pipe()
        up_out, up_in = os.pipe()
        try:
            for theirs in (up_out, down_in):  # or one slow client would stop the whole master
                os.set_blocking(theirs, False)
            control = self._request(address, port, (up_out, down_in))
            self._await_opened(control, timeout_s)
        except BaseException:
            os.close(down_out)
            os.close(up_in)
            raise
        finally:
            os.close(up_out)
            os.close(down_in)
        return PipeStream(down_out, up_in, control, lambda: self.alive)

    def close(self) -> None:
        self._standing.close()
        for control in self._late:
            control.close()

    def _meet(self) -> socket.socket:
        control = self._connect(HELLO_PACKET)
        try:
            _read_hello(control)
        except OSError:
            control.close()
            raise
        return control

    def _request(self, address: str, port: int, ends: tuple[int, int]) -> socket.socket:
        """Everything is said at once: each wait for an answer would cost two turns of processes."""
        wish = _packet(NEW_STDIO_FORWARD, REQUEST_ID, b"", address.encode(), port)
        try:
            control = self._connect(HELLO_PACKET + wish)
        except OSError as exc:
            raise LinkLost("the system's ssh has ended") from exc
        try:
            for end in ends:
                socket.send_fds(control, [b"\0"], [end])
        except OSError as exc:
            control.close()
            raise LinkLost("the system's ssh has ended") from exc
        return control

    def _connect(self, first: bytes) -> socket.socket:
        control = socket.socket(socket.AF_UNIX)
        try:
            control.settimeout(MEETING_LIMIT_S)
            control.connect(self._path)
            control.sendall(first)
        except OSError:
            control.close()
            raise
        return control

    def _await_opened(self, control: socket.socket, timeout_s: float) -> None:
        control.settimeout(timeout_s)
        try:
            _read_hello(control)
            answer = _read_packet(control)
        except TimeoutError:
            # The master dies of an answer whose asker has hung up meanwhile (mux_stdio_confirm).
            self._late.append(control)
            raise
        except OSError as exc:
            control.close()
            raise LinkLost("the system's ssh has ended") from exc
        if answer[:4] != NUMBER.pack(SESSION_OPENED):
            control.close()
            raise Refused


class PipeStream:
    """A forwarded connection as a Stream: one pipe each way, and the master's control socket."""

    def __init__(
        self, down: int, up: int, control: socket.socket, alive: Callable[[], bool]
    ) -> None:
        self._down = _End(down)
        self._up = _End(up)
        self._control = control
        self._alive = alive
        self._closed = False

    def recv(self, size: int) -> bytes:
        descriptor = self._down.enter()
        if descriptor is None:
            return b""
        try:
            data = os.read(descriptor, size)
            if len(data) >= BIG:
                self._down.grow()
        finally:
            self._down.leave()
        if not data and not self._closed and not self._alive():
            raise LinkLost("the connection ended")
        return data

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        descriptor = self._up.enter()
        if descriptor is None:
            raise LinkLost("the stream is closed")
        view = memoryview(data).cast("B")
        try:
            if len(view) >= BIG:
                self._up.grow()
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as exc:
            raise LinkLost("the other side reads no more") from exc
        finally:
            self._up.leave()

    def shutdown_write(self) -> None:
        self._up.close()

    def close(self) -> None:
        """The master lets go of its ends when the control socket ends, which wakes our threads."""
        if self._closed:
            return
        self._closed = True
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the master was faster
        self._control.close()
        self._up.close()
        self._down.close()

    def __del__(self) -> None:
        self.close()


class _End:
    """A descriptor that is closed by the last thread that uses it, so never under one's hands."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False
        self._grown = False

    def enter(self) -> int | None:
        with self._lock:
            if self._closing:
                return None
            self._users += 1
            return self.descriptor

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closing and self._users == 0
        if last:
            os.close(self.descriptor)

    def grow(self) -> None:
        """A long transfer: a bigger pipe means fewer turns of both processes. While entered."""
        if self._grown or sys.platform != "linux":
            return
        self._grown = True
        import fcntl

        try:
            fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, BIG_PIPE)
        except OSError:
            pass  # the user's share of pipe memory is spent

    def close(self) -> None:
        with self._lock:
            if self._closing:
                return
            self._closing = True
            if self._users:
                return
        os.close(self.descriptor)


def _packet(*fields: int | bytes) -> bytes:
    body = b"".join(
        NUMBER.pack(field) if isinstance(field, int) else NUMBER.pack(len(field)) + field
        for field in fields
    )
    return NUMBER.pack(len(body)) + body


HELLO_PACKET = _packet(HELLO, VERSION)


def _read_hello(control: socket.socket) -> None:
    """Raises OSError."""
    if _read_packet(control)[:8] != HELLO_PACKET[4:12]:
        raise ConnectionError("the master speaks another protocol")


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
