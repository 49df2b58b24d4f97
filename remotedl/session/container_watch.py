"""How the place of work of a live session stands: asked every few seconds, and told when it ends.

Looks, never acts. Why a container ended is told by the container itself and by its engine, which
remembers what happened to it (container/fate.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from remotedl.container.runtime import Runtime, State, Status

EVERY_S = 4.0
DOWN = (State.ABSENT, State.STOPPED)


class ContainerWatch:
    """The latest look; read from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime, self._tell, self._clock = runtime, tell, clock
        self._next = 0.0
        self._last: Status | None = None

    def move(self, runtime: Runtime) -> None:
        """A new link."""
        self._runtime, self._next = runtime, 0.0

    @property
    def down(self) -> str:
        """What became of it, where it does not run; "" where it does."""
        last = self._last
        return said_of(last) if last is not None and last.state in DOWN else ""

    def look(self, *, now: bool = False) -> None:
        """Look again if it is time, or `now`. Raises LinkLost, RemotedlError."""
        if not now and self._clock() < self._next:
            return
        self._next = self._clock() + EVERY_S
        before, self._last = self._last, self._runtime.status()
        if (news := change(before, self._last)) and before is not None:
            self._tell(news)


def change(before: Status | None, after: Status) -> str:
    """What is worth a line in the session's events. Pure."""
    was_down = before is not None and before.state in DOWN
    if after.state in DOWN:
        return "" if was_down else said_of(after)
    if before is None or (before.since == after.since and not was_down):
        return ""
    return f"{after.name} runs again" if was_down else f"{after.name} was started again"


def said_of(status: Status) -> str:
    """One line about a place that does not run. Pure."""
    if status.state is State.ABSENT:
        return "the container is gone: it was removed"
    return f"{status.name} does not run: {status.detail or 'it was stopped'}"
