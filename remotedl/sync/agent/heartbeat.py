"""Whether the disk still answers: a call to one that hangs (a dead NFS server) never returns.

Decision: time is counted from the last call that returned, while a thread has work. Alternative:
a probe of its own now and then. Reason: what is cached answers a probe, and the flush hangs.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator

from remotedl.sync.agent.disk import Disk

WATCHED = (
    *("open", "open_dir", "open_top", "lstat", "scandir", "mkdir", "read", "readinto", "write"),
    *("copy_range", "fsync", "sync_dir", "syncfs", "rename_new", "exchange", "replace", "unlink"),
)
"""Some call of every loop over files; the rest of the calls need no word of their own."""


class Heartbeat:
    """When each thread that has work last heard from the disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: Dict[int, float] = {}
        self._working: Dict[int, bool] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        """This thread works on files while the block runs."""
        me = threading.get_ident()
        self._heard[me] = self._clock()
        self._working[me] = True
        try:
            yield
        finally:
            self._working.pop(me, None)

    def silent_for(self) -> float:
        """Seconds since the thread that waits longest heard from the disk; 0: none waits."""
        now = self._clock()
        return max([0.0, *(now - self._heard.get(one, now) for one in list(self._working))])

    def watch(self, disk: Disk) -> Any:
        """The same disk, whose calls are noted when they return."""
        return _Watched(disk, self._heard, self._clock)


class _Watched:
    def __init__(self, disk: Disk, heard: Dict[int, float], clock: Callable[[], float]) -> None:
        self._disk = disk
        for name in WATCHED:
            setattr(self, name, _noted(getattr(disk, name), heard, clock))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)


def _noted(
    call: Callable[..., Any], heard: Dict[int, float], clock: Callable[[], float]
) -> Callable[..., Any]:
    me = threading.get_ident

    def noted(*given: Any, **named: Any) -> Any:
        result = call(*given, **named)
        heard[me()] = clock()
        return result

    return noted
