"""The laptop's end of a relay: streams and listeners over one command that runs on the host.

For hosts whose sshd forbids forwarding, and for listeners on the host (-R), which `Remote` does
not know. The other end is payload/relay.py; its docstring says how the frames go. Opens no
connection: it is given a `Remote`, starts one process on it and lives as long as that.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable
from importlib import resources

from remotedl.errors import LinkLost, RemotedlError, TunnelError
from remotedl.ssh.remote import Process, Remote, Stream
from remotedl.tunnel.forward import LOOPBACK, Place, TcpPlace, UnixPlace
from remotedl.tunnel.payload.relay import (
    ACCEPTED,
    CHUNK,
    CLOSE,
    CREDIT,
    DATA,
    EOF,
    HEADER,
    LISTEN,
    MAGIC,
    NUMBER,
    OPEN,
    OPENED,
    REFUSED,
    WINDOW,
    frame,
)

LONGEST_NOISE = 256 * 1024
ANSWER_LIMIT_S = 35.0
"""The host gives up a connect after 30 s."""
# Unbuffered, and exactly so many bytes: what follows the program on stdin are frames.
LOADER = """\
import os
n = int({size})
b = b""
while len(b) < n:
    p = os.read(0, n - len(b))
    if not p: raise SystemExit(1)
    b += p
exec(compile(b, "relay.py", "exec"))
"""

OnAccept = Callable[[Stream], None]


class Relay:
    """A running relay. All calls may come from any thread."""

    def __init__(self, remote: Remote, *, python: str = "python3") -> None:
        """Start it. Raises TunnelError where the host has no Python, LinkLost."""
        self._host = remote.name
        program = (resources.files("remotedl.tunnel") / "payload" / "relay.py").read_bytes()
        argv = [python, "-I", "-c", LOADER.format(size=len(program))]
        self._process: Process = remote.start(argv)
        self._sending = threading.Lock()
        self._changed = threading.Lock()
        self._numbers = itertools.count(1)
        self._streams: dict[int, RelayStream] = {}
        self._listeners: dict[int, OnAccept] = {}
        self._lost = False
        try:
            with contextlib.suppress(LinkLost):  # no Python there: it says so when it is read from
                self._process.sendall(program)
            self._rest = self._await_magic()
        except RemotedlError:
            self._process.close()
            raise
        self._reader = threading.Thread(target=self._read, name="tunnel relay", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return not self._lost

    def dial(self, address: str, port: int) -> Stream:
        """Connect to a TCP port as seen from the host. Raises TunnelError, LinkLost."""
        return self._dial(f"tcp\0{address}\0{port}", f"{address}:{port}")

    def dial_unix(self, path: str) -> Stream:
        """Connect to a unix socket on the host. Raises TunnelError, LinkLost."""
        return self._dial(f"unix\0{path}", path)

    def listen(self, place: Place, on_accept: OnAccept) -> Listening:
        """Listen on the host; `on_accept` is called in a thread for each connection.

        A listener that is not told where to bind is on the host's 127.0.0.1. Raises TunnelError,
        LinkLost.
        """
        wish = self._new_stream()
        with self._changed:
            self._listeners[wish.number] = on_accept
        try:
            answer = self._ask(wish, LISTEN, _address(place), f"cannot listen on {place}")
        except RemotedlError:
            with self._changed:
                self._listeners.pop(wish.number, None)
            raise
        finally:
            self.forget(wish.number)
        return Listening(self, wish.number, int.from_bytes(answer, "big"))

    def close(self) -> None:
        """End the host's end and every stream. Idempotent."""
        self._process.close()
        self._reader.join(5)
        self._end()

    # -- for Listening and RelayStream -----------------------------------------------------------

    def unlisten(self, number: int) -> None:
        with self._changed:
            self._listeners.pop(number, None)
        self.send(number, CLOSE)

    def send(self, number: int, kind: int, payload: bytes = b"") -> None:
        """Raises LinkLost."""
        if self._lost:
            raise self._lost_link()
        with self._sending:
            self._process.sendall(frame(number, kind, payload))

    def forget(self, number: int) -> None:
        with self._changed:
            self._streams.pop(number, None)

    # -- how it is done --------------------------------------------------------------------------

    def _dial(self, address: str, where: str) -> Stream:
        stream = self._new_stream()
        try:
            self._ask(stream, OPEN, address, f"{where} refused")
        except RemotedlError:
            self.forget(stream.number)
            raise
        return stream

    def _ask(self, stream: RelayStream, kind: int, address: str, failure: str) -> bytes:
        self.send(stream.number, kind, address.encode())
        answer = stream.answer(ANSWER_LIMIT_S)
        if answer is None:
            stream.close()
            raise TunnelError(f"{self._host}: {failure}: no answer in {ANSWER_LIMIT_S:g} s")
        answered, payload = answer
        if answered == REFUSED:
            raise TunnelError(f"{self._host}: {failure}: {payload.decode('utf-8', 'replace')}")
        return payload

    def _new_stream(self, number: int | None = None) -> RelayStream:
        with self._changed:
            if self._lost:
                raise self._lost_link()
            stream = RelayStream(self, next(self._numbers) if number is None else number)
            self._streams[stream.number] = stream
            return stream

    def _await_magic(self) -> bytearray:
        """What follows the magic; skips whatever a chatty shell has printed before it."""
        data = bytearray()
        while MAGIC not in data:
            part = self._process.recv(CHUNK)
            if not part or len(data) > LONGEST_NOISE:
                raise TunnelError(
                    f"{self._host}: the relay did not start: {self._complaint()}",
                    hint="the relay needs Python 3.8 or newer as python3 on the host",
                )
            data += part
        return data[data.index(MAGIC) + len(MAGIC) :]

    def _complaint(self) -> str:
        said = self._process.recv_stderr(4096).decode("utf-8", "replace").strip()
        return said.splitlines()[-1] if said else "it said nothing"

    def _read(self) -> None:
        data = self._rest
        try:
            while True:
                while (taken := self._take_frame(data)) is not None:
                    self._obey(*taken)
                part = self._process.recv(8 * CHUNK)
                if not part:
                    break
                data += part
        except LinkLost:
            pass
        finally:
            self._end()

    def _take_frame(self, data: bytearray) -> tuple[int, int, bytes] | None:
        if len(data) < HEADER.size:
            return None
        number, kind, length = HEADER.unpack_from(data)
        end = HEADER.size + length
        if len(data) < end:
            return None
        payload = bytes(data[HEADER.size : end])
        del data[:end]
        return number, kind, payload

    def _obey(self, number: int, kind: int, payload: bytes) -> None:
        """On the reader's thread: must not block, so it sends nothing."""
        if kind == ACCEPTED:
            self._accepted(number, NUMBER.unpack(payload)[0])
            return
        with self._changed:
            stream = self._streams.get(number)
        if stream is not None:
            stream.take(kind, payload)

    def _accepted(self, number: int, listener: int) -> None:
        with self._changed:
            on_accept = self._listeners.get(listener)
        try:
            stream = self._new_stream(number)
        except LinkLost:
            return
        action = stream.close if on_accept is None else lambda: on_accept(stream)
        threading.Thread(target=action, name="tunnel relay accepted", daemon=True).start()

    def _end(self) -> None:
        with self._changed:
            self._lost = True
            streams, self._streams = list(self._streams.values()), {}
            self._listeners.clear()
        for stream in streams:
            stream.lose()
        self._process.close()

    def _lost_link(self) -> LinkLost:
        return LinkLost(f"the relay on {self._host} has ended")


class Listening:
    """A listener on the host."""

    def __init__(self, relay: Relay, number: int, port: int) -> None:
        self._relay = relay
        self._number = number
        self.port = port
        """0 for a unix socket."""

    def close(self) -> None:
        """Stop listening; connections that were accepted go on. Idempotent."""
        try:
            self._relay.unlisten(self._number)
        except LinkLost:
            pass


class RelayStream:
    """One connection through the relay: a `Stream`."""

    def __init__(self, relay: Relay, number: int) -> None:
        self.number = number
        self._relay = relay
        self._changed = threading.Condition()
        self._answer: tuple[int, bytes] | None = None
        self._pieces: deque[bytes] = deque()
        self._credit = WINDOW
        self._consumed = 0
        self._eof_in = False
        self._eof_out = False
        self._closed = False
        """Here: nothing is wanted any more."""
        self._broken = False
        """There: nothing can come or go any more."""

    def recv(self, size: int) -> bytes:
        with self._changed:
            self._changed.wait_for(
                lambda: self._pieces or self._eof_in or self._closed or self._broken
            )
            if self._closed or (self._eof_in and not self._pieces):
                return b""
            if not self._pieces:
                raise LinkLost("the host's end of the connection is gone")
            data = self._pieces.popleft()
            if len(data) > size:
                self._pieces.appendleft(data[size:])
                data = data[:size]
            credit = self._consume(len(data))
        if credit:
            self._relay.send(self.number, CREDIT, NUMBER.pack(credit))
        return data

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        while view:
            room = self._take_credit(min(len(view), CHUNK))
            self._relay.send(self.number, DATA, bytes(view[:room]))
            view = view[room:]

    def shutdown_write(self) -> None:
        with self._changed:
            if self._eof_out or self._closed or self._broken:
                return
            self._eof_out = True
        self._relay.send(self.number, EOF)

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            over = self._broken or (self._eof_in and self._eof_out)
            self._closed = True
            self._pieces.clear()
            self._changed.notify_all()
        self._relay.forget(self.number)
        if not over:
            try:
                self._relay.send(self.number, CLOSE)
            except LinkLost:
                pass

    # -- called by the relay ---------------------------------------------------------------------

    def answer(self, limit_s: float) -> tuple[int, bytes] | None:
        """What the host says to OPEN or LISTEN; None: nothing in time. Raises LinkLost."""
        with self._changed:
            self._changed.wait_for(lambda: self._answer or self._broken, limit_s)
            if self._broken:
                raise LinkLost("the relay has ended")
            return self._answer

    def take(self, kind: int, payload: bytes) -> None:
        with self._changed:
            if kind == DATA and not self._closed:
                self._pieces.append(payload)
            elif kind == EOF:
                self._eof_in = True
            elif kind == CREDIT:
                self._credit += NUMBER.unpack(payload)[0]
            elif kind == CLOSE:
                self._broken = True
            elif kind in (OPENED, REFUSED):
                self._answer = (kind, payload)
            self._changed.notify_all()

    def lose(self) -> None:
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def _take_credit(self, wanted: int) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._credit > 0 or self._closed or self._broken)
            if self._closed or self._broken or self._eof_out:
                raise LinkLost("the host's end of the connection takes no more")
            room = min(wanted, self._credit)
            self._credit -= room
            return room

    def _consume(self, size: int) -> int:
        self._consumed += size
        if self._consumed * 4 < WINDOW or self._eof_in:
            return 0
        credit, self._consumed = self._consumed, 0
        return credit


def _address(place: Place) -> str:
    if isinstance(place, UnixPlace):
        return f"unix\0{place.path}"
    assert isinstance(place, TcpPlace)
    host = {None: LOOPBACK, "localhost": LOOPBACK, "*": "0.0.0.0"}.get(place.host, place.host)
    return f"tcp\0{host}\0{place.port}"
