"""What the sync says, as plain rows: for the live view, `status`, `--json`. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from remotedl.errors import SyncError
from remotedl.session.status import SyncLine
from remotedl.sync.agent.tree import Entry
from remotedl.sync.conflicts import Comparison
from remotedl.sync.estimate import Estimate, Way
from remotedl.sync.history import PastStep, what_happened
from remotedl.sync.remedies import (
    remedies,
    shown,
    shown_failure,
    shown_frozen,
    shown_left_out,
    troubles,
    troubles_behind,
    watching,
)
from remotedl.sync.safety import Halt
from remotedl.sync.status import Barrier, State, SyncStatus
from remotedl.sync.turns import waits_since
from remotedl.sync.verdict import Conflict, Frozen, Operation, Verdict, unmerged

LISTED = 1000
"""Paths that are named of each kind; more would not be read."""
NAMED = 3
"""Files that an error names; `remotedl sync status` lists all."""
AS_IT_IS = "or start it with what the host has: remotedl run --no-after-sync"


def sync_line(status: SyncStatus, mode: str) -> SyncLine:
    """What the live view and `status` show of a SyncStatus. Pure."""
    note = ", ".join(
        f"{shown(one.key)} {100 * one.done // max(one.size, 1)} %" for one in status.transfers[:3]
    )
    return SyncLine(
        mode=mode,
        last_success=status.last_success,
        pending=status.pending,
        conflicts=(*(one.key for one in status.conflicts), *status.unmerged)[:LISTED],
        failures=tuple(shown_failure(one) for one in status.failures[:LISTED]),
        frozen=tuple(shown_frozen(one) + _since(status, one) for one in status.frozen[:LISTED]),
        left_out=tuple(shown_left_out(one) for one in status.left_out[:LISTED]),
        degraded=watching(status),
        paused=status.state is State.PAUSED,
        halted=None if status.halt is None else status.halt.error().message,
        note=note,
        waits=None if status.disk_since is None else waits_since(status.disk_since),
        remedies=tuple((one.what, one.mend) for one in remedies(status)),
    )


def _since(status: SyncStatus, item: Frozen) -> str:
    """Of a file that a program is writing: since when it waits."""
    since = status.since.get(item.key)
    if since is None:
        return ""
    return time.strftime(": waits for its program since %H:%M:%S", time.localtime(since))


def barrier_row(barrier: Barrier) -> dict[str, Any]:
    """A barrier for JSON: what it could not bring over is named."""
    return {
        "clean": barrier.clean,
        "pending": barrier.pending,
        "failures": [failure.key for failure in barrier.failures],
        "conflicts": [conflict.key for conflict in barrier.conflicts],
        "frozen": [frozen.key for frozen in barrier.frozen],
        "behind": [one._asdict() for one in islice(troubles_behind(barrier), LISTED)],
        "troubles": [one._asdict() for one in islice(troubles(barrier), LISTED)],
    }


def require_as_saved(behind: Sequence[Mapping[str, str]], host: str) -> None:
    """`behind` of a barrier. Raises SyncError where a job would run with older files than these."""
    if not behind:
        return
    named = ", ".join(f"{shown(one['path'])} ({one['what']})" for one in behind[:NAMED])
    more = f" and {len(behind) - NAMED} more" if len(behind) > NAMED else ""
    message = f"{host} does not have as saved: {named}{more}; the job was not started"
    raise SyncError(message, hint=f"{behind[0]['mend']}; {AS_IT_IS}")


def conflict_row(conflict: Conflict) -> dict[str, Any]:
    """A conflict for JSON."""
    sides = {"ancestor": conflict.ancestor, "laptop": conflict.laptop, "remote": conflict.remote}
    row: dict[str, Any] = {"path": conflict.key, "kind": conflict.kind.value}
    row["held"] = conflict.held
    return row | {
        side: None if entry is None else entry_row(entry) for side, entry in sides.items()
    }


def unmerged_row(key: str) -> dict[str, Any]:
    """A version that could not be merged where the file was open, for JSON."""
    kind = f"could not be merged into {unmerged(key)}, which was open in Jupyter"
    return {"path": key, "kind": kind, "beside": unmerged(key)}


def entry_row(entry: Entry) -> dict[str, Any]:
    digest = entry.digest.hex() if entry.digest is not None else None
    return {"kind": entry.kind.value, "size": entry.size, "digest": digest, "target": entry.target}


def step_row(step: PastStep) -> dict[str, Any]:
    """A step of the history for JSON."""
    changes = [
        {"path": one.path, "did": what_happened(one), "why": one.reason, "can_undo": one.can_return}
        for one in step.changes
    ]
    return {"id": step.id, "side": step.where.value, "at": step.at, "changes": changes}


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """What differs in a conflict, for JSON."""
    how, version = comparison.how.value, comparison.version
    return {"how": how, "lines": list(comparison.lines), "version": version}


def plan_row(verdict: Verdict, cost: Estimate, halt: Halt | None) -> dict[str, Any]:
    """What a cycle would do and what it costs, for JSON: bytes and seconds, the largest first."""

    def side(operations: Iterable[Operation]) -> list[dict[str, Any]]:
        rows = [
            {
                "path": one.key,
                "does": "delete" if one.new is None else "write",
                "kind": _kind(one),
                "size": one.new.size if one.new is not None else 0,
                "reason": one.reason.value,
            }
            for one in operations
        ]
        return sorted(rows, key=lambda row: (-int(str(row["size"])), str(row["path"])))

    return {
        "estimate": estimate_row(cost),
        "halt": None if halt is None else {"message": halt.message, "hint": halt.hint},
        "to_remote": side(verdict.to_remote),
        "to_laptop": side(verdict.to_laptop),
        "conflicts": [conflict_row(conflict) for conflict in verdict.conflicts],
        "frozen": [shown_frozen(one) for one in verdict.frozen],
        "left_out": [shown_left_out(one) for one in verdict.left_out],
    }


def _kind(operation: Operation) -> str:
    """file, dir or link: of what comes, or of what goes."""
    entry = operation.new or operation.expected
    return entry.kind.value if entry is not None else ""


def estimate_row(cost: Estimate) -> dict[str, Any]:
    """What a cycle costs. `rate` in bytes a second, as measured."""

    def way(one: Way) -> dict[str, int]:
        return one._asdict()

    return {
        "to_remote": way(cost.to_remote),
        "to_laptop": way(cost.to_laptop),
        "rate": cost.rate,
        "seconds": cost.seconds,
        "largest": [
            {"path": item.path, "to": item.where.value, "size": item.size} for item in cost.largest
        ],
        "conflicts": cost.conflicts,
        "frozen": cost.frozen,
        "left_out": cost.left_out,
        "left_out_bytes": cost.left_out_bytes,
    }
