"""When to look at a path that an event spoke about. Pure: the clock is handed in.

Events are hints to look again, never facts. A burst is waited out (20 ms of quiet, but not for
ever), a name that went away waits longer, since editors save by renaming, and a file that is
being written waits for its writer to close it.
"""

from __future__ import annotations

from enum import Enum
from typing import Callable, Dict, List, NamedTuple, Optional

QUIET_S = 0.02
"""A burst is over after so long without an event."""
BURST_S = 0.25
"""A burst that does not end is looked at anyway after so long."""
GONE_S = 0.1
"""A name that went away is given this long to come back, and so are all others beside it."""
FEW = 5
SETTLE_S = 0.5
"""The same where more than `FEW` wait: whatever removes them may be held up for a moment, and may
be removing the whole folder."""
GONE_CAP_S = 2.0
"""Names that went away are looked at after so long although others go on going away."""
MANY = 50
MANY_CAP_S = 30.0
"""The same while more than `MANY` wait: an `rm -rf` is not followed file by file, but taken as a
whole once it is over. Then `safety` sees how much it is, or that the folder itself is gone."""
WRITER_S = 2.0
"""A writer that does not close is waited for this long, each time."""
ROOT = ""
"""The hint that says: look at everything."""


class Hint(Enum):
    """What an event says about a path."""

    CHANGED = "changed"
    """New, renamed to, closed by its writer, or its mode changed."""
    WRITTEN = "written"
    """In the middle of being written; CHANGED follows when it is closed."""
    GONE = "gone"
    """Removed or renamed away."""


class _Waiting(NamedTuple):
    hint: Hint
    since: float
    """When the first event of this wait came."""
    last: float


class _Pace(NamedTuple):
    """How names that went away are waited for, by how many there are."""

    quiet: float
    cap: float


class Hints:
    """Collects events and says which paths are ripe. One thread at a time."""

    def __init__(self) -> None:
        self._waiting: Dict[str, _Waiting] = {}
        self._burst_began = 0.0
        self._last_event = 0.0
        self._last_gone = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, path: str, hint: Hint, now: float) -> None:
        if not self._waiting or now - self._last_event >= BURST_S:
            self._burst_began = now
        self._last_event = now
        if hint is Hint.GONE:
            self._last_gone = now
        known = self._waiting.get(path)
        since = now
        if known is not None and known.hint is hint:
            since = known.since
        self._waiting[path] = _Waiting(hint, since, now)

    def ripe(self, now: float) -> List[str]:
        """Paths to look at now, sorted; they are forgotten. [""] means all."""
        if not self._waiting or now < self._burst_ends():
            return []
        pace = self._pace()
        due = [path for path, one in self._waiting.items() if now >= self._due(path, one, pace)]
        for path in due:
            del self._waiting[path]
        self._burst_began = now
        if ROOT in due:
            self._waiting.clear()
            return [ROOT]
        return sorted(due)

    def quiet(self, now: float, wanted: Callable[[str], bool], limit: int) -> List[str]:
        """Up to `limit` paths that were saved and are quiet, whatever else goes on; forgotten."""
        found: List[str] = []
        for path, one in self._waiting.items():
            rests = one.hint is Hint.CHANGED and now - one.last >= QUIET_S
            if rests and path != ROOT and wanted(path):
                found.append(path)
                if len(found) >= limit:
                    break
        for path in found:
            del self._waiting[path]
        return found

    def count(self, before: float) -> int:
        """How many wait since `before` or longer."""
        return sum(1 for one in self._waiting.values() if one.since <= before)

    def all(self) -> List[str]:
        """Every path that waits, ripe or not; they are forgotten."""
        paths = sorted(self._waiting)
        self._waiting.clear()
        return paths

    def next_ripe(self, now: float) -> Optional[float]:
        """In how many seconds at the earliest `ripe` has something to say; None: without an event
        it has not. Costs little while events keep coming, however many wait.
        """
        if not self._waiting:
            return None
        if now < self._burst_ends():
            return self._burst_ends() - now
        pace = self._pace()
        first = min(self._due(path, one, pace) for path, one in self._waiting.items())
        return max(0.0, max(first, self._burst_ends()) - now)

    def _burst_ends(self) -> float:
        return min(self._last_event + QUIET_S, self._burst_began + BURST_S)

    def _pace(self) -> _Pace:
        gone = sum(1 for one in self._waiting.values() if one.hint is Hint.GONE)
        return _Pace(SETTLE_S if gone > FEW else GONE_S, MANY_CAP_S if gone > MANY else GONE_CAP_S)

    def _due(self, path: str, waiting: _Waiting, pace: _Pace) -> float:
        # A queue that overflows in the middle of an `rm -rf` is no reason to look into it.
        overrun = path == ROOT and pace.cap == MANY_CAP_S
        if waiting.hint is Hint.GONE or overrun:
            quiet = max(waiting.last, self._last_gone) + pace.quiet
            return max(waiting.last + pace.quiet, min(quiet, waiting.since + pace.cap))
        if waiting.hint is Hint.WRITTEN:
            return waiting.since + WRITER_S
        return waiting.last
