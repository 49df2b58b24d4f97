"""How many commands run at once on one connection: sshd's MaxSessions (10 by default).

sshd tells nobody its limit; it refuses. A refusal is waited out here, until one of our own
sessions ends, and only then reported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from remotedl.errors import SshError
from remotedl.ssh.channel import ChannelRefused

T = TypeVar("T")
WAIT_S = 30.0


class Sessions:
    """Counts the sessions of one connection."""

    def __init__(self, host: str, *, wait_s: float = WAIT_S) -> None:
        self._host = host
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._open = 0
        self._ended = 0

    @property
    def open(self) -> int:
        return self._open

    def admit(self, opening: Callable[[], T]) -> T:
        """Run `opening`, again whenever a session ended after a refusal. Raises SshError."""
        while True:
            with self._changed:
                self._open += 1
                ended = self._ended
            try:
                return opening()
            except ChannelRefused as exc:
                self.end()
                self._wait_for_end(ended + 1, exc)
            except BaseException:
                self.end()
                raise

    def end(self) -> None:
        """A session is over."""
        with self._changed:
            self._open -= 1
            self._ended += 1
            self._changed.notify_all()

    def _wait_for_end(self, ended: int, refused: ChannelRefused) -> None:
        with self._changed:
            if self._open == 0 or not self._changed.wait_for(
                lambda: self._ended > ended, self._wait_s
            ):
                raise SshError(
                    f"{self._host} lets no further command run on this connection "
                    f"({self._open} run): {refused}",
                    hint="raise MaxSessions in /etc/ssh/sshd_config on the host",
                ) from refused
