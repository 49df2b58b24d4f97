"""The host's end of a relay: connections of many tunnels over one command's stdin and stdout.

Runs on the host (Python 3.8 or newer, standard library only) where sshd forbids forwarding, and
for listeners on the host (-R). The laptop imports the frame's shape from here and nothing else.
Ends, with every socket, when its stdin ends. One thread moves the bytes; only connecting, which
may have to resolve a name, is done in threads of its own.

A frame is a header (stream number, kind, length) and so many bytes. Each side may have WINDOW
bytes of a stream under way; whoever consumes them gives CREDIT for more. So memory is bounded,
and a stream that nobody reads holds up no other.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import stat
import struct
import sys
import threading
import time
from collections import deque
from typing import Deque, Dict, List, Optional, Set, Tuple, Union

MAGIC = b"remotedl-relay-1\n"
HEADER = struct.Struct(">IBI")
WINDOW = 1 << 20
CHUNK = 32 * 1024
LONGEST = 1 << 20
OUT_LIMIT = 1 << 20
"""Bytes that wait for the laptop, above which no socket is read."""
BY_HOST = 1 << 31
"""Streams that begin on the host are numbered from here on."""
CONNECT_LIMIT_S = 30.0
BACKLOG = 128
LONGEST_PATH = 107
"""Bytes of a socket's path, as Linux has it."""

OPEN = 1
"""Laptop: connect to the address in the payload (`tcp HOST PORT` or `unix PATH`, NUL between)."""
OPENED = 2
"""Host: it is connected, or it listens; the payload is the port for the latter."""
REFUSED = 3
"""Host: it is not; the payload says why."""
LISTEN = 4
"""Laptop: listen at the address in the payload."""
ACCEPTED = 5
"""Host: a new stream; the payload is the number of the listener."""
DATA = 6
EOF = 7
"""The sender's side of the stream is over; the other goes on."""
CLOSE = 8
"""The stream, or the listener, is over in both directions."""
CREDIT = 9
"""So many more bytes (4 bytes, big-endian) may be sent."""
NUMBER = struct.Struct(">I")


def frame(number: int, kind: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(number, kind, len(payload)) + payload


class Far:
    """A connection of the host's, and what is under way to it."""

    def __init__(self, number: int, end: socket.socket) -> None:
        self.number = number
        self.end = end
        self.waiting: Deque[bytes] = deque()
        self.credit = WINDOW
        self.eof_from_laptop = False
        self.eof_to_laptop = False
        self.shut = False
        self.dead = False
        """The other end takes no more; what comes for it is dropped."""


class Relay:
    """Everything on the host's side."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._in = bytearray()
        self._out: Deque[bytes] = deque()
        self._out_size = 0
        self._selector = selectors.DefaultSelector()
        self._events: Dict[Union[int, socket.socket], int] = {}
        self._streams: Dict[int, Far] = {}
        self._listeners: Dict[int, socket.socket] = {}
        self._gone: Set[int] = set()
        """Streams that were closed while they were still being connected."""
        self._connecting: Set[int] = set()
        self._next = BY_HOST
        self._connected: Deque[Tuple[int, Optional[socket.socket], str]] = deque()
        self._wake, self._waker = socket.socketpair()

    def run(self) -> None:
        try:
            self._serve_all()
        finally:
            for listener in self._listeners.values():
                self._unlisten(listener)

    def _serve_all(self) -> None:
        for descriptor in (self._source, self._sink):
            os.set_blocking(descriptor, False)
        self._wake.setblocking(False)
        self._watch(self._source, selectors.EVENT_READ)
        self._watch(self._wake, selectors.EVENT_READ)
        self._send(MAGIC)
        while True:
            for key, mask in self._selector.select():
                if key.fileobj == self._source:
                    if not self._take_in():
                        return
                elif key.fileobj == self._sink:
                    self._flush()
                elif key.fileobj is self._wake:
                    self._wake.recv(4096)
                    self._take_connected()
                elif isinstance(key.data, Far):
                    self._serve(key.data, mask)
                else:
                    self._accept(key.data)

    # -- the laptop's side -----------------------------------------------------------------------

    def _take_in(self) -> bool:
        """Read frames; False when the laptop has gone."""
        try:
            data = os.read(self._source, 256 * 1024)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._in += data
        while len(self._in) >= HEADER.size:
            number, kind, length = HEADER.unpack_from(self._in)
            if length > LONGEST:
                raise ValueError("a frame that is too long")
            if len(self._in) < HEADER.size + length:
                break
            payload = bytes(self._in[HEADER.size : HEADER.size + length])
            del self._in[: HEADER.size + length]
            self._obey(number, kind, payload)
        return True

    def _obey(self, number: int, kind: int, payload: bytes) -> None:
        if kind == OPEN:
            self._connecting.add(number)
            threading.Thread(target=self._connect, args=(number, payload), daemon=True).start()
        elif kind == LISTEN:
            self._listen(number, payload)
        elif kind == CLOSE and number in self._listeners:
            self._unlisten(self._listeners.pop(number))
        elif kind == CLOSE and number in self._connecting:
            self._gone.add(number)
        elif number in self._streams:
            self._obey_stream(self._streams[number], kind, payload)

    def _obey_stream(self, far: Far, kind: int, payload: bytes) -> None:
        if kind == DATA and not far.dead:
            far.waiting.append(payload)
        elif kind == EOF:
            far.eof_from_laptop = True
        elif kind == CREDIT:
            far.credit += NUMBER.unpack(payload)[0]
        elif kind == CLOSE:
            # Not over in both directions: who is cut off must not take it for a clean end.
            if far.end.family != socket.AF_UNIX:
                far.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._forget(far)
            return
        self._write(far)

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)
        self._flush()

    def _flush(self) -> None:
        was_full = self._out_size > OUT_LIMIT
        try:
            while self._out:
                written = os.write(self._sink, self._out[0])
                self._out_size -= written
                if written == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][written:]
        except BlockingIOError:
            pass
        self._watch(self._sink, selectors.EVENT_WRITE if self._out else 0)
        if was_full and self._out_size <= OUT_LIMIT:
            for far in self._streams.values():
                self._want(far)

    # -- connecting and listening ----------------------------------------------------------------

    def _connect(self, number: int, payload: bytes) -> None:
        """In a thread of its own."""
        end, why = None, ""
        try:
            kind, address = _address(payload)
            if kind == "unix":
                end = socket.socket(socket.AF_UNIX)
                end.settimeout(CONNECT_LIMIT_S)
                _connect_unix(end, address[0])
            else:
                end = socket.create_connection((address[0], int(address[1])), CONNECT_LIMIT_S)
        except (OSError, ValueError) as exc:
            why = getattr(exc, "strerror", None) or str(exc)
            if end is not None:
                end.close()
                end = None
        self._connected.append((number, end, why))
        self._waker.send(b"x")

    def _take_connected(self) -> None:
        while self._connected:
            number, end, why = self._connected.popleft()
            self._connecting.discard(number)
            if number in self._gone:
                self._gone.discard(number)
                if end is not None:
                    end.close()
            elif end is None:
                self._send(frame(number, REFUSED, why.encode("utf-8", "replace")))
            else:
                self._send(frame(number, OPENED))
                self._begin(number, end)

    def _listen(self, number: int, payload: bytes) -> None:
        listener = None
        try:
            kind, address = _address(payload)
            if kind == "unix":
                listener = socket.socket(socket.AF_UNIX)
                _remove_dead_socket(address[0])
                listener.bind(address[0])
                os.chmod(address[0], 0o600)
                port = 0
            else:
                v6 = ":" in address[0]
                listener = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address[0], int(address[1])))
                port = listener.getsockname()[1]
            listener.listen(BACKLOG)
        except (OSError, ValueError) as exc:
            if listener is not None:
                listener.close()
            why = getattr(exc, "strerror", None) or str(exc)
            self._send(frame(number, REFUSED, why.encode("utf-8", "replace")))
            return
        listener.setblocking(False)
        self._listeners[number] = listener
        self._watch(listener, selectors.EVENT_READ, number)
        self._send(frame(number, OPENED, NUMBER.pack(port)))

    def _unlisten(self, listener: socket.socket) -> None:
        self._watch(listener, 0)
        if listener.family == socket.AF_UNIX:
            try:
                os.unlink(listener.getsockname())
            except OSError:
                pass
        listener.close()

    def _accept(self, number: int) -> None:
        listener = self._listeners.get(number)
        if listener is None:
            return  # closed by a frame that came in the same breath
        try:
            end, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(0.05)  # all stand still for a moment, rather than spin
            return
        stream, self._next = self._next, self._next + 1
        self._send(frame(stream, ACCEPTED, NUMBER.pack(number)))
        self._begin(stream, end)

    # -- one stream ------------------------------------------------------------------------------

    def _begin(self, number: int, end: socket.socket) -> None:
        end.setblocking(False)
        if end.family != socket.AF_UNIX:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far = self._streams[number] = Far(number, end)
        self._want(far)

    def _serve(self, far: Far, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and far.number in self._streams:
            self._write(far)
        if mask & selectors.EVENT_READ and far.number in self._streams:
            self._read(far)

    def _read(self, far: Far) -> None:
        try:
            data = far.end.recv(min(CHUNK, far.credit))
        except BlockingIOError:
            return
        except OSError:
            self._send(frame(far.number, CLOSE))
            self._forget(far)
            return
        if data:
            far.credit -= len(data)
            self._send(frame(far.number, DATA, data))
        else:
            far.eof_to_laptop = True
            self._send(frame(far.number, EOF))
        self._end_or_want(far)

    def _write(self, far: Far) -> None:
        done = 0
        try:
            while far.waiting:
                sent = far.end.send(far.waiting[0])
                done += sent
                if sent == len(far.waiting[0]):
                    far.waiting.popleft()
                else:
                    far.waiting[0] = far.waiting[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            far.dead = True  # it may still have something to say
            far.waiting.clear()
        if done:
            self._send(frame(far.number, CREDIT, NUMBER.pack(done)))
        if far.eof_from_laptop and not far.waiting and not far.shut:
            far.shut = True
            try:
                far.end.shutdown(socket.SHUT_WR)
            except OSError:
                far.dead = True
        self._end_or_want(far)

    def _end_or_want(self, far: Far) -> None:
        if far.eof_to_laptop and far.shut:
            self._forget(far)
        elif far.eof_to_laptop and far.dead:
            self._send(frame(far.number, CLOSE))
            self._forget(far)
        else:
            self._want(far)

    def _want(self, far: Far) -> None:
        events = 0
        if not far.eof_to_laptop and far.credit > 0 and self._out_size <= OUT_LIMIT:
            events |= selectors.EVENT_READ
        if far.waiting:
            events |= selectors.EVENT_WRITE
        self._watch(far.end, events, far)

    def _forget(self, far: Far) -> None:
        self._streams.pop(far.number, None)
        self._watch(far.end, 0)
        far.end.close()

    def _watch(self, what: Union[int, socket.socket], events: int, data: object = None) -> None:
        before = self._events.get(what, 0)
        if events == before:
            return
        if not before:
            self._selector.register(what, events, data)
        elif not events:
            self._selector.unregister(what)
        else:
            self._selector.modify(what, events, data)
        if events:
            self._events[what] = events
        else:
            del self._events[what]


def _remove_dead_socket(path: str) -> None:
    """What a relay that was killed has left; a living one, or another kind of file, stays."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def _connect_unix(end: socket.socket, path: str) -> None:
    """A path that is too long for a socket is reached by way of its folder."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        end.connect(path)
        return
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        end.connect("/proc/self/fd/%d/%s" % (folder, os.path.basename(path)))  # noqa: UP031
    finally:
        os.close(folder)


def _address(payload: bytes) -> Tuple[str, List[str]]:
    kind, _, rest = payload.decode("utf-8").partition("\0")
    return kind, rest.split("\0")


if __name__ == "__main__":
    try:
        Relay(0, 1).run()
    except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        sys.exit(0)
