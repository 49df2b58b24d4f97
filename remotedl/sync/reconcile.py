"""Who gets what: the table of docs/sync.md as one pure function. Touches nothing, asks nobody.

Three trees go in (what both sides last agreed on, the laptop's, the remote's), a `Verdict`
comes out. It never guesses: what a scan could not see is frozen, what both sides changed is a
conflict, and every operation names the entry that it expects to find (compare-and-swap).
`safety` looks at a verdict before anything is applied.

Only keys whose entries differ somewhere are looked at, the candidates. They form whole subtrees:
where a dir is gone or became something else on one side, all that was or is below it differs
too. So one pass bottom-up sums up what a dir holds, and one pass top-down decides, each dir
handing a `Way` down to what is below it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from enum import IntFlag
from itertools import islice
from typing import NamedTuple

from remotedl.config.models import SyncMode
from remotedl.sync.agent.tree import (
    DIR,
    Entry,
    Issue,
    Kind,
    Side,
    Tree,
    changed_keys,
    join,
    name,
    parent,
    sort_key,
)
from remotedl.sync.freeze import Freezer
from remotedl.sync.lanes import Choice, Lane, Policy
from remotedl.sync.verdict import (
    Conflict,
    ConflictKind,
    Frozen,
    LeftOut,
    LeftOutWhy,
    Operation,
    Phase,
    Reason,
    Verdict,
    Where,
    conflict_copy,
    settle,
)

__all__ = [
    "Conflict",
    "ConflictKind",
    "Frozen",
    "LeftOut",
    "LeftOutWhy",
    "Operation",
    "Phase",
    "Reason",
    "Verdict",
    "Where",
    "conflict_copy",
    "reconcile",
    "settle",
]


def reconcile(
    ancestor: Tree,
    laptop: Side,
    remote: Side,
    policy: Policy,
    changed: Iterable[str] | None = None,
) -> Verdict:
    """Decide every path. Symmetric but for modes, lanes and traits.

    `changed` saves comparing whole trees: every key whose entry on either side or in the
    ancestor changed since the last verdict, and that verdict's `candidates`. Left out, the trees
    are compared (100,000 equal entries: below 0.1 s).
    """
    if changed is None:
        changed = changed_keys(ancestor, laptop.tree) | changed_keys(ancestor, remote.tree)
    return _Cycle(ancestor, laptop, remote, policy).decide(changed)


class Holds(IntFlag):
    """What stands below a dir, on one side, that matters when the dir is gone on the other."""

    NOTHING = 0
    EDIT = 1
    """Something new or changed that has to go to the other side: what leads to it is restored."""
    KEPT = 2
    """Something tracked or new that stays here on purpose: too big, or another lane's."""
    IGNORED = 4
    """Something that is never synced."""
    HIDDEN = 8
    """Something frozen: nobody knows."""


class _Replica:
    """One side and what is to be done to it."""

    def __init__(self, where: Where, side: Side) -> None:
        self.where = where
        self.side = side
        self.tree = side.tree
        self.operations: list[Operation] = []
        self.holds: dict[str, Holds] = {}


class Way(NamedTuple):
    """How everything below a decided dir is treated, instead of by the table."""

    step: Callable[[str, _Replica], None]
    """Decides one key."""
    replica: _Replica


class _Cycle:
    """One call of `reconcile`."""

    def __init__(self, ancestor: Tree, laptop: Side, remote: Side, policy: Policy) -> None:
        self.ancestor = ancestor
        self.laptop = _Replica(Where.LAPTOP, laptop)
        self.remote = _Replica(Where.REMOTE, remote)
        self.policy = policy
        self.freezer = Freezer(ancestor, laptop, remote)
        self.agreed: dict[str, Entry | None] = {}
        self.conflicts: list[Conflict] = []
        self.left_out: list[LeftOut] = []
        self.ways: dict[str, Way] = {}
        self.order: list[str] = []
        self.seen: dict[str, tuple[Entry | None, Entry | None, Entry | None]] = {}
        self.makes_room: frozenset[str] = frozenset()
        self.summed = False
        self.ignored: dict[str, bool] = {}
        self.valid: set[str] = set()
        """Keys of decisions that were acted upon, or wait for what is in the way."""

    def decide(self, changed: Iterable[str]) -> Verdict:
        self._look(changed)
        for key in self.order:
            way = self.ways.get(parent(key)) if self.ways else None
            if way is None:
                self._by_lane(key)
            else:
                way.step(key, way.replica)
                self.ways.setdefault(key, way)
        return Verdict(
            to_laptop=_in_order(self.laptop.operations),
            to_remote=_in_order(self.remote.operations),
            ancestor=self.agreed,
            conflicts=tuple(self.conflicts),
            frozen=self.freezer.listed(),
            left_out=tuple(self.left_out),
            spent=tuple(sorted(self._spent())),
            candidates=frozenset(self.candidates),
        )

    # --- which keys, and what stands there

    def _look(self, changed: Iterable[str]) -> None:
        self._note_differing(changed)
        candidates = self.candidates = list(self.seen)
        self.freezer.freeze_unnameable(candidates)
        self.makes_room = self.freezer.freeze_twins(candidates)
        covers = self.freezer.covers
        for key in candidates:
            if covers(key):
                continue
            if self._is_ignored(key):
                self._forget(key)
            else:
                self.order.append(key)
        self.order.sort(key=sort_key)

    def _note_differing(self, changed: Iterable[str]) -> None:
        """The three entries of every key that needs a decision."""
        ancestor, laptops, remotes = self.ancestor.get, self.laptop.tree.get, self.remote.tree.get
        laptop_lacks_x = not self.laptop.side.traits.executable
        remote_lacks_x = not self.remote.side.traits.executable
        seen = self.seen
        for key in changed:
            known, laptop, remote = ancestor(key), laptops(key), remotes(key)
            if laptop_lacks_x:
                laptop = _with_x_bit_of(known, remote, laptop)
            if remote_lacks_x:
                remote = _with_x_bit_of(known, laptop, remote)
            if not known == laptop == remote:
                seen[key] = (known, laptop, remote)

    def _is_ignored(self, key: str) -> bool:
        """A rule that is new since the last cycle: forgotten, never deleted."""
        folder, _, leaf = key.rpartition("/")
        ignore = self.policy.ignore
        known = self.ignored.get(folder)
        if known is None:
            known = self.ignored[folder] = bool(folder) and ignore.ignores(folder, True)
        return known or ignore.ignores_child(folder, leaf, DIR in self.seen[key])

    def _forget(self, key: str) -> None:
        if key in self.ancestor:
            self.agreed[key] = None

    # --- what stands below a dir

    def _held(self, key: str, replica: _Replica) -> Holds:
        if not self.summed:
            self.summed = True
            self._sum_up()
        return replica.holds.get(key, Holds.NOTHING)

    def _sum_up(self) -> None:
        for replica in (self.laptop, self.remote):
            holds = replica.holds
            for key in reversed(self.order):
                what = holds.get(key, Holds.NOTHING) | self._means(key, replica)
                if key in replica.side.holding:
                    what |= Holds.IGNORED
                    holds[key] = holds.get(key, Holds.NOTHING) | Holds.IGNORED
                if what:
                    above = parent(key)
                    holds[above] = holds.get(above, Holds.NOTHING) | what
        for key, where, hides in self.freezer.holding_back():
            replicas = (self.laptop, self.remote) if hides else (self._replica(where),)
            what = Holds.HIDDEN if hides else Holds.IGNORED
            for replica in replicas:
                _spread(replica.holds, parent(key), what)

    def _means(self, key: str, replica: _Replica) -> Holds:
        """What the entry at `key` itself means for the dirs above it."""
        known, laptop, remote = self.seen[key]
        here = laptop if replica is self.laptop else remote
        if here is None:
            return Holds.NOTHING
        lane = self.policy.lane(key, here.kind)
        if lane is Lane.OUTPUT and (replica is self.laptop or here == known):
            return Holds.KEPT
        if lane is Lane.UPLOAD:
            return Holds.NOTHING if here == known else Holds.KEPT
        if lane is Lane.HELD and (replica is self.laptop or here != known):
            return Holds.EDIT  # what the host does never removes it here, and is listed
        if here == known:
            return Holds.NOTHING
        return Holds.KEPT if self._unfit(key, here, self._other(replica)) else Holds.EDIT

    # --- the table

    def _by_lane(self, key: str) -> None:
        _, laptop, remote = self.seen[key]
        if laptop == remote:
            self.agreed[key] = laptop
            return
        lane = self.policy.lane(key, (laptop or remote or DIR).kind)
        if lane is Lane.MIRROR:
            self._mirror(key)
        elif lane is Lane.UPLOAD:
            self._upload(key)
        elif lane is Lane.HELD:
            self._hold(key)
        else:
            self._output(key)

    def _mirror(self, key: str) -> None:
        known, laptop, remote = self.seen[key]
        if remote == known:
            self._one_changed(key, self.laptop, self.remote)
        elif laptop == known:
            self._one_changed(key, self.remote, self.laptop)
        elif laptop is None:
            self._put(key, self.laptop, Reason.RESTORED)
        elif remote is None:
            self._put(key, self.remote, Reason.RESTORED)
        else:
            self._both_changed(key, self.laptop, self.remote)

    def _one_changed(self, key: str, here: _Replica, there: _Replica) -> None:
        """`there` is as in the ancestor."""
        known = self.ancestor.get(key)
        now = self._entry(key, here)
        if known is None:
            self._put(key, there, Reason.NEW)
        elif now is None and known == DIR:
            self._dir_deleted(key, there)
        elif now is None:
            self._delete(key, there)
        elif now.kind is known.kind:
            self._put(key, there, Reason.EDITED)
        elif known == DIR:
            self._dir_replaced(key, here, there)
        else:
            self._put(key, there, Reason.KIND_CHANGED)

    def _dir_deleted(self, key: str, there: _Replica) -> None:
        """A dir is gone on the other side and still stands `there`."""
        held = self._held(key, there)
        if held & Holds.HIDDEN:
            self._skip_below(key)
        else:
            self._remove_below(key, there)
            self.ways[key] = Way(self._remove_below, there)

    def _dir_replaced(self, key: str, here: _Replica, there: _Replica) -> None:
        """`here` a dir became something else; `there` it has to make room."""
        held = self._held(key, there)
        if held & Holds.HIDDEN:
            self._skip_below(key)
        elif held & (Holds.EDIT | Holds.KEPT):
            self._conflict(key)
        elif held & Holds.IGNORED:
            self._blocked(key, there)
        elif self._put(key, there, Reason.KIND_CHANGED):
            self.ways[key] = Way(self._clear_below, there)

    def _both_changed(self, key: str, *to: _Replica) -> None:
        """Both entries are there, differ from the ancestor and from each other.

        `to`: the sides that a merged version may go to.
        """
        merged = _merge(*self.seen[key])
        changes = [r for r in (self.laptop, self.remote) if self._entry(key, r) != merged]
        if merged is None or self._unfit(key, merged, self.laptop) or not set(changes) <= set(to):
            self._conflict(key)
            return
        for replica in changes:
            self._write(key, replica, merged, Reason.MERGED)

    def _upload(self, key: str) -> None:
        """Laptop to host only."""
        known, laptop, remote = self.seen[key]
        if remote == known:
            self._one_changed(key, self.laptop, self.remote)
        elif remote is None:
            self._put(key, self.remote, Reason.RESTORED)
            self.ways[key] = Way(self._restore_below, self.remote)
        elif laptop is None:
            self._forget(key)
            self._leave_out(key, remote, LeftOutWhy.UPLOAD_ONLY)
            if remote == DIR:
                self._skip_below(key)
        elif laptop == known:
            self._leave_out(key, remote, LeftOutWhy.UPLOAD_ONLY)
            self._skip_below(key)
        else:
            self._both_changed(key, self.remote)

    def _hold(self, key: str) -> None:
        """What tells a program of the laptop what to do: the laptop's changes go up, the host's
        wait to be looked at, and gone on the host is no wish of the laptop's user."""
        known, _, remote = self.seen[key]
        if remote == known:
            self._one_changed(key, self.laptop, self.remote)
        elif remote is None:
            self._put(key, self.remote, Reason.RESTORED)
            self.ways[key] = Way(self._restore_below, self.remote)
        else:
            self._conflict(key)

    def _output(self, key: str) -> None:
        """Host to laptop only, and nothing is ever deleted: a deletion just stays one-sided."""
        known, laptop, remote = self.seen[key]
        if remote == known:
            self._output_gone(key, laptop)
        elif remote is None:
            return
        elif laptop is None:
            self._put(key, self.laptop, Reason.NEW if known is None else Reason.RESTORED)
        elif laptop != known:
            self._both_changed(key, self.laptop)
        elif known == DIR:
            self._conflict(key)
        else:
            self._put(key, self.laptop, Reason.EDITED)

    def _output_gone(self, key: str, laptop: Entry | None) -> None:
        """The laptop's user removed results, or put something in their place."""
        news = self._held(key, self.remote) & Holds.EDIT
        if laptop is None:
            if news:
                self._put(key, self.laptop, Reason.RESTORED)
        elif news:
            self._conflict(key)
        else:
            self._skip_below(key)

    # --- below a dir that was decided

    def _skip(self, key: str, replica: _Replica) -> None:
        """Left as it is."""

    def _skip_below(self, key: str) -> None:
        self.ways[key] = Way(self._skip, self.laptop)

    def _restore_below(self, key: str, gone: _Replica) -> None:
        """The whole dir comes back to the side where it is gone."""
        if self._entry(key, self._other(gone)) is None:
            self._forget(key)
        else:
            self._put(key, gone, Reason.RESTORED)

    def _win_below(self, key: str, loser: _Replica) -> None:
        """The winner's dir takes a place: all in it is put there."""
        if self._entry(key, self._other(loser)) is None:
            self._forget(key)
        else:
            self._put(key, loser, Reason.RESOLVED, forced=True)

    def _remove_below(self, key: str, there: _Replica) -> None:
        """What is tracked and unchanged goes. What is new or edited stays and comes back to the
        other side, with the dirs that lead to it; dirs that hold anything else just stay.
        """
        now = self._entry(key, there)
        if now is None:
            self._forget(key)
            return
        means, held = self._means(key, there), self._held(key, there)
        if now == DIR:
            means |= held & Holds.EDIT
        if means & Holds.EDIT and self._is_kept_from(key, self._other(there)):
            self._conflict(key)
        elif means & Holds.EDIT:
            self._put(key, self._other(there), Reason.RESTORED)
        elif now != self.ancestor.get(key):
            self._stays(key, now, there)
        elif not (means & Holds.KEPT or (now == DIR and held)):
            self._delete(key, there)

    def _clear_below(self, key: str, there: _Replica) -> None:
        """Everything makes room, into the trash."""
        if self._entry(key, there) is None:
            self._forget(key)
        else:
            self._delete(key, there, Reason.MADE_ROOM, Phase.CLEAR)

    def _stays(self, key: str, now: Entry, there: _Replica) -> None:
        """New or changed in a deleted dir, and not to be brought back: it stays where it is."""
        lane = self.policy.lane(key, now.kind)
        if lane is Lane.UPLOAD:
            self._forget(key)
            self._leave_out(key, now, LeftOutWhy.UPLOAD_ONLY)
            return
        why = self._unfit(key, now, self._other(there))
        if why is not None:
            self._leave_out(key, now, why)

    # --- conflicts

    def _conflict(self, key: str) -> None:
        known, laptop, remote = self.seen[key]
        version = self._version(key)
        choice, reason = self._choice(key, laptop, version)
        if choice is Choice.BOTH and laptop is None:
            choice = None
        if choice is Choice.BOTH:
            copied = self._copy_beside(key)
            if copied is not True:
                choice = None
            if copied is False:
                self._skip_below(key)
                return
        if choice is not None:
            loser = self.laptop if choice is Choice.REMOTE else self.remote
            if self._overrule(key, loser, reason):
                return
        held = self._brings_instructions(key)
        if laptop is None or (held and laptop == known != DIR):
            kind = ConflictKind.HELD_NEW if known is None else ConflictKind.HELD_EDITED
        elif remote is None or laptop.kind is not remote.kind:
            kind = ConflictKind.KINDS
        else:
            kind = ConflictKind.BOTH_NEW if known is None else ConflictKind.BOTH_EDITED
        self.conflicts.append(Conflict(key, known, laptop, remote, kind, version, held))
        self._skip_below(key)

    def _brings_instructions(self, key: str) -> bool:
        """Whether the host's version would bring, or remove, what is held back."""
        holds = self.policy.instructions.holds
        return any(
            holds(key + rest, entry.kind)
            for replica in (self.laptop, self.remote)
            for rest, entry in self._inside(key, replica)
        )

    def _version(self, key: str) -> str:
        """What both users have there, in short."""
        sides = (dict(self._inside(key, replica)) for replica in (self.laptop, self.remote))
        return hashlib.sha256(b"".join(map(_digest_of, sides))).hexdigest()

    def _inside(self, key: str, replica: _Replica) -> Iterator[tuple[str, Entry]]:
        """The entry at `key` as "", and all below it by the rest of their keys ("/a/b")."""
        at = bisect_left(self.order, sort_key(key), key=sort_key)
        for found in islice(self.order, at, None):
            if found != key and not found.startswith(f"{key}/"):
                return
            entry = replica.tree.get(found)
            if entry is not None:
                yield found[len(key) :], entry

    def _choice(self, key: str, laptop: Entry | None, version: str) -> tuple[Choice | None, Reason]:
        decision = self.policy.decisions.get(key)
        if decision is not None and decision.version == version:
            self.valid.add(key)
            return decision.choice, Reason.RESOLVED
        if key in self.policy.opened and self._may_be_merged(key):
            return Choice.LAPTOP, Reason.MERGED_LIVE
        if laptop is not None and self.policy.mode is SyncMode.LAPTOP_WINS:
            lane, changed = self.policy.lane(key, laptop.kind), laptop != self.ancestor.get(key)
            if lane is Lane.MIRROR or (lane is Lane.HELD and changed):
                return Choice.LAPTOP, Reason.LAPTOP_WINS
        return None, Reason.RESOLVED

    def _may_be_merged(self, key: str) -> bool:
        """Where it is open: a file on all sides, and one that may come back."""
        files = all(one is not None and one.kind is Kind.FILE for one in self.seen[key])
        return files and self.policy.lane(key, Kind.FILE) is Lane.MIRROR

    def _overrule(self, key: str, loser: _Replica, reason: Reason) -> bool:
        """Put the winner's version in the loser's place. False if the loser cannot make room."""
        lost = self._entry(key, loser)
        if lost == DIR:
            held = self._held(key, loser)
            if held & Holds.HIDDEN:
                return False
            if held & Holds.IGNORED:
                self._blocked(key, loser)
                return False
        if self._entry(key, self._other(loser)) is None:
            self._clear_below(key, loser)
            self.ways[key] = Way(self._clear_below, loser)
            return True
        if not self._put(key, loser, reason, forced=True):
            return False
        if lost == DIR:
            self.ways[key] = Way(self._clear_below, loser)
        else:
            self.ways[key] = Way(self._win_below, loser)
        return True

    def _copy_beside(self, key: str) -> bool | None:
        """Have the remote's version beside the laptop's, under a name of its own.

        True once it is there: only then may the laptop's version take the place. False while it
        is on its way, None if no copy can be made.
        """
        if self._held(key, self.remote) & Holds.HIDDEN:
            return None
        wanted = dict(self._inside(key, self.remote))
        digest = _digest_of(wanted)
        for attempt in range(1, 100):
            copy = conflict_copy(key, digest, attempt)
            if self.policy.ignore.ignores(copy, wanted[""] == DIR) or any(
                self.policy.instructions.holds(copy + rest, entry.kind)
                for rest, entry in wanted.items()
            ):
                return None
            there = dict(_below(self.laptop.tree, copy)) if copy in self.laptop.tree else {}
            if not there.items() <= wanted.items():
                continue  # the user's own file, or an edited copy
            missing = sorted(wanted.keys() - there.keys(), key=sort_key)
            for rest in missing:
                self._write_copy(key + rest, copy + rest, wanted[rest])
            return not missing
        return None

    # --- operations

    def _put(self, key: str, to: _Replica, reason: Reason, *, forced: bool = False) -> bool:
        """Have `to` hold what the other side holds. False if it stays out, with all below it.

        `forced`: the user asked for this very version, whatever its size.
        """
        entry = self._entry(key, self._other(to))
        assert entry is not None
        why = self._unfit(key, entry, to)
        if why is not None and not (forced and why in (LeftOutWhy.TOO_BIG, LeftOutWhy.HELD)):
            self._leave_out(key, entry, why)
            self._skip_below(key)
            return False
        self._write(key, to, entry, reason)
        return True

    def _write(self, key: str, to: _Replica, new: Entry, reason: Reason) -> None:
        other = self._other(to)
        path = _spelled(key, to.side, other.side)
        source = other.side.path(key)
        expected = to.tree.get(key)
        to.operations.append(Operation(key, path, source, expected, new, reason, Phase.WRITE))

    def _write_copy(self, key: str, copy: str, new: Entry) -> None:
        """On the laptop, from the remote's `key`."""
        path = _spelled(copy, self.laptop.side, self.remote.side)
        self.laptop.operations.append(
            Operation(
                copy,
                path,
                self.remote.side.path(key),
                None,
                new,
                Reason.RESOLVED,
                Phase.WRITE,
                settles=False,
            )
        )

    def _delete(
        self,
        key: str,
        there: _Replica,
        reason: Reason = Reason.DELETED,
        phase: Phase = Phase.DELETE,
    ) -> None:
        if key in self.makes_room and there.side.traits.folding.case_insensitive:
            phase = Phase.CLEAR
        path = there.side.path(key)
        there.operations.append(Operation(key, path, path, there.tree[key], None, reason, phase))

    def _unfit(self, key: str, entry: Entry, to: _Replica) -> LeftOutWhy | None:
        """Why `entry` cannot go there."""
        if entry.kind is Kind.LINK and not to.side.traits.links:
            return LeftOutWhy.NO_LINKS
        if self._is_kept_from(key, to):
            return LeftOutWhy.HELD
        if to is self.laptop and entry.size > self.policy.max_file_size_down:
            has = self._entry(key, to)
            if has is None or has.digest != entry.digest:
                return LeftOutWhy.TOO_BIG
        return None

    def _is_kept_from(self, key: str, to: _Replica) -> bool:
        """Whether the host's entry at `key` must not reach the laptop; what both agreed on may."""
        now = self._entry(key, self.remote)
        if to is self.remote or now is None or now == self.ancestor.get(key):
            return False
        return self.policy.instructions.holds(key, now.kind)

    def _leave_out(self, key: str, entry: Entry, why: LeftOutWhy) -> None:
        self.left_out.append(LeftOut(key, entry, why))

    def _blocked(self, key: str, there: _Replica) -> None:
        """A dir that would have to make room holds what nobody may touch."""
        self.freezer.add(key, there.where, Issue.HOLDS_IGNORED)
        self._skip_below(key)

    def _entry(self, key: str, replica: _Replica) -> Entry | None:
        return self.seen[key][1 if replica is self.laptop else 2]

    def _other(self, replica: _Replica) -> _Replica:
        return self.remote if replica is self.laptop else self.laptop

    def _replica(self, where: Where) -> _Replica:
        return self.laptop if where is Where.LAPTOP else self.remote

    def _spent(self) -> Iterator[str]:
        for key in self.policy.decisions:
            if key not in self.valid and not (key in self.seen and self.freezer.covers(key)):
                yield key


def _in_order(operations: list[Operation]) -> tuple[Operation, ...]:
    def of(phase: Phase) -> list[Operation]:
        found = [op for op in operations if op.phase is phase]
        found.sort(key=lambda op: sort_key(op.key), reverse=phase is not Phase.WRITE)
        return found

    return (*of(Phase.CLEAR), *of(Phase.WRITE), *of(Phase.DELETE))


def _merge(known: Entry | None, laptop: Entry | None, remote: Entry | None) -> Entry | None:
    """Content and x bit of a file decided apart; None if the contents are at odds."""
    if laptop is None or remote is None or not laptop.kind is remote.kind is Kind.FILE:
        return None
    if known is None or known.kind is not Kind.FILE:
        if laptop.digest != remote.digest:
            return None
        return laptop._replace(executable=laptop.executable or remote.executable)
    if laptop.digest == known.digest:
        content = remote
    elif remote.digest in (known.digest, laptop.digest):
        content = laptop
    else:
        return None
    changed = laptop if laptop.executable != known.executable else remote
    return content._replace(executable=changed.executable)


def _with_x_bit_of(known: Entry | None, other: Entry | None, mine: Entry | None) -> Entry | None:
    """`mine` from a side that keeps no x bit, with the one that it would have."""
    if mine is None or mine.kind is not Kind.FILE:
        return mine
    for entry in (known, other):
        if entry is not None and entry.kind is Kind.FILE:
            return mine._replace(executable=entry.executable)
    return mine


def _spread(holds: dict[str, Holds], folder: str, what: Holds) -> None:
    """Note `what` for `folder` and every dir above it."""
    while folder:
        holds[folder] = holds.get(folder, Holds.NOTHING) | what
        folder = parent(folder)


def _spelled(key: str, side: Side, other: Side) -> str:
    """How `key` is, or is to be, spelled on `side`: as it is there, else as on the other one."""
    if key.isascii() or key in side.tree:
        return side.path(key)
    above = parent(key)
    return join(_spelled(above, side, other) if above else "", name(other.path(key)))


def _below(tree: Tree, key: str) -> Iterator[tuple[str, Entry]]:
    """The same as `_Cycle._inside` for what need not be a candidate."""
    for found, entry in tree.items():
        if found == key or found.startswith(f"{key}/"):
            yield found[len(key) :], entry


def _digest_of(subtree: dict[str, Entry]) -> bytes:
    """Names a version: a file's own digest, else one over all that it holds."""
    top = subtree.get("")
    if top is None:
        return b"absent"
    if top.digest is not None:
        return top.digest
    seen = hashlib.sha256()
    for rest in sorted(subtree):
        seen.update(repr((rest, tuple(subtree[rest]))).encode("utf-8", "surrogateescape"))
    return seen.digest()
