"""Which of the laptop's files the sync took away within the last minutes. Pure.

A mass delete need not come in one cycle: what `rm` removes file by file on the host arrives in
many. What came to the laptop and went again within a minute (a job's own scratch files) is no loss.
"""

from __future__ import annotations

from collections.abc import Mapping

from remotedl.sync.agent.tree import Entry, Kind

WINDOW_S = 600.0
"""How far back `safety` looks."""
SCRATCH_S = 60.0


class Losses:
    """Fed with every change that the sync made on the laptop."""

    def __init__(self) -> None:
        self._brought: dict[str, float] = {}
        self._taken: dict[str, float] = {}

    def note(self, at: float, key: str, old: Entry | None, new: Entry | None) -> None:
        """`at`: seconds since the epoch; in the order in which it happened."""
        if old is None and new is not None:
            self._taken.pop(key, None)
            self._brought[key] = at
        elif new is None and old is not None and old.kind is not Kind.DIR:
            came = self._brought.pop(key, None)
            if came is None or at - came > SCRATCH_S:
                self._taken[key] = at

    def lately(self, now: float, tree: Mapping[str, Entry]) -> frozenset[str]:
        """Keys of files that were here before, and are not in `tree` any more."""
        _drop(self._brought, now - SCRATCH_S)
        _drop(self._taken, now - WINDOW_S)
        return frozenset(key for key in self._taken if key not in tree)

    def forgive(self) -> None:
        """The user let a mass delete pass: counting begins anew."""
        self._taken.clear()


def _drop(times: dict[str, float], before: float) -> None:
    for key in [key for key, at in times.items() if at < before]:
        del times[key]
