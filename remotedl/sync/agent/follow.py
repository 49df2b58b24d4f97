"""Keeps a replica's picture up to date: events, what is due again, slow scans in the background.

Both sides follow their replica with this. Events are hints to look; scans are the truth.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set

from remotedl.sync.agent.folder import OWN
from remotedl.sync.agent.hints import ROOT, Hint, Hints
from remotedl.sync.agent.replica import Replica, is_cookie, is_own
from remotedl.sync.agent.tree import DIR, key

POLL_S = 10.0
"""How often everything is looked at where the kernel gives no watches."""
BACKGROUND_S = 600.0
"""How often everything is looked at although the kernel tells what changes."""
COOKIE_S = 2.0
SAVED = 64
"""So many saved files overtake at once."""
NEW = 8
"""So many of them may be new."""
HEARD_S = 0.3
"""An event counts as something that waits from then on: our own changes make events, too."""
SHARE = 9
"""A scan that took one second is followed by so many without one."""

Watch = Any
"""Has `watch(path)`, `close()` and `limited`, an error with `sysctl` once watches ran out."""


class Follower:
    """Follows one replica. `hint` from any thread, everything else from the replica's."""

    def __init__(
        self, replica: Replica, clock: Callable[[], float], poke: Callable[[], None]
    ) -> None:
        """`poke` is called from the watcher's thread when there may be something to look at."""
        self.replica = replica
        self._clock = clock
        self._poke = poke
        self._hints = Hints()
        self._lock = threading.Lock()
        self._cookies: Dict[str, threading.Event] = {}
        self._watch: Optional[Watch] = None
        self._why_not = "off"
        self._scan_due = clock()

    @property
    def watching(self) -> str:
        """ "events", or "poll" or "poll: SYSCTL" (the knob to turn), or "off"."""
        if self._watch is None:
            return self._why_not
        limited = self._watch.limited
        return "events" if limited is None else "poll: " + str(limited.sysctl)

    def start_watching(
        self, open_watch: Callable[[str, Callable[[str, Hint], None]], Watch]
    ) -> None:
        """Watch from the next scan on; where that cannot be, poll."""
        try:
            self._watch = open_watch(self.replica.folder.path, self.hint)
        except (OSError, AttributeError) as exc:
            sysctl = getattr(exc, "sysctl", "")
            self._why_not = "poll: " + sysctl if sysctl else "poll"
            return
        self._watch.watch(OWN)
        self.replica.scanner.on_dir = self._watch.watch

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def hint(self, path: str, hint: Hint) -> None:
        """Something happened at `path`."""
        cookie = is_cookie(path)
        if cookie is not None:
            seen = self._cookies.get(cookie)
            if seen is not None:
                seen.set()
            return
        if is_own(path):
            return
        with self._lock:
            self._hints.add(path, hint, self._clock())
        self._poke()

    @property
    def waiting(self) -> int:
        """How much is known to have changed, or is being looked at, and is not told yet."""
        with self._lock:
            heard = self._hints.count(self._clock() - HEARD_S)
        return heard + self.replica.scanner.unsettled

    @property
    def has_heard(self) -> bool:
        """Whether there are events whose paths have not been looked at."""
        return len(self._hints) > 0

    def scan(self) -> Set[str]:
        """Look at everything; the keys that changed. Raises FolderGone."""
        with self._lock:
            self._hints.all()
        started = time.monotonic()
        changed = self.replica.scan()
        took = time.monotonic() - started
        self._scan_due = self._clock() + max(SHARE * took, self._scan_every())
        return changed

    def look_now(self) -> Set[str]:
        """Look at all that events spoke about, ripe or not. Raises FolderGone."""
        with self._lock:
            paths = self._hints.all()
        return self._look(paths)

    def look_ripe(self) -> Set[str]:
        """Look at what is ripe or due; the keys that changed. Raises FolderGone."""
        now = self._clock()
        with self._lock:
            paths = self._hints.ripe(now)
        if now >= self._scan_due:
            paths = [ROOT]
        changed = self._look(paths)
        scanner = self.replica.scanner
        if scanner.next_due() == 0.0:
            changed |= scanner.look_again()
        return changed

    def look_saved(self) -> Set[str]:
        """Look at single files that were saved, in the middle of something longer.

        Not at what we put there ourselves. Raises FolderGone.
        """
        scanner = self.replica.scanner

        def is_known(path: str) -> bool:
            one = key(path)
            return one not in scanner.placed and scanner.tree.get(one, DIR) != DIR

        def is_new(path: str) -> bool:
            return key(path) not in scanner.tree

        with self._lock:  # of a bulk of new files a few, so that a new one alone goes ahead, too
            paths = self._hints.quiet(self._clock(), is_known, SAVED)
            paths += self._hints.quiet(self._clock(), is_new, NEW)
        return self.replica.look(paths) if paths else set()

    def patience(self) -> float:
        """For how many seconds there is nothing to look at, unless `poke` is called."""
        now = self._clock()
        with self._lock:
            ripe = self._hints.next_ripe(now)
        due = self.replica.scanner.next_due()
        waits = [wait for wait in (ripe, due) if wait is not None]
        return max(0.0, min([self._scan_due - now, *waits]))

    def prove(self, cookie: str) -> Set[str]:
        """Look at everything that was written or removed before now. Raises FolderGone.

        A cookie goes through the watcher: what happened before it has been told then.
        """
        changed = self.look_now() if self._await_cookie(cookie) else self.scan()
        return changed | self.replica.scanner.look_for_missing()

    def _look(self, paths: List[str]) -> Set[str]:
        if not paths:
            return set()
        return self.scan() if ROOT in paths else self.replica.look(paths)

    def _scan_every(self) -> float:
        return POLL_S if self.watching.startswith("poll") else BACKGROUND_S

    def _await_cookie(self, cookie: str) -> bool:
        if self.watching != "events":
            return False
        # Sessions with several hosts see each other's.
        cookie = self.replica.folder.corner + cookie
        seen = self._cookies[cookie] = threading.Event()
        try:
            self.replica.write_cookie(cookie)
            return seen.wait(COOKIE_S)
        except OSError:
            return False
        finally:
            del self._cookies[cookie]
