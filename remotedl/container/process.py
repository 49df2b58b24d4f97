"""A command in a container as a `Process`, as if it were one of the host's own."""

from __future__ import annotations

import threading
from collections import deque

from remotedl.engine.execs import ExecStream
from remotedl.engine.types import Output
from remotedl.errors import RemoteTimeout


class ExecProcess:
    """An ExecStream as a Process: two outputs out of one, each readable by a thread of its own."""

    def __init__(self, stream: ExecStream) -> None:
        self._stream = stream
        self._news = threading.Condition()
        self._held: dict[Output, deque[bytes]] = {Output.STDOUT: deque(), Output.STDERR: deque()}
        self._reading = False
        self._ended = False
        self._failure: Exception | None = None

    def recv(self, size: int) -> bytes:
        return self._take(Output.STDOUT, size)

    def recv_stderr(self, size: int) -> bytes:
        return self._take(Output.STDERR, size)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        self._stream.sendall(bytes(data))

    def shutdown_write(self) -> None:
        self._stream.end_input()

    def wait(self, timeout_s: float | None = None) -> int:
        """What is not read before stays readable. Raises RemoteTimeout, LinkLost."""
        reader = threading.Thread(target=self._drain, name="exec-wait", daemon=True)
        reader.start()
        reader.join(timeout_s)
        if reader.is_alive():
            raise RemoteTimeout(f"still running after {timeout_s:g} s")
        if self._failure is not None:
            raise self._failure
        return self._stream.exit_code()

    def resize(self, columns: int, rows: int) -> None:
        self._stream.resize(columns, rows)

    def close(self) -> None:
        self._stream.close()

    def _take(self, which: Output, size: int) -> bytes:
        held = self._held[which]
        while True:
            with self._news:
                self._news.wait_for(lambda: held or self._ended or not self._reading)
                if held:
                    piece = held.popleft()
                    if len(piece) > size:
                        held.appendleft(piece[size:])
                    return piece[:size]
                if self._failure is not None:
                    raise self._failure
                if self._ended:
                    return b""
                self._reading = True
            self._read_one()

    def _drain(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._ended or not self._reading)
                if self._ended:
                    return
                self._reading = True
            try:
                self._read_one()
            except Exception:  # noqa: BLE001 - kept in _failure, for whoever waits
                return

    def _read_one(self) -> None:
        """One piece from the engine, by the one thread whose turn it is."""
        piece = None
        try:
            piece = self._stream.read()
        except Exception as exc:
            self._failure = exc
            raise
        finally:
            with self._news:
                self._reading = False
                if piece is None:
                    self._ended = True
                else:
                    self._held[piece[0]].append(piece[1])
                self._news.notify_all()
