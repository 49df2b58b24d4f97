"""Contents that a scan has just read, kept until the cycle that sends them: nothing is read twice.

Bounded. While a first copy is being read and sent at the same time, the reader waits for room;
otherwise what does not fit is dropped, and read again when it is needed.
"""

from __future__ import annotations

import threading

from remotedl.sync.agent.tree import Entry

LIMIT = 16 << 20


class Fresh:
    """Contents by digest. Any thread."""

    def __init__(self) -> None:
        self._contents: dict[bytes, bytes] = {}
        self._size = 0
        self._waits = False
        self._waiting = 0
        self._room = threading.Condition()

    def wait_for_room(self, waits: bool) -> None:
        """Whether whoever puts has to wait while there is no room."""
        with self._room:
            self._waits = waits
            self._room.notify_all()

    @property
    def is_full(self) -> bool:
        """Whether somebody waits for room: nothing more comes until something is taken."""
        return self._waiting > 0

    def put(self, key: str, entry: Entry, data: bytes) -> None:
        """A scan has just read this (see `agent.scan.Reader`)."""
        if entry.digest is None:
            return
        with self._room:
            while self._waits and self._size + len(data) > LIMIT:
                self._waiting += 1
                self._room.wait()
                self._waiting -= 1
            if self._size + len(data) <= LIMIT and entry.digest not in self._contents:
                self._contents[entry.digest] = data
                self._size += len(data)

    def take(self, digest: bytes) -> bytes | None:
        with self._room:
            data = self._contents.pop(digest, None)
            if data is not None:
                self._size -= len(data)
                self._room.notify_all()
            return data

    def clear(self) -> None:
        with self._room:
            self._contents.clear()
            self._size = 0
            self._room.notify_all()
