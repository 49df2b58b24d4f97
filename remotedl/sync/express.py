"""Saves that overtake: what is saved on the laptop while a long cycle or a long look is under way.

Only what is simple goes ahead: the content of single small files, in folders that both sides have,
of which the cycle has nothing to do. They take the usual road (`reconcile`, `clear`,
compare-and-swap, the ledger); all else waits for the next cycle, which looks at these paths, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from remotedl.sync.agent.folder import FolderGone
from remotedl.sync.agent.transfer import SMALL
from remotedl.sync.agent.tree import DIR, Kind, amend, parent
from remotedl.sync.carry import Carried, Upload
from remotedl.sync.fresh import Fresh
from remotedl.sync.lanes import Policy
from remotedl.sync.opening import Pair
from remotedl.sync.reconcile import reconcile
from remotedl.sync.safety import Cleared, Halt
from remotedl.sync.verdict import Operation, Phase, Verdict


class Express:
    """One cycle's, or one look's, saves that overtake it. The cycle's thread."""

    def __init__(
        self,
        pair: Pair,
        step: str,
        fresh: Fresh,
        policy: Policy,
        clear: Callable[[Verdict], Cleared | Halt],
        note: Callable[[Iterable[str]], None],
    ) -> None:
        """`note` is told of every key that turned out to be changed."""
        self._pair = pair
        self._policy = policy
        self._clear = clear
        self._note = note
        self.carried = Carried()
        self._upload = Upload(pair.carrier, step, self.carried, fresh, urgent=True)
        self._busy = False
        self._on_the_way: set[str] = set()

    def between(self) -> None:
        """Send what was saved since the last call. Raises LinkLost, SyncError."""
        if self._busy:
            return
        self._busy = True
        try:
            self._upload.reap()
            found = self._pair.follower.look_saved()
            if found:
                self._note(found)
                self._send(found)
        except FolderGone:
            return  # the cycle will find out
        finally:
            self._busy = False

    def end(self) -> Carried:
        """Wait for all that was sent; what was done. Raises LinkLost, SyncError."""
        self._upload.end()
        return self.carried

    def _send(self, found: set[str]) -> None:
        pair, ledger = self._pair, self._pair.ledger
        amend(pair.ancestor, ledger.news)
        self._on_the_way -= ledger.news.keys()
        ledger.news.clear()
        keys = [key for key in found if self._is_simple(key)]
        if not keys:
            return
        verdict = reconcile(pair.ancestor, pair.replica.side, pair.picture.side, self._policy, keys)
        ops = tuple(op for op in verdict.to_remote if _is_small_write(op))
        alone = verdict._replace(to_laptop=(), to_remote=ops, ancestor={})
        if not ops or verdict.to_laptop or isinstance(self._clear(alone), Halt):
            return
        self._on_the_way.update(op.key for op in ops)
        self._upload.begin(ops)

    def _is_simple(self, key: str) -> bool:
        pair, above = self._pair, parent(key)
        entry = pair.replica.side.tree.get(key)
        return (
            entry is not None
            and entry.kind is Kind.FILE
            and entry.size <= SMALL
            and key not in pair.ledger.waiting
            and key not in self._on_the_way
            and (not above or pair.picture.tree.get(above) == DIR == pair.ancestor.get(above))
        )


def _is_small_write(op: Operation) -> bool:
    new = op.new
    return op.phase is Phase.WRITE and new is not None and new.kind is Kind.FILE
