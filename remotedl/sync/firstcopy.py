"""The first copy to an empty folder: what is read already goes up while the rest is being read.

Only where nothing can be in the way: nothing was ever agreed on, and the host's folder is empty.
Each piece takes the usual road (`reconcile`, `clear`, compare-and-swap). What it leaves undone,
the cycle after it finds.
"""

from __future__ import annotations

from collections import deque

from remotedl.sync.agent.tree import Entry, Side, sort_key
from remotedl.sync.carry import Carried, Upload
from remotedl.sync.fresh import Fresh
from remotedl.sync.lanes import Policy
from remotedl.sync.opening import Pair
from remotedl.sync.reconcile import reconcile
from remotedl.sync.safety import Halt, clear
from remotedl.sync.verdict import Operation, Verdict

PIECE = 512
"""Keys that are worth a round; fewer wait for more."""
NAP_S = 0.005


def can_begin(pair: Pair) -> bool:
    """Whether the laptop is still being read and nothing can be in the way."""
    folding = (pair.replica.side.traits.folding, pair.picture.traits.folding)
    blind = any(one.case_insensitive for one in folding)
    return pair.first and not pair.picture.tree and not blind and not pair.scan.is_done


def copy_while_reading(
    pair: Pair, policy: Policy, fresh: Fresh, step: str
) -> tuple[Verdict, Carried] | Halt:
    """What was decided and what came of it. Raises LinkLost, SyncError, OSError of the scan."""
    carried = Carried()
    upload = Upload(pair.carrier, step, carried, fresh)
    operations: list[Operation] = []
    agreed: dict[str, Entry | None] = {}
    known = pair.replica.scanner.known
    assert known is not None
    while True:
        done = pair.scan.is_done
        if len(known) < PIECE and not (done or fresh.is_full):
            pair.scan.join(NAP_S)
            continue
        keys = _taken(known)
        if not keys and not done:
            fresh.clear()  # of what is left nobody knows, or wants it: it is read again if need be
            continue
        verdict = reconcile(pair.ancestor, _still(pair), pair.picture.side, policy, keys)
        if verdict.to_laptop:
            break  # something stands there after all: the cycle after this one sees all of it
        cleared = clear(verdict, pair.ancestor, pair.replica.side, pair.picture.side)
        if isinstance(cleared, Halt):
            return cleared
        upload.begin(cleared.to_remote)
        operations += cleared.to_remote
        agreed.update(verdict.ancestor)
        upload.reap()
        if done:
            break
    pair.scan.finish()
    upload.end()
    pair.replica.scanner.known = None
    return _summed(operations, agreed), carried


def _taken(known: deque[str]) -> list[str]:
    """What has become known since the last time, parents first."""
    return sorted((known.popleft() for _ in range(len(known))), key=sort_key)


def _still(pair: Pair) -> Side:
    """The laptop's side with its small parts copied: another thread adds to them."""
    side = pair.replica.side
    return side._replace(
        issues=dict(side.issues),
        spelling=dict(side.spelling),
        holding=frozenset(side.holding),
        twins=dict(side.twins),
    )


def _summed(operations: list[Operation], agreed: dict[str, Entry | None]) -> Verdict:
    return Verdict(
        to_laptop=(),
        to_remote=tuple(operations),
        ancestor=agreed,
        conflicts=(),
        frozen=(),
        left_out=(),
        spent=(),
        candidates=frozenset(op.key for op in operations),
    )
