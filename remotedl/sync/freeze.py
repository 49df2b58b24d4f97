"""Which paths are left alone in this cycle, with all below them, and why. Pure.

Nothing is decided about a path that a scan could not see well, or that one of the sides cannot
hold. Freezing costs a line in the status; guessing costs data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from remotedl.sync.agent.tree import (
    Entry,
    Folding,
    Issue,
    Kind,
    Side,
    Tree,
    name,
    nameable,
    parent,
    parents,
    sort_key,
)
from remotedl.sync.verdict import Frozen, Where

MAY_BE_WORK = frozenset([Issue.UNSTABLE, Issue.COLLIDING, Issue.ZEROED])
"""Even where nothing was synced before, a user may have written there."""


class Freezer:
    """The frozen keys of a cycle; grows while the reconciler works."""

    def __init__(self, ancestor: Tree, laptop: Side, remote: Side) -> None:
        self._ancestor = ancestor
        self._sides = {Where.LAPTOP: laptop, Where.REMOTE: remote}
        self._found: dict[str, set[Frozen]] = {}
        self._below: dict[str, bool] = {}
        for where, side in self._sides.items():
            for key, issue in side.issues.items():
                self.add(key, where, issue)

    def add(self, key: str, where: Where, issue: Issue) -> None:
        spellings = self._sides[where].twins.get(key, ()) if issue is Issue.COLLIDING else ()
        self._found.setdefault(key, set()).add(Frozen(key, where, issue, spellings))
        self._below.clear()

    def covers(self, key: str) -> bool:
        """Whether `key`, or a dir above it, is frozen."""
        return bool(self._found) and (key in self._found or self._above(key))

    def listed(self) -> tuple[Frozen, ...]:
        """All of them, sorted, without those below another one."""
        tops = [key for key in self._found if not key or not self._above(key)]
        return tuple(
            item for key in sorted(tops, key=sort_key) for item in sorted(self._found[key])
        )

    def holding_back(self) -> Iterable[tuple[str, Where, bool]]:
        """Each frozen key, its side, and whether it may hide what a user wrote.

        If it may, a dir above it is not deleted at all. If not (a socket, a file of root's that
        was never synced), the dir loses what is tracked and keeps the rest, as with ignored data.
        """
        for key, items in self._found.items():
            for item in items:
                hides = item.issue in MAY_BE_WORK or key in self._ancestor
                yield key, item.where, hides

    def _above(self, key: str) -> bool:
        folder = parent(key)
        known = self._below.get(folder)
        if known is None:
            found = self._found
            known = "" in found or folder in found or any(up in found for up in parents(folder))
            self._below[folder] = known
        return known

    def freeze_unnameable(self, candidates: Collection[str]) -> None:
        """Names that stand on one side and that the other cannot hold."""
        for where, other in ((Where.LAPTOP, Where.REMOTE), (Where.REMOTE, Where.LAPTOP)):
            here, there = self._sides[where], self._sides[other]
            if not (there.traits.windows_names or there.traits.folding.normalising):
                continue
            for key in candidates:
                one_sided = key in here.tree and key not in there.tree
                if one_sided and not nameable(name(key), there.traits):
                    self.add(key, where, Issue.UNNAMEABLE)

    def freeze_twins(self, candidates: Collection[str]) -> frozenset[str]:
        """Freeze names that a side cannot tell apart, unless one side renamed one to the other.

        Returns the old names of such renames: their delete has to come before the new name.
        """
        folding = Folding(case_insensitive=True)
        blind = [w for w, side in self._sides.items() if side.traits.folding.case_insensitive]
        groups = self._groups(candidates, folding) if blind else []
        renamed: set[str] = set()
        torn: set[str] = set()
        for group in groups:
            old = self._renamed_from(group)
            if old is None:
                torn.update(group)
            else:
                renamed.add(old)
        for group in groups:  # a dir is renamed with all that is in it, or not at all
            if any(up in group for key in torn for up in parents(key)):
                torn.update(group)
        for key in torn:
            for where in blind:
                self.add(key, where, Issue.COLLIDING)
        return frozenset(renamed - torn)

    def _groups(self, candidates: Collection[str], folding: Folding) -> list[frozenset[str]]:
        """Keys of both sides with one fold, where at least one of them is new."""
        fresh = {folding.fold(key) for key in candidates if key not in self._ancestor}
        groups: dict[str, set[str]] = {}
        for side in self._sides.values() if fresh else ():
            for key in side.tree:
                folded = folding.fold(key)
                if folded in fresh:
                    groups.setdefault(folded, set()).add(key)
        return [frozenset(group) for group in groups.values() if len(group) > 1]

    def _renamed_from(self, group: frozenset[str]) -> str | None:
        """The old name if one user changed nothing but the case; None if the names must stay."""
        if len(group) != 2:
            return None
        for old in sorted(group):
            (new,) = group - {old}
            for mine, other in (self._sides.values(), reversed(self._sides.values())):
                known = self._ancestor.get(old)
                if (
                    known is not None
                    and new not in self._ancestor
                    and mine.tree.get(old) is None
                    and new in mine.tree
                    and new not in other.tree
                    and other.tree.get(old) == known
                    and _same_kind(known, mine.tree[new])
                    and old not in other.holding
                ):
                    return old
        return None


def _same_kind(one: Entry, other: Entry) -> bool:
    return (one.kind is Kind.DIR) == (other.kind is Kind.DIR)
