"""The sending half of a connection: control frames overtake data, credits bound what is on its way.

One thread writes; others hand frames in. It does not know what the frames mean.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Callable, Deque, List, Optional, Tuple

from remotedl.sync.agent.protocol import (
    CREDIT_START,
    DATA_LIMIT,
    DATA_SIZE,
    Type,
    cut,
    deflate,
    header,
)

WAITING_LIMIT = 1 << 20
"""Bytes of data that wait for the writer; whoever adds more waits too."""
DEFLATE_FROM = 256
WORTH = 0.9
"""What shrinks less is sent as it is, and so are the next pieces."""
SKIP = 8
LEVELS = (1, 4, 6)
"""zlib's: 110, 70 and 35 MB/s. Source code shrinks to 32, 28 and 27 %."""
BUSY = 0.4
"""Who deflates for more of the time than this has no time for the next level."""
WINDOW_S = 0.25
GATHER = 1 << 16
"""Frames are joined up to here into one write."""
PIECE_S = 0.01
"""How long one write of data may keep control frames waiting, about."""


class Closed(ConnectionError):
    """The connection is gone; nothing more can be sent."""


class Wire:
    """Frames go in from any thread and come out in one stream. Close it."""

    def __init__(self, send: Callable[[Any], None], lost: Callable[[BaseException], None]) -> None:
        """`send` writes all of its argument. `lost` is told once, when that fails."""
        self._send = send
        self._lost = lost
        self._change = threading.Condition()
        self._control: Deque[Tuple[bytes, bytes]] = deque()
        self._data: Deque[Tuple[bytes, Any]] = deque()
        self._waiting = 0
        self._level = 0
        self._piece = DATA_SIZE
        self._since = time.monotonic()
        self._blocked_s = 0.0
        self._deflated_s = 0.0
        self._credit = CREDIT_START
        self._skip = 0
        self.deflates = False
        """Set by whoever knows that the link is long, and so may well be slow."""
        self._closed = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="sync-wire", daemon=True)
        self._thread.start()

    def control(self, kind: Type, stream: int, payload: bytes = b"") -> None:
        """Send soon, before any data that waits. Raises Closed."""
        with self._change:
            if self._closed:
                raise Closed("the connection is closed")
            self._control.extend(cut(kind, stream, payload))
            self._change.notify_all()

    def in_order(self, kind: Type, stream: int, payload: bytes = b"") -> None:
        """Send after the data that waits. Raises Closed."""
        for head, piece in cut(kind, stream, payload):
            self._queue(head, piece)

    def urgent(self, stream: int, content: bytes) -> None:
        """Send a little DATA before all that waits; no credit is waited for. Raises Closed."""
        with self._change:
            self._credit -= len(content)
        self.control(Type.DATA, stream, content)

    def data(self, stream: int, content: Any) -> None:
        """Send bytes as DATA, cut as the link is fast; waits for credit. Raises Closed."""
        view = memoryview(content)
        while view:
            piece, view = view[: self._piece], view[self._piece :]
            with self._change:
                while self._credit < len(piece) and not self._closed:
                    self._change.wait()
                self._credit -= len(piece)
            packed = self._packed(piece)
            kind = Type.DATA if packed is piece else Type.DEFLATED
            self._queue(header(kind, stream, len(packed)), packed)

    def _packed(self, piece: Any) -> Any:
        """Deflated where the link is slow and it helps; credit counts the bytes that come out."""
        if not self.deflates or len(piece) < DEFLATE_FROM:
            return piece
        if self._skip:
            self._skip -= 1
            return piece
        began = time.monotonic()
        packed = deflate(piece, LEVELS[self._level])
        self._deflated_s += time.monotonic() - began
        if len(packed) > WORTH * len(piece):
            self._skip = SKIP
            return piece
        return packed

    def more_credit(self, size: int) -> None:
        with self._change:
            self._credit += size
            self._change.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is handed to the operating system."""
        with self._change:
            return self._change.wait_for(
                lambda: self._closed or not (self._control or self._data or self._busy), timeout_s
            )

    def close(self) -> None:
        """Whoever waits to send gets Closed; what waits is dropped."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _queue(self, head: bytes, payload: Any) -> None:
        with self._change:
            while self._waiting > WAITING_LIMIT and not self._closed:
                self._change.wait()
            if self._closed:
                raise Closed("the connection is closed")
            self._data.append((head, payload))
            self._waiting += len(payload)
            self._change.notify_all()

    def _run(self) -> None:
        while True:
            batch = self._next()
            if batch is None:
                return
            try:
                for data in batch:
                    self._send_timed(data)
            except BaseException as exc:  # noqa: BLE001
                self.close()
                self._lost(exc)
                return

    def _send_timed(self, data: bytes) -> None:
        began = time.monotonic()
        self._send(data)
        ended = time.monotonic()
        self._blocked_s += ended - began
        if len(data) >= self._piece:
            self._cut(ended - began)
        if ended - self._since >= WINDOW_S:
            window = ended - self._since
            self._adapt(self._blocked_s / window, self._deflated_s / window)
            self._since, self._blocked_s, self._deflated_s = ended, 0.0, 0.0

    def _cut(self, took: float) -> None:
        """The quicker the link takes a piece, the longer the next: a byte costs less then."""
        if took < PIECE_S / 2:
            self._piece = min(self._piece * 2, DATA_LIMIT)
        elif took > PIECE_S * 2:
            self._piece = max(self._piece // 2, DATA_SIZE)

    def _adapt(self, blocked: float, deflating: float) -> None:
        """A link that blocks deserves more effort; a link that waits for us deserves less."""
        if blocked > 0.7 and deflating < BUSY:
            self._level = min(self._level + 1, len(LEVELS) - 1)
        elif blocked < 0.6:
            self._level = max(self._level - 1, 0)

    def _next(self) -> Optional[List[Any]]:
        """What to write now: small frames joined, long payloads as they are."""
        with self._change:
            self._busy = False
            self._change.notify_all()
            while not (self._control or self._data or self._closed):
                self._change.wait()
            if self._closed:
                return None
            self._busy = True
            batch: List[Any] = []
            size = 0
            while self._control and size < GATHER:
                size += _move(self._control, batch)
            while self._data and size < GATHER:
                size += _move(self._data, batch)
                self._waiting -= len(batch[-1])
            self._change.notify_all()
        if len(batch[-1]) < GATHER:
            return [b"".join(batch)]
        return [b"".join(batch[:-1]), batch[-1]]


def _move(source: Deque[Tuple[bytes, Any]], batch: List[Any]) -> int:
    head, payload = source.popleft()
    batch.append(head)
    batch.append(payload)
    return len(head) + len(payload)
