"""Threads that wait a little for more work before they end.

Starting a thread costs four times as much as waking one, and a page of a browser makes dozens of
connections in a second. Knows nothing of connections.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

IDLE_S = 5.0
Task = Callable[[], None]


class Workers:
    """Runs tasks, each at once in a thread of its own. All threads are daemons."""

    def __init__(self, name: str, idle_s: float = IDLE_S) -> None:
        self._name = name
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[Task | None]] = []
        self._closed = False

    def do(self, task: Task) -> None:
        """Returns at once. Raises RuntimeError when no more threads can be had."""
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(task)
            return
        threading.Thread(target=self._work, args=(task,), name=self._name, daemon=True).start()

    def close(self) -> None:
        """Idle threads end now, busy ones after their task."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _work(self, task: Task | None) -> None:
        inbox: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        while task is not None:
            task()
            del task  # or what it holds would live as long as we are idle
            with self._lock:
                if self._closed:
                    return
                self._idle.append(inbox)
            task = self._next(inbox)

    def _next(self, inbox: queue.SimpleQueue[Task | None]) -> Task | None:
        try:
            return inbox.get(timeout=self._idle_s)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
        return inbox.get()  # it was given a task in that very moment
