"""A link's pulse: pinged in a thread of its own, and ended when it does not answer.

sshd and TCP notice a frozen link after minutes at best. Whoever is blocked on the link when the
deadline passes is set free, because the connection is closed under it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from remotedl.errors import LinkLost, RemotedlError
from remotedl.ssh.remote import Remote

EVERY_S = 2.0
DEADLINE_S = 6.0
DOUBT_DEADLINE_S = 2.0
"""After a sleep of the laptop, or a change of its network, the link is most likely dead."""
ASLEEP_S = 5.0
"""A wait that took so much longer by the wall clock was a sleep."""


class Pulse:
    """Begins with `start`; `lost` is set, with `why`, when the link is gone."""

    def __init__(
        self,
        remote: Remote,
        lost: threading.Event,
        *,
        every_s: float = EVERY_S,
        deadline_s: float = DEADLINE_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._remote, self._lost, self._now = remote, lost, now
        self._every_s, self._deadline_s = every_s, deadline_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self.why: RemotedlError | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Idempotent; a ping that is under way ends with the connection."""
        self._end.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(self._deadline_s + 1)

    def _beat(self) -> None:
        before = self._now()
        while not self._end.wait(self._every_s):
            slept = self._now() - before - self._every_s > ASLEEP_S
            doubtful = slept or self._remote.stranded
            try:
                self._remote.ping(DOUBT_DEADLINE_S if doubtful else self._deadline_s)
            except Exception as exc:  # noqa: BLE001 - a pulse that stops unheard is no pulse
                said = exc.message if isinstance(exc, RemotedlError) else f"ping failed: {exc!r}"
                self.why = exc if isinstance(exc, LinkLost) else LinkLost(said)
                self._remote.close()
                self._lost.set()
                return
            before = self._now()
