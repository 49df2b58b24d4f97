"""Bring back what a step displaced, on the side whose trash holds it. Runs on both sides.

Only displaced versions come back: what the step merely created stays, unless the step was itself
an undo: what that brought back goes to the trash again. A path that was edited since is left alone
and named. What has to make room goes to the trash in its turn, so an undo is a step that can be
undone. For the other side it is an edit like any other.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from remotedl.sync.agent.apply import Outcome, Status
from remotedl.sync.agent.disk import READ
from remotedl.sync.agent.protocol import Content
from remotedl.sync.agent.replica import Replica
from remotedl.sync.agent.staging import BadContent
from remotedl.sync.agent.trash import Trashed, entry_from_json, entry_to_json
from remotedl.sync.agent.tree import DIR, Change, Entry, Kind, check_path, key, parents, sort_key

REASON = "undo"


class Return(NamedTuple):
    """A version on its way back."""

    change: Change
    id: str
    """Its name in the trash; "" for a dir, which is only made."""


class Returned(NamedTuple):
    """How it ended for one path."""

    path: str
    why: str
    """Why not; "" if it is done."""
    change: Optional[Change] = None
    """What was done."""


def plan_undo(
    lines: Iterable[Trashed],
    tree: Mapping[str, Entry],
    only: Sequence[str] = (),
    made: Iterable[Change] = (),
) -> Tuple[List[Return], List[Returned]]:
    """What to do, in this order, and what is left alone. Pure.

    `lines`: one step's part of the journal. `tree`: what stands there now, by key. `only`: these
    paths and what is below them; all of them if empty. `made`: what the step, an undo, created.
    """
    taken, left = _plan_taking(made, tree, only)
    gone = {key(item.change.path) for item in taken}
    tree = {one: entry for one, entry in tree.items() if one not in gone} if gone else tree
    back, more = _plan_return(lines, tree, only)
    return taken + back, left + more


def _plan_taking(
    made: Iterable[Change], tree: Mapping[str, Entry], only: Sequence[str]
) -> Tuple[List[Return], List[Returned]]:
    """What an undo created goes again, bottom-up; what was edited since stays."""
    todo: List[Return] = []
    left: List[Returned] = []
    for one in sorted(made, key=lambda one: sort_key(one.path), reverse=True):
        now = tree.get(key(one.path))
        if now is None or not is_wanted(one.path, only):
            continue
        if now != one.new:
            left.append(Returned(one.path, "it was edited since"))
        elif now == DIR and _holds_more(tree, one.path, {key(item.change.path) for item in todo}):
            left.append(Returned(one.path, "it holds something else by now"))
        else:
            todo.append(Return(Change(one.path, now, None), ""))
    return todo, left


def _holds_more(tree: Mapping[str, Entry], path: str, besides: Set[str]) -> bool:
    below = key(path) + "/"
    return any(one.startswith(below) and one not in besides for one in tree)


def _plan_return(
    lines: Iterable[Trashed], tree: Mapping[str, Entry], only: Sequence[str]
) -> Tuple[List[Return], List[Returned]]:
    """What was displaced comes back, dirs first."""
    found = {line.path: line for line in lines if is_wanted(line.path, only)}
    todo: Dict[str, Return] = {}
    left: List[Returned] = []
    for path in sorted(found, key=sort_key):
        line = found[path]
        now = tree.get(key(path))
        why = _why_not(line, now, tree, todo)
        if now == line.old:
            continue
        if why:
            left.append(Returned(path, why))
            continue
        for folder in reversed(list(parents(path))):
            if folder not in todo and key(folder) not in tree:
                todo[folder] = Return(Change(folder, None, DIR), "")
        todo[path] = Return(Change(path, now, line.old), "" if line.old == DIR else line.id)
    return [todo[path] for path in sorted(todo, key=sort_key)], left


def undo(
    replica: Replica,
    step: str,
    only: Sequence[str],
    new_step: str,
    made: Iterable[Change] = (),
) -> List[Returned]:
    """Bring `step` back on this side, as `new_step`. Raises FolderGone, OSError."""
    lines = [line for line in replica.trash.kept() if line.step == step]
    todo, left = plan_undo(lines, replica.side.tree, only, made)
    ready: List[Return] = []
    for item in todo:
        try:
            _stage(replica, item)
        except (BadContent, FileNotFoundError) as exc:
            left.append(Returned(item.change.path, f"the trash lost it: {exc}"))
        else:
            ready.append(item)
    changes = [item.change for item in ready]
    outcomes = replica.apply(changes, new_step, [REASON] * len(changes))
    ended = [_ended(change, end) for change, end in zip(changes, outcomes)]
    return sorted([*ended, *left], key=lambda one: sort_key(one.path))


def changes_done(returned: Iterable[Returned]) -> Tuple[Change, ...]:
    """What really changed."""
    return tuple(one.change for one in returned if one.change is not None)


def to_json(returned: Iterable[Returned]) -> List[Any]:
    return [
        [one.path, one.why, one.change and [entry_to_json(entry) for entry in one.change[1:]]]
        for one in returned
    ]


def from_json(value: Any) -> List[Returned]:
    """Raises ValueError, KeyError, TypeError for what makes no sense."""
    found = []
    for path, why, entries in value:
        change = None
        if entries is not None:
            old, new = (entry_from_json(entry) for entry in entries)
            change = Change(check_path(str(path)), old, new)
        found.append(Returned(str(path), str(why), change))
    return found


def is_wanted(path: str, only: Sequence[str]) -> bool:
    """Whether `path` is one of `only` or below one; any is if `only` is empty."""
    return not only or any(path == one or path.startswith(one + "/") for one in only)


def _why_not(
    line: Trashed, now: Optional[Entry], tree: Mapping[str, Entry], todo: Mapping[str, Return]
) -> str:
    """What forbids to bring this version back; "" if nothing does. `todo` is done before it."""
    for folder in parents(line.path):
        if folder not in todo and tree.get(key(folder), DIR) != DIR:
            return "a file stands where its folder was"
    if now is None or now == line.old:
        return ""
    if now != line.new:
        return "it was edited since"
    if now == DIR and any(one.startswith(key(line.path) + "/") for one in tree):
        return "a folder with content stands there now"
    return ""


def _stage(replica: Replica, item: Return) -> None:
    """Have a content ready to be put in its place. Raises BadContent, OSError."""
    new = item.change.new
    if new is None or new.kind is not Kind.FILE or new.digest is None:
        return
    if replica.staging.has(new.digest):
        return
    source = replica.disk.open(item.id, READ, replica.trash.at)
    try:
        with replica.staging.receive(Content(new.digest, new.size)) as incoming:
            incoming.copy(source, 0, new.size)
            incoming.finish()
    finally:
        replica.disk.close(source)


def _ended(change: Change, end: Outcome) -> Returned:
    if end.status is Status.DONE:
        return Returned(change.path, "", change)
    return Returned(change.path, end.why or end.status.value)
