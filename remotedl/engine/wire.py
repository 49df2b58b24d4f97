"""HTTP over dialled streams: what docker-py gets in place of a socket.

`Plug` dresses a Stream as a socket, `DialledAdapter` gives requests a pool of them, and `hijack`
turns one into a raw two-way stream (exec, attach). At most `limit` are open at a time, because
sshd lets one connection have 10 sessions (MaxSessions) and the engine must leave most of them to
the sync, the tunnels and the shells. A LinkLost passes through all of this untouched.

It must not know what is asked of the engine, and translates no errors: engine/client.py does.
"""

from __future__ import annotations

import io
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self, cast

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.util

from remotedl.engine.stream import Complaining, Dial, Stream

Bytes = bytes | bytearray | memoryview

CHUNK = 64 * 1024
READ_AHEAD = 4 * 1024 * 1024
"""Bytes a Plug holds before it stops reading, so that a slow reader slows the sender down."""
HEADER_LIMIT = 64 * 1024
HEADERS_LIMIT = 1024 * 1024
"""Bytes until an answer's body begins, "100 Continue" as often as it comes included."""
MOST_ANSWER = 32 * 1024 * 1024
"""Bytes of an answer that is read as a whole; a listing of 10,000 containers has 20 MB."""
BODY_LIMITS = 4
"""How many times as long as the first byte the rest of such an answer may take."""


class TooMuch(Exception):
    """The engine, or whoever is in its place, says more than an answer holds."""


class HungUp(Exception):
    """The dialled process ended before it had answered; `complaint` is its stderr."""

    def __init__(self, complaint: str) -> None:
        super().__init__(complaint or "the connection to the engine ended without an answer")
        self.complaint = complaint


class Plug:
    """A Stream with what http.client expects of a socket.

    Decision: a thread reads ahead. Alternative: read on demand, as docker-py's SSH transport
    does. Reason: a Stream has no descriptor to poll, so without the thread neither a deadline
    nor "this idle connection has ended meanwhile" could be told, and the next request would be
    sent into a dead connection.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._timeout: float | None = None
        self._news = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._failure: Exception | None = None
        self._users = 1
        self._closed = False
        self.allowance: int | None = None
        """How many bytes may be read until somebody lifts it."""
        threading.Thread(target=self._read_ahead, name="engine-read-ahead", daemon=True).start()

    @property
    def hung_up(self) -> bool:
        """The other side has ended; what it sent before may still be unread."""
        with self._news:
            return self._ended

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    def sendall(self, data: Bytes) -> None:
        try:
            self._stream.sendall(data)
        except Exception as exc:
            with self._news:
                answered = self._ended and self._failure is None
            if not answered:
                raise
            # The engine answers before it has read all of a request that it refuses, and hangs
            # up. urllib3 goes on to read that answer after a broken pipe, and after no other error.
            raise BrokenPipeError("the engine has stopped reading") from exc

    def recv(self, size: int) -> bytes:
        """At most `size` bytes; b"" at the end. Raises TimeoutError, LinkLost."""
        with self._news:
            if not self._news.wait_for(lambda: self._chunks or self._ended, self._timeout):
                raise TimeoutError("timed out")
            if not self._chunks:
                if self._failure is not None:
                    raise self._failure
                return b""
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            self._held -= len(chunk)
            self._news.notify_all()
        if self.allowance is not None:
            self.allowance -= len(chunk)
            if self.allowance < 0:
                raise TooMuch("the headers of the answer have no end")
        return chunk

    def recv_exactly(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        data = b""
        while len(data) < size and (more := self.recv(size - len(data))):
            data += more
        return data

    def unread(self, data: bytes) -> None:
        """Put `data` back in front of what is still to be read."""
        if data:
            with self._news:
                self._chunks.appendleft(data)
                self._held += len(data)

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        if mode != "rb":
            raise ValueError(f"a Plug is read through a file, never written: {mode!r}")
        with self._news:
            self._users += 1
        return io.BufferedReader(_Reading(self), buffering if buffering > 0 else CHUNK)

    def shutdown_write(self) -> None:
        self._stream.shutdown_write()

    def shutdown(self, how: int) -> None:
        """Called by urllib3 to end a read that another thread is blocked in."""
        self._stream.close()

    def close(self) -> None:
        """As a socket: the stream closes when its last file is closed too."""
        if not self._closed:
            self._closed = True
            self.release()

    def release(self) -> None:
        with self._news:
            self._users -= 1
            last = self._users == 0
        if last:
            self._stream.close()

    def complaint(self) -> str:
        """What the dialled process said on stderr, if it is one and has ended."""
        if not self.hung_up or not isinstance(self._stream, Complaining):
            return ""
        said = b""
        while len(said) < HEADER_LIMIT and (more := self._stream.recv_stderr(CHUNK)):
            said += more
        return said.decode("utf-8", "replace").strip()

    def _read_ahead(self) -> None:
        failure: Exception | None = None
        try:
            while chunk := self._stream.recv(CHUNK):
                with self._news:
                    self._chunks.append(chunk)
                    self._held += len(chunk)
                    self._news.notify_all()
                    self._news.wait_for(lambda: self._held < READ_AHEAD or self._users == 0)
        except Exception as exc:  # noqa: BLE001 - handed to the reader, who raises it
            failure = exc
        with self._news:
            self._failure = failure
            self._ended = True
            self._news.notify_all()


class _Reading(io.RawIOBase):
    """The raw half of Plug.makefile()."""

    def __init__(self, plug: Plug) -> None:
        self._plug = plug

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._plug.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._plug.release()


class _Connection(urllib3.connection.HTTPConnection):
    """An HTTP connection whose socket is a Plug."""

    def __init__(self, dial: Dial) -> None:
        super().__init__("localhost")
        self._dial = dial

    def connect(self) -> None:
        self.sock = cast(Any, Plug(self._dial()))

    @property
    def plug(self) -> Plug:
        return cast(Plug, self.sock)

    @property
    def is_connected(self) -> bool:
        return self.sock is not None and not self.plug.hung_up

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        plug = self.plug
        plug.allowance = HEADERS_LIMIT
        try:
            return super().getresponse()
        except (ConnectionError, urllib3.exceptions.ProtocolError) as exc:
            raise HungUp(plug.complaint()) from exc
        finally:
            plug.allowance = None


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    """At most `maxsize` connections; who finds none free waits `patience_s`, then fails."""

    patience_s = 60.0

    def __init__(self, dial: Dial, limit: int) -> None:
        super().__init__("localhost", maxsize=limit, block=True, retries=False)
        self._dial = dial

    def _new_conn(self) -> _Connection:
        return _Connection(self._dial)

    def _get_conn(self, timeout: float | None = None) -> Any:
        return super()._get_conn(timeout=self.patience_s if timeout is None else timeout)

    def take(self) -> _Connection:
        return cast(_Connection, self._get_conn())

    def give_back(self, connection: _Connection) -> None:
        """A slot is free again; a connection that still lives is used for the next request."""
        self._put_conn(connection)


class DialledAdapter(requests.adapters.HTTPAdapter):
    """Sends the requests of one session over streams that `dial` opens."""

    def __init__(self, dial: Dial, *, limit: int) -> None:
        self._pool = _Pool(dial, limit)
        # One connection stays for short questions: a stream that waits for the answer to one
        # (its terminal's new size, its exit code) would else wait for itself.
        self._long = threading.BoundedSemaphore(max(1, limit - 1))
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> _Pool:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        # The laptop's proxies mean nothing to a stream that ends on the host.
        return request.path_url

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> requests.Response:
        """As requests', but what is read as a whole has an end. Raises TooMuch."""
        response = super().send(request, stream, timeout, *args, **kwargs)
        if stream:
            return response
        limit_s = math.inf if timeout is None else BODY_LIMITS * float(timeout)
        deadline = time.monotonic() + limit_s
        body = bytearray()
        for chunk in response.iter_content(CHUNK):
            body += chunk
            if len(body) > MOST_ANSWER or time.monotonic() > deadline:
                response.close()
                raise TooMuch(f"{len(body)} bytes came, and there was no end to it")
        response._content = bytes(body)
        return response

    def close(self) -> None:
        super().close()
        self._pool.close()

    def hijack(self, path: str, body: bytes, headers: Mapping[str, str]) -> Hijacked:
        """POST `body` and keep the connection as a raw stream. Raises HungUp, Refused, LinkLost.

        http.client cannot do this: it holds back what it read behind the headers.
        """
        with self.long_request() as kept:
            hijacked = self._hijack(path, body, headers)
            hijacked.at_end = kept.pop_all().close
        return hijacked

    @contextmanager
    def long_request(self) -> Iterator[ExitStack]:
        """Holds a place among the long ones until the block, or the stack that it gives, ends."""
        if not self._long.acquire(timeout=self._pool.patience_s):
            raise urllib3.exceptions.EmptyPoolError(self._pool, "too many streams")
        with ExitStack() as kept:
            kept.callback(self._long.release)
            yield kept

    def _hijack(self, path: str, body: bytes, headers: Mapping[str, str]) -> Hijacked:
        connection = self._pool.take()
        try:
            if not connection.is_connected:
                connection.connect()
            plug = connection.plug
            plug.settimeout(self._pool.patience_s)
            plug.sendall(_request_head(path, len(body), headers) + body)
            status, length, rest = _read_head(plug)
            plug.unread(rest)
            if status not in (101, 200):
                raise Refused(status, plug.recv_exactly(length))
            plug.settimeout(None)
        except BaseException:
            connection.close()
            self._pool.give_back(connection)
            raise
        return Hijacked(connection, self._pool)


class Refused(Exception):
    """The engine answered a hijack with an error; `body` is what it said."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body


class Hijacked:
    """A connection that speaks no HTTP any more: bytes both ways until either side ends."""

    def __init__(self, connection: _Connection, pool: _Pool) -> None:
        self._connection = connection
        self._plug = connection.plug
        self._pool = pool
        self._closing = threading.Lock()
        self._closed = False
        self.at_end: Callable[[], None] = _nothing

    def recv(self, size: int) -> bytes:
        return self._plug.recv(size)

    def recv_exactly(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        return self._plug.recv_exactly(size)

    def sendall(self, data: Bytes) -> None:
        self._plug.sendall(data)

    def shutdown_write(self) -> None:
        self._plug.shutdown_write()

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._connection.close()
        self._pool.give_back(self._connection)
        self.at_end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _nothing() -> None:
    pass


def _request_head(path: str, length: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _read_head(plug: Plug) -> tuple[int, int, bytes]:
    """The status, the length of the body that follows, and what came after the headers."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = plug.recv(CHUNK)
        if not more or len(data) > HEADER_LIMIT:
            raise HungUp(plug.complaint())
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    words = first.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise HungUp(f"not an engine that answers: {first[:80]!r}")
    length = 0
    for header in headers:
        name, _, value = header.partition(b":")
        if name.strip().lower() == b"content-length":
            length = min(int(value), HEADER_LIMIT)
    return int(words[1]), length, rest
