"""How many commands run at once on one connection: sshd's MaxSessions (10 by default).

sshd tells nobody its limit; it refuses. Nor does a session end for it when we close it, but when
its command has gone. So a refusal is waited out here, by asking again, and only then reported.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from remotedl.errors import SshError
from remotedl.ssh.channel import ChannelRefused

T = TypeVar("T")
WAIT_S = 30.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.5
LINGER_S = 2.0


class Sessions:
    """Counts the sessions of one connection."""

    def __init__(self, host: str, *, wait_s: float = WAIT_S) -> None:
        self._host = host
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._open = 0
        self._last_end = -math.inf

    @property
    def open(self) -> int:
        return self._open

    def admit(self, opening: Callable[[], T], wait_s: float = math.inf) -> T:
        """Run `opening`, again and again while it is refused for want of room. Raises SshError."""
        deadline = time.monotonic() + min(wait_s, self._wait_s)
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                opened = opening()
            except ChannelRefused as exc:
                self._wait_for_room(deadline, pause_s, exc)
                pause_s = min(2 * pause_s, LAST_PAUSE_S)
                continue
            with self._changed:
                self._open += 1
            return opened

    def end(self) -> None:
        """A session is over, for us."""
        with self._changed:
            self._open -= 1
            self._last_end = time.monotonic()
            self._changed.notify_all()

    def _wait_for_room(self, deadline: float, pause_s: float, refused: ChannelRefused) -> None:
        with self._changed:
            now = time.monotonic()
            room_may_come = self._open > 0 or now - self._last_end < LINGER_S
            if now >= deadline or not room_may_come:
                raise SshError(
                    f"{self._host} lets no further command run on this connection "
                    f"({self._open} run): {refused}",
                    hint="set MaxSessions 10 in /etc/ssh/sshd_config on the host, and reload sshd",
                ) from refused
            self._changed.wait(min(pause_s, deadline - now))
