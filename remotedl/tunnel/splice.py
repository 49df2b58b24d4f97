"""One connection: bytes copied both ways between a client's socket and a stream of the host.

Knows nothing of listeners, links and reconnecting. Two threads a connection (a `Stream` blocks),
at most one chunk in memory each way: who reads slowly slows the writer at the far end down.

Each direction ends by itself: end-of-file is passed on as end-of-file, and the other direction
goes on (an HTTP/1.0 client shuts its side down and then reads). A host's end that takes no more
ends that direction only: a server may answer and close before it has read the whole request. Any
other error ends both at once, and the client then gets a reset and never a clean end: a cut
download must not look like a whole one.

What limits it (benchmarks/tunnel_throughput.py): over the fast lane (ssh/system.py) throughput is
ssh's own, and each direction adds one turn of a Python thread to an echo, some 25 us of processor
time, most of it in the kernel. Over Python's SSH it is the interpreter lock: the reader of the
connection, and both threads here, take turns.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
from collections.abc import Callable

from remotedl.errors import RemotedlError
from remotedl.ssh.remote import Stream
from remotedl.tunnel.entrance import PATIENCE_S, Refusal, Why
from remotedl.tunnel.workers import Workers

CHUNK = 256 * 1024
"""Bytes copied at once in a long transfer."""
SIP = 16 * 1024
"""Bytes copied at once otherwise: what is asked for is allocated, and big pieces cost an mmap."""
LOOK_UP_MS = 250
"""How often a writer that waits for its client checks that the connection is still wanted."""
CAN_LOOK_UP = sys.platform != "win32"
START = 16
"""So many of a client's first bytes are kept, to tell what it speaks."""
WORDLESS = "it hung up without a word"
Explanation = Callable[[bytes, Refusal], bytes]
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Splice:
    """A client's socket and a host's stream. `run` once; `abort` from any thread."""

    def __init__(
        self,
        client: socket.socket,
        stream: Stream,
        explanation: Explanation = lambda start, refusal: b"",
    ) -> None:
        """`explanation` makes of a client's first bytes what it is told when the host says nothing.

        b"" where there is nothing to be told.
        """
        self._client = client
        self._stream = stream
        self._explanation = explanation
        self._explained = False
        self._start = b""
        self._spoke = threading.Event()
        self._ending = threading.Lock()  # a descriptor must not be closed under an abort's hands
        self._aborted = False
        self.to_remote = 0
        self.to_laptop = 0
        self.error = ""
        """Why it was aborted, where it was."""

    def run(self, workers: Workers) -> None:
        """Copy until both directions have ended, one of them in a thread of `workers`.

        Closes both sides; raises nothing.
        """
        ended = threading.Lock()
        ended.acquire()

        def down() -> None:
            self._guard(self._down)
            ended.release()

        try:
            workers.do(down)
        except RuntimeError as exc:  # no more threads to be had
            self.abort(str(exc))
        else:
            self._guard(self._up)
            ended.acquire()
        self.close()

    def close(self) -> None:
        """Close both sides; for a splice that is not run."""
        self._stream.close()
        with self._ending:
            self._client.close()

    def abort(self, reason: str) -> None:
        """End both directions now; the client gets a reset."""
        with self._ending:
            if self._aborted:
                return
            self.error, self._aborted = reason, True
            _reset_on_close(self._client)
            # SHUT_RD wakes our reader and sends nothing. SHUT_WR would send a clean end: a writer
            # that is stuck behind a client that does not read looks up by itself (_send).
            _shut(self._client, socket.SHUT_RD if CAN_LOOK_UP else socket.SHUT_RDWR)
        self._stream.close()

    def _guard(self, pump: Callable[[], None]) -> None:
        try:
            pump()
        except (OSError, RemotedlError) as exc:
            self.abort(str(exc) or type(exc).__name__)

    def _up(self) -> None:
        """Laptop to host."""
        size = SIP
        while data := self._client.recv(size):
            size = CHUNK if len(data) >= SIP else SIP
            if not self._spoke.is_set():
                self._start = data[:START]
                self._spoke.set()
            if self._explained:
                continue  # unread bytes at the close would cost the client the explanation
            try:
                self._stream.sendall(data)
            except RemotedlError:
                if self._explained or not self.to_laptop:
                    continue
                return  # if the link is gone, the other direction meets that as well
            self.to_remote += len(data)
        self._spoke.set()
        if not self._aborted:
            self._stream.shutdown_write()

    def _down(self) -> None:
        """Host to laptop."""
        try:
            size = SIP
            while data := self._stream.recv(size):
                size = CHUNK if len(data) >= SIP else SIP
                self._send(data)
                self.to_laptop += len(data)
        except RemotedlError as exc:
            if self.to_laptop or not self._explain(Refusal(Why.NO_LINK, exc.message)):
                raise
            return
        if not self.to_laptop and self._explain(Refusal(Why.REFUSED, WORDLESS)):
            return
        if not self._aborted:
            _shut(self._client, socket.SHUT_WR)

    def _explain(self, refusal: Refusal) -> bool:
        """The host hung up without a word: whether the client was given one that it understands.

        The door to a port accepts for a program that does not run yet, and OpenSSH's
        forwards accept for targets that refuse.
        """
        if not self._aborted:
            self._spoke.wait(PATIENCE_S)
        page = b"" if self._aborted else self._explanation(self._start, refusal)
        if not page:
            return False
        self._explained = True
        self.error = refusal.reason
        self._stream.close()
        self._send(page)
        _shut(self._client, socket.SHUT_WR)
        return True

    def _send(self, data: bytes) -> None:
        """All of it to the client, looking up now and then to see whether we were aborted."""
        if sys.platform == "win32":  # it cannot ask for a send that does not wait
            return self._client.sendall(data)
        sent = 0
        while sent < len(data) and not self._aborted:
            rest = memoryview(data)[sent:] if sent else data
            try:
                sent += self._client.send(rest, socket.MSG_DONTWAIT)
            except BlockingIOError:
                room = select.poll()
                room.register(self._client, select.POLLOUT)
                room.poll(LOOK_UP_MS)
        return None


def _reset_on_close(client: socket.socket) -> None:
    """Let the next `close` send a reset in place of a clean end (unix sockets have none)."""
    if client.family != getattr(socket, "AF_UNIX", None):
        try:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        except OSError:
            pass  # gone already


def _shut(client: socket.socket, how: int) -> None:
    try:
        client.shutdown(how)
    except OSError:
        pass  # the other side was faster
