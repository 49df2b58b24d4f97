"""What SSH is spoken over where it is no TCP socket: a jump host's channel, a ProxyCommand."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
import time

from remotedl.errors import LinkLost
from remotedl.ssh.channel import Channel

CHUNK = 64 * 1024


class ChannelSocket:
    """A channel, with those methods of a socket that paramiko calls."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._timeout_s: float | None = None
        self._closed = False

    def settimeout(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s

    def recv(self, size: int) -> bytes:
        """Raises TimeoutError."""
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        try:
            return self._channel.recv(size, deadline)
        except LinkLost:
            return b""

    def recv_into(self, buffer: memoryview) -> int:
        """Raises TimeoutError."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview) -> int:
        try:
            self._channel.sendall(data)
        except LinkLost as exc:
            raise OSError(errno.EPIPE, "the jump host has closed the way") from exc
        return len(data)

    def shutdown(self, how: int) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        try:
            self._channel.close()
        except LinkLost:
            pass


class ProxiedSocket(socket.socket):
    """The stdin and stdout of a ProxyCommand; the command ends with it."""

    def __init__(self, command: str, *, piped: bool = sys.platform == "win32") -> None:
        """`piped`: where a process cannot have a socket for its stdin. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            self._process = _run_piped(command, theirs) if piped else _run_on(command, theirs)
        except OSError:
            ours.close()
            theirs.close()
            raise
        super().__init__(fileno=ours.detach())

    def close(self) -> None:
        super().close()
        if self._process.poll() is None:
            self._process.terminate()
            threading.Thread(target=self._process.wait, daemon=True).start()


def _run_on(command: str, end: socket.socket) -> subprocess.Popen[bytes]:
    # The user's own configuration; ssh hands it to a shell as well.
    argv = ["/bin/sh", "-c", f"exec {command}"]
    process = subprocess.Popen(argv, stdin=end.fileno(), stdout=end.fileno())
    end.close()
    return process


def _run_piped(command: str, end: socket.socket) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, shell=True, stdin=pipe, stdout=pipe, bufsize=0)  # noqa: S602
    for pump in (_into_process, _from_process):
        threading.Thread(target=pump, args=(process, end), daemon=True).start()
    return process


def _into_process(process: subprocess.Popen[bytes], end: socket.socket) -> None:
    assert process.stdin is not None
    try:
        while data := end.recv(CHUNK):
            process.stdin.write(data)
    except OSError:
        pass
    process.stdin.close()


def _from_process(process: subprocess.Popen[bytes], end: socket.socket) -> None:
    assert process.stdout is not None
    try:
        while data := process.stdout.read(CHUNK):
            end.sendall(data)
    except OSError:
        pass
    process.stdout.close()
    end.close()
