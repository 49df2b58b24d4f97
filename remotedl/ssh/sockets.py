"""What SSH is spoken over where it is no TCP socket: a jump host's channel, a ProxyCommand."""

from __future__ import annotations

import errno
import socket
import subprocess
import threading
import time

from remotedl.errors import LinkLost
from remotedl.ssh.channel import Channel


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
    """The stdin and stdout of a ProxyCommand; the command ends with it. Not for Windows."""

    def __init__(self, command: str) -> None:
        """Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            # The user's own configuration; ssh hands it to a shell as well.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno()
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        super().__init__(fileno=ours.detach())

    def close(self) -> None:
        super().close()
        if self._process.poll() is None:
            self._process.terminate()
            threading.Thread(target=self._process.wait, daemon=True).start()
