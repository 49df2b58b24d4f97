"""What the sync changed, step by step, and how to take a step back.

A step is what one cycle did to one side. Its list comes from the laptop's database; what can be
brought back is what the trash of that side still holds. Bringing back is `agent/undo.py`'s work,
on the side itself; the next cycle carries it over like any other edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from remotedl.errors import ProtocolError, UsageError
from remotedl.sync.agent.trash import Trashed, entry_from_json
from remotedl.sync.agent.tree import Change, Entry, Kind
from remotedl.sync.agent.undo import Returned, changes_done, from_json, undo
from remotedl.sync.database import Step
from remotedl.sync.opening import Pair
from remotedl.sync.verdict import Where


class PastChange(NamedTuple):
    """One path that a step changed."""

    path: str
    old: Entry | None
    new: Entry | None
    reason: str
    can_return: bool
    """`old` is still in the trash."""


class PastStep(NamedTuple):
    """What one cycle did to one side."""

    id: str
    where: Where
    at: float
    """Seconds since the epoch."""
    changes: tuple[PastChange, ...]

    @property
    def bytes_in_trash(self) -> int:
        return sum(one.old.size for one in self.changes if one.old and one.can_return)


class Undone(NamedTuple):
    """An undo, path by path."""

    step: str
    where: Where
    paths: tuple[Returned, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """What really came back."""
        return changes_done(self.paths)


def read_history(pair: Pair, limit: int = 100) -> tuple[PastStep, ...]:
    """The last steps, newest first. Raises LinkLost, ProtocolError."""
    trash = {Where.LAPTOP: pair.replica.trash.kept(), Where.REMOTE: _remote_trash(pair)}
    return merge_history(pair.database.steps(limit), trash)[:limit]


def merge_history(steps: Iterable[Step], trash: dict[Where, list[Trashed]]) -> tuple[PastStep, ...]:
    """The database's steps with what can be brought back; steps that only a trash remembers
    (the database was lost) are listed too. Pure."""
    kept = {(where, line.step, line.path): line for where in trash for line in trash[where]}
    found: dict[tuple[Where, str], PastStep] = {}
    for step in steps:
        where = Where(step.side)
        changes = [
            PastChange(
                change.path,
                change.old,
                change.new,
                reason,
                kept.pop((where, step.id, change.path), None) is not None,
            )
            for change, reason in zip(step.changes, step.reasons, strict=True)
        ]
        found[where, step.id] = PastStep(step.id, where, step.at, tuple(changes))
    for (where, id, path), line in kept.items():
        change = PastChange(path, line.old, line.new, line.reason, True)
        known = found.get((where, id), PastStep(id, where, line.at, ()))
        found[where, id] = known._replace(changes=(*known.changes, change))
    return tuple(sorted(found.values(), key=lambda step: (-step.at, step.id, step.where)))


def choose_step(history: Sequence[PastStep], wanted: str | None, where: Where | None) -> PastStep:
    """The step that the user means: by the beginning of its id, or the last that can come back.

    Raises UsageError.
    """
    hint = "remotedl sync history"
    found = [
        step
        for step in history
        if (wanted is None or step.id.startswith(wanted)) and where in (None, step.where)
    ]
    if wanted is None:
        found = [step for step in found if any(one.can_return for one in step.changes)][:1]
    if not found:
        what = "nothing to undo" if wanted is None else f"there is no step {wanted}"
        raise UsageError(what, hint=hint)
    if len({step.id for step in found}) > 1:
        raise UsageError(f"{wanted} may mean several steps", hint=hint)
    if len(found) > 1:
        raise UsageError(
            f"step {found[0].id} changed both sides: say --side laptop or --side remote", hint=hint
        )
    return found[0]


def undo_step(pair: Pair, step: PastStep, only: Sequence[str], new_step: str) -> Undone:
    """Bring back what `step` displaced, all of it or only these paths and what is below them.

    What was edited since stays and is named. Raises LinkLost, ProtocolError, OSError.
    """
    if step.where is Where.LAPTOP:
        return Undone(step.id, step.where, tuple(undo(pair.replica, step.id, only, new_step)))
    answer = pair.peer.ops("undo", step=step.id, paths=list(only), new_step=new_step).wait()
    try:
        paths = from_json(answer["paths"])
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"the agent on the host speaks nonsense: {exc}") from exc
    return Undone(step.id, step.where, tuple(paths))


def _remote_trash(pair: Pair) -> list[Trashed]:
    answer = pair.peer.ops("trash").wait()
    try:
        return [_line(row) for row in answer["lines"]]
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"the agent on the host speaks nonsense: {exc}") from exc


def _line(row: dict[str, Any]) -> Trashed:
    old = entry_from_json(row["old"])
    if old is None:
        raise ValueError("a line of the trash without an entry")
    return Trashed(
        str(row["id"]),
        str(row["step"]),
        float(row["at"]),
        str(row["path"]),
        old,
        entry_from_json(row["new"]),
        str(row["reason"]),
    )


def what_happened(change: PastChange) -> str:
    """One word for a line of the history."""
    if change.old is None:
        return "created"
    if change.new is None:
        return "deleted"
    if change.old.kind is not change.new.kind:
        return "replaced"
    same = change.old.kind is Kind.FILE and change.old.digest == change.new.digest
    return "mode" if same else "changed"
