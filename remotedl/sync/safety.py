"""The last look before anything is applied. Every deletion passes here. Pure.

Three halts: a root is missing or replaced, a root was emptied, too much of the laptop would be
deleted, in one cycle or in those of the last minutes. A halt changes nothing and names the way on.
What passes comes out as `Cleared`, the only thing that the cycle hands to apply.

A fourth, `UNSOUND`, never happens: each deletion and each replacement is proved once more, from
the trees alone, against the invariants of docs/sync.md. A defect in `reconcile` then costs a
stopped sync, not a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from remotedl.errors import SyncHalted
from remotedl.sync.agent.tree import DIR, Entry, Issue, Kind, Side, Tree, parent, parents
from remotedl.sync.instructions import Instructions
from remotedl.sync.losses import WINDOW_S
from remotedl.sync.verdict import Operation, Reason, Verdict, Where

DELETES_ALWAYS_FINE = 50
DELETES_FINE_SHARE = 0.25

KEPT_NAMED = 5
"""So many paths are named in one notice."""

FOLLOWS_ANCESTOR = frozenset([Reason.DELETED, Reason.EDITED, Reason.KIND_CHANGED])
"""Reasons for which the displaced version is the one that both sides agreed on."""


class Root(NamedTuple):
    """What a side says about its root, and what the database expects of it."""

    exists: bool
    """It is there and is a dir."""
    marker: str | None
    """The id in its `.remotedl/`, None when there is none."""
    expected: str | None
    """The id at the last sync, None before the first one."""


class HaltKind(StrEnum):
    """What the user may let pass, once, with `--allow`."""

    ROOT_MISSING = "root-missing"
    """Let pass: the root is made anew, the ancestor forgotten, nothing deleted."""
    ROOT_REPLACED = "root-replaced"
    """No marker, or another one. Let pass: the ancestor is forgotten, both sides are united."""
    ROOT_EMPTIED = "root-emptied"
    """Let pass: the other side is emptied too, into its trash."""
    MASS_DELETE = "mass-delete"
    """Let pass: the files go to the laptop's trash."""
    ROOT_IN_USE = "root-in-use"
    """Another machine syncs the host's folder. Let pass: the folder is taken over, and the other
    machine is refused until it takes it over in turn."""
    UNSOUND = "unsound"
    """A verdict that breaks an invariant: a defect of ours. Cannot be let pass."""


class Halt(NamedTuple):
    """Why this cycle changes nothing."""

    kind: HaltKind
    where: Where
    message: str
    hint: str

    def error(self) -> SyncHalted:
        return SyncHalted(self.message, hint=self.hint)


class Cleared(NamedTuple):
    """Operations that may be applied, in their order, and what to tell the user beforehand."""

    to_laptop: tuple[Operation, ...]
    to_remote: tuple[Operation, ...]
    notices: tuple[str, ...]


NOTHING_ALLOWED: frozenset[HaltKind] = frozenset()


def check_roots(
    laptop: Root, remote: Root, allowed: frozenset[HaltKind] = NOTHING_ALLOWED
) -> Halt | None:
    """Before trees are compared: whether both roots are the ones of the last sync."""
    for where, root in ((Where.LAPTOP, laptop), (Where.REMOTE, remote)):
        if not root.exists:
            kind = HaltKind.ROOT_MISSING
            what = "is not there"
        elif root.expected is not None and root.marker != root.expected:
            kind = HaltKind.ROOT_REPLACED
            what = "is not the one of the last sync" if root.marker else "has lost its marker"
        else:
            continue
        if kind not in allowed:
            message = f"{_folder(where)} {what}: it may have been replaced, moved or unmounted"
            way_on = "put it back, or unite both sides without deleting anything"
            return Halt(kind, where, message, _let_pass(kind, way_on))
    return None


def clear(
    verdict: Verdict,
    ancestor: Tree,
    laptop: Side,
    remote: Side,
    allowed: frozenset[HaltKind] = NOTHING_ALLOWED,
    lost: frozenset[str] = frozenset(),
    instructions: Instructions | None = None,
) -> Cleared | Halt:
    """Before anything is applied. `allowed`: halts that the user lets pass, this once. `lost`:
    the laptop's files that the cycles of the last minutes deleted, see `Losses`.
    """
    brought = _unasked(verdict.to_laptop, ancestor, instructions or Instructions())
    if brought is not None:
        return brought
    to_laptop = _Look(verdict.to_laptop, Where.LAPTOP, laptop, remote, ancestor, lost)
    to_remote = _Look(verdict.to_remote, Where.REMOTE, remote, laptop, ancestor)
    for look in (to_laptop, to_remote):
        for halt in (look.unsound(), look.emptied(), look.deletes_too_much()):
            if halt is not None and halt.kind not in allowed - {HaltKind.UNSOUND}:
                return halt
    notices = (*to_remote.notices(), *to_laptop.kept(), *to_remote.kept())
    return Cleared(verdict.to_laptop, verdict.to_remote, notices)


def _unasked(
    to_laptop: Iterable[Operation], ancestor: Tree, instructions: Instructions
) -> Halt | None:
    """What tells a program of the laptop what to do would come from the host, or be removed for
    it, without somebody's decision."""
    for op in to_laptop:
        decided = op.reason in (Reason.RESOLVED, Reason.MADE_ROOM)
        if decided or (op.new is not None and op.new == ancestor.get(op.key)):
            continue
        entry = op.new or op.expected
        if entry is not None and instructions.holds(op.key, entry.kind):
            return _defect(op, Where.LAPTOP, "it is never taken from a host unasked")
    return None


def _defect(op: Operation, where: Where, broken: str) -> Halt:
    message = f"stopped before {op.path!r} on {_folder(where)}: {broken}"
    hint = "this is a defect of remotedl; please report it with: remotedl sync status"
    return Halt(HaltKind.UNSOUND, where, message, hint)


class _Look(NamedTuple):
    """The operations on one side, and what they are judged by."""

    operations: tuple[Operation, ...]
    where: Where
    here: Side
    """The side that is to be changed."""
    there: Side
    ancestor: Tree
    lost: frozenset[str] = frozenset()

    def unsound(self) -> Halt | None:
        for op in self.operations:
            broken = self._broken(op)
            if broken:
                return _defect(op, self.where, broken)
        return None

    def _broken(self, op: Operation) -> str:
        """Which invariant an operation would break; empty if none."""
        if op.expected != self.here.tree.get(op.key):
            return "it expects what the scan did not see"
        if op.expected is None:
            return ""
        if _unseen(op.key, self.here.issues):
            return "it could not be read well on this side"
        if op.reason in FOLLOWS_ANCESTOR and not _same(op.expected, self.ancestor.get(op.key)):
            return "the version to be displaced was never on both sides"
        if op.new is None and op.key in self.there.tree:
            return "it still stands on the other side"
        if op.new is None and _unseen(op.key, self.there.issues):
            return "the other side could not be listed in full"
        return ""

    def emptied(self) -> Halt | None:
        """The other side holds nothing any more, and this one would follow."""
        if self.there.tree or len(self.ancestor) < 2 or not any(self._deleted()):
            return None
        where = Where.REMOTE if self.where is Where.LAPTOP else Where.LAPTOP
        message = f"{_folder(where)} is empty, and held {_count(self.ancestor.values())} before"
        way_on = "put the files back, or empty the other side too (into its trash)"
        return Halt(HaltKind.ROOT_EMPTIED, where, message, _let_pass(HaltKind.ROOT_EMPTIED, way_on))

    def deletes_too_much(self) -> Halt | None:
        if self.where is not Where.LAPTOP or not self._is_mass_delete():
            return None
        deleted = len(list(self._deleted()))
        message = (
            f"{deleted} of the laptop's {_count(self.here.tree.values())} are gone on the host "
            "and would be deleted here"
        )
        if self.lost:
            message += f"; {len(self.lost)} went within the last {WINDOW_S / 60:.0f} minutes"
        way_on = "bring them back on the host, or let them go to the laptop's trash"
        return Halt(
            HaltKind.MASS_DELETE, self.where, message, _let_pass(HaltKind.MASS_DELETE, way_on)
        )

    def notices(self) -> Iterator[str]:
        if self._is_mass_delete():
            deleted = len(list(self._deleted()))
            yield (
                f"{deleted} files that are gone on the laptop go to the trash on the host; "
                "remotedl sync undo brings them back"
            )

    def kept(self) -> Iterator[str]:
        """Work on the other side in a folder that was deleted on this one."""
        back = {op.key: op for op in self.operations if op.reason is Reason.RESTORED}
        work = [key for key, op in back.items() if op.new != DIR and parent(key) in back]
        if work:
            named = ", ".join(repr(key) for key in work[:KEPT_NAMED])
            more = f" and {len(work) - KEPT_NAMED} more" if len(work) > KEPT_NAMED else ""
            other = Where.REMOTE if self.where is Where.LAPTOP else Where.LAPTOP
            yield (
                f"deleted in {_folder(self.where)}, but new or edited in {_folder(other)}: "
                f"{named}{more}; kept, with the folders that lead there"
            )

    def _is_mass_delete(self) -> bool:
        deleted = sum(1 for _ in self._deleted())
        before = len(self.lost)
        if not deleted or before + deleted <= DELETES_ALWAYS_FINE:
            return False
        files = len(_files(self.here.tree.values()))
        return before + deleted > DELETES_FINE_SHARE * (before + files)

    def _deleted(self) -> Iterator[Operation]:
        for op in self.operations:
            if op.new is None and op.expected is not None and op.expected.kind is not Kind.DIR:
                yield op


def _unseen(key: str, issues: Mapping[str, Issue]) -> bool:
    """Whether `key` or a dir above it has an issue."""
    return bool(issues) and (
        "" in issues or key in issues or any(p in issues for p in parents(key))
    )


def _same(one: Entry, other: Entry | None) -> bool:
    """Equal but for the x bit, which some laptops do not keep."""
    return other is not None and one._replace(executable=other.executable) == other


def _files(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.kind is not Kind.DIR]


def _count(entries: Iterable[Entry]) -> str:
    number = len(_files(entries))
    return "1 file" if number == 1 else f"{number} files"


def _folder(where: Where) -> str:
    return "the laptop's folder" if where is Where.LAPTOP else "the host's folder"


def _let_pass(kind: HaltKind, way_on: str) -> str:
    return f"{way_on}: remotedl sync --once --allow {kind}"
