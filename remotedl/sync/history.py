"""What the sync changed, step by step, and how to take a step back.

A step is what one cycle did to one side. Its list comes from the laptop's database; what can be
brought back is what the trash of that side still holds. Bringing back is `agent/undo.py`'s work,
on the side itself; the next cycle carries it over like any other edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from remotedl.errors import ProtocolError, UsageError
from remotedl.sync.agent.trash import Trashed, entry_from_json, entry_to_json
from remotedl.sync.agent.tree import Change, Entry, Kind, Tree, key
from remotedl.sync.agent.undo import REASON as UNDO
from remotedl.sync.agent.undo import Returned, changes_done, from_json, is_wanted, undo
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
    """`old` is still in the trash; or an undo made this, and it can go there again."""


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
    steps = list(steps)
    order = _order(steps, trash)
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
                kept.pop((where, step.id, change.path), None) is not None
                or (reason == UNDO and change.old is None),
            )
            for change, reason in zip(step.changes, step.reasons, strict=True)
        ]
        found[where, step.id] = PastStep(step.id, where, step.at, tuple(changes))
    for (where, id, path), line in kept.items():
        change = PastChange(path, line.old, line.new, line.reason, True)
        known = found.get((where, id), PastStep(id, where, line.at, ()))
        found[where, id] = known._replace(changes=(*known.changes, change))
    newest_first = sorted(found.values(), key=lambda step: step.where)
    newest_first.sort(key=lambda step: order[step.id], reverse=True)
    return tuple(newest_first)


def _order(
    steps: Sequence[Step], trash: Mapping[Where, Sequence[Trashed]]
) -> dict[str, tuple[float, ...]]:
    """When each step was, by its place in the database or in a journal: clocks may jump.

    A step that only a journal knows comes after the last one before it that the database knows.
    `steps`: newest first.
    """
    order: dict[str, tuple[float, ...]] = {}
    for number, step in enumerate(steps):
        order.setdefault(step.id, (float(len(steps) - number),))
    for lines in trash.values():
        after, latest = 0.0, 0.0
        for number, line in enumerate(lines):
            latest = max(latest, line.at)
            if line.step not in order:
                order[line.step] = (after, latest, float(number))
            elif len(order[line.step]) == 1:
                after = order[line.step][0]
    return order


def choose_step(
    history: Sequence[PastStep],
    wanted: str | None,
    where: Where | None,
    only: Sequence[str] = (),
    trees: Mapping[Where, Tree] | None = None,
) -> PastStep:
    """The step that the user means: by the beginning of its id, or the last that can come back.

    `only`: what is wanted of it. `trees`: what stands there now; what stands there already need
    not come back. Raises UsageError.
    """
    hint = "remotedl sync history"
    found = [
        step
        for step in history
        if (wanted is None or step.id.startswith(wanted)) and where in (None, step.where)
    ]
    if wanted is None:
        found = [step for step in found if _brings_back(step, only, trees)][:1]
    if not found:
        at = f" at {', '.join(only)}" if only else ""
        what = f"nothing to undo{at}" if wanted is None else f"there is no step {wanted}"
        raise UsageError(what, hint=hint)
    if len({step.id for step in found}) > 1:
        raise UsageError(f"{wanted} may mean several steps", hint=hint)
    if len(found) > 1:
        raise UsageError(
            f"step {found[0].id} changed both sides: say --side laptop or --side remote", hint=hint
        )
    if not _brings_back(found[0], only, trees):
        at = f" at {', '.join(only)}" if only else ""
        message = f"step {found[0].id} has nothing to bring back{at}: it displaced nothing there, "
        raise UsageError(f"{message}the trash has lost it, or it is back", hint=hint)
    return found[0]


def _brings_back(step: PastStep, only: Sequence[str], trees: Mapping[Where, Tree] | None) -> bool:
    tree = None if trees is None else trees[step.where]
    return any(
        one.can_return
        and is_wanted(one.path, only)
        and (tree is None or tree.get(key(one.path)) != one.old)
        for one in step.changes
    )


def undo_step(pair: Pair, step: PastStep, only: Sequence[str], new_step: str) -> Undone:
    """Bring back what `step` displaced, all of it or only these paths and what is below them.

    What was edited since stays and is named. Raises LinkLost, ProtocolError, OSError.
    """
    made = [
        Change(one.path, None, one.new)
        for one in step.changes
        if one.reason == UNDO and one.old is None
    ]
    if step.where is Where.LAPTOP:
        returned = undo(pair.replica, step.id, only, new_step, made)
        return Undone(step.id, step.where, tuple(returned))
    rows = [[one.path, entry_to_json(one.new)] for one in made]
    answer = pair.peer.ops(
        "undo", step=step.id, paths=list(only), new_step=new_step, made=rows
    ).wait()
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
