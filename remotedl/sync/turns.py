"""Whose turn it is with a pair of folders: one thread at a time, and nobody waits for ever.

A call of the user's (a pause, a flush, an end) must come back though the host's disk hangs; the
thread that keeps both sides equal may wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from remotedl.errors import SyncError

LOOK_S = 0.25
BUSY_S = 600.0
"""A cycle that takes longer is not waited for."""
HANGS_S = 60.0
"""A disk that is silent for longer is not waited for; a flush of gigabytes may take a while."""
HINT = "remotedl doctor"

_mine = threading.local()


class DiskSilent(SyncError):
    """The host's disk has not answered for a while; nothing is known of what was asked of it."""


class Turns:
    """A lock, for `with`. `silent` says since when the host's disk does not answer."""

    def __init__(self, silent: Callable[[], float | None]) -> None:
        self._silent = silent
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        """Raises DiskSilent, SyncError."""
        deadline = time.monotonic() + BUSY_S
        _mine.depth = getattr(_mine, "depth", 0) + 1
        try:
            while not self._lock.acquire(timeout=LOOK_S):
                give_up_if(self._silent())
                if time.monotonic() > deadline:
                    raise SyncError("the sync is busy", hint="remotedl status")
        except BaseException:
            _mine.depth -= 1
            raise

    def __exit__(self, *_: object) -> None:
        _mine.depth -= 1
        self._lock.release()

    def acquire(self, timeout_s: float) -> bool:
        """For who ends it all; `release` afterwards."""
        return self._lock.acquire(timeout=timeout_s)

    def release(self) -> None:
        self._lock.release()

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[None]:
        """All that this thread does inside is over after that time. Raises TimeoutError, too."""
        _mine.deadline = time.monotonic() + timeout_s
        try:
            with self:
                yield
        finally:
            _mine.deadline = None

    @contextmanager
    def patiently(self, stop: threading.Event) -> Iterator[bool]:
        """For the thread that may wait as long as it takes; False once it is to stop."""
        while not self._lock.acquire(timeout=LOOK_S):
            if stop.is_set():
                yield False
                return
        before, _mine.depth = getattr(_mine, "depth", 0), 0
        try:
            yield True
        finally:
            _mine.depth = before
            self._lock.release()


def give_up_if(since: float | None) -> None:
    """Where this thread may not wait any longer for a disk that is silent since then (None: it
    is not). Raises DiskSilent, TimeoutError.
    """
    if not getattr(_mine, "depth", 0):
        return
    if since is not None and time.time() - since > HANGS_S:
        raise DiskSilent(f"{waits_since(since)}; the sync goes on when it is back", hint=HINT)
    deadline = getattr(_mine, "deadline", None)
    if deadline is not None and time.monotonic() > deadline:
        raise TimeoutError("the sync is busy" if since is None else waits_since(since))


def waits_since(since: float) -> str:
    """`since`: seconds since the epoch."""
    return f"waiting for the host's disk since {time.strftime('%H:%M:%S', time.localtime(since))}"
