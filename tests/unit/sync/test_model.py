"""Two users, two disks, a bad link, and crashes at every step: what must hold all the same.

1. No version that a user wrote is lost unless its own author superseded it: it is in a tree or
   in a trash. It is in a tree unless somebody, knowing it, put something else in its place.
2. At rest both sides hold the same, but for what is listed as a conflict; resolved, all of it.
3. A second cycle does nothing.
Ignored data is never touched, and safety never finds a verdict unsound.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from remotedl.config.models import SyncConfig, SyncMode
from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import DIR, Entry, Tree
from remotedl.sync.lanes import Choice, Decision, Policy, policy_of
from remotedl.sync.verdict import Reason, Where
from tests.unit.sync.model import Batches, Disk, World, new_version
from tests.unit.sync.worlds import link

IGNORE = Ignore([Source("i")])
POLICIES = {
    "two-way-safe": policy_of(SyncConfig(), IGNORE),
    "laptop-wins": policy_of(SyncConfig(mode=SyncMode.LAPTOP_WINS), IGNORE),
    "upload-only": policy_of(SyncConfig(mode=SyncMode.UPLOAD_ONLY), IGNORE),
    "outputs": policy_of(SyncConfig(outputs=("d/**",)), IGNORE),
}
MIRRORS = ("two-way-safe", "laptop-wins")

SIDES = st.sampled_from(list(Where))
PATHS = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/i", "d/e", "d/e/a", "d/e/i"])
BEFORE = ("a", "b", "d/a", "d/b", "d/e/a")
DEEDS = st.sampled_from(
    ["file", "file", "file", "delete", "delete", "executable", "dir", "link", "chmod", "rename"]
)
ACTS = st.lists(st.tuples(SIDES, DEEDS, PATHS, PATHS), max_size=5)
"""Who does what, where, and, for a rename, where to."""

EVENTS = st.sampled_from(["crash", "power laptop", "power remote", "act laptop", "act remote"])
MOMENTS = st.lists(st.tuples(st.integers(0, 8), EVENTS, DEEDS, PATHS, PATHS), max_size=3)
"""After how many steps of a cycle what happens."""
Act = tuple[Where, str, str, str]


class TwoUsers(RuleBasedStateMachine):
    """Rules are what users, machines and the link do; `cycle` is what we do."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Policy())
        self.mode = ""
        self.count = 0
        self.authors: dict[Entry, Where] = {}
        """Versions that must not be lost, and who wrote them."""
        self.alone: Where | None = None
        """Whose user alone does anything; None: both do."""
        self.overruled: set[Entry] = set()
        """Those that a user of either side removed or overwrote, or decided against."""
        self.ignored: dict[Where, Tree] = {}
        self.snapshots: list[Any] = []

    @initialize(mode=st.sampled_from(sorted(POLICIES)), acts=ACTS)
    def begin(self, mode: str, acts: list[Act]) -> None:
        self.mode = mode
        self.world = World(POLICIES[mode])
        for path in BEFORE:
            self._act((Where.LAPTOP, "file", path, ""))
        self._quiet()
        self.act(acts)

    # --- users

    @rule(acts=ACTS)
    def act(self, acts: list[Act]) -> None:
        for act in acts:
            self._act(act)
        self._note_ignored()

    @rule(path=PATHS)
    def edit_the_same_on_both(self, path: str) -> None:
        self.count += 1
        entry = new_version(self.count, Where.LAPTOP)
        for disk in self.world.disks:
            self._superseded(disk.where, disk.write(path, entry))
        self._note_ignored()

    # --- machines

    @rule(where=SIDES)
    def cycle_while_unmounted(self, where: Where) -> None:
        disk = self.world.disk(where)
        disk.mounted = False
        held, disk.tree = disk.tree, {}
        before = [dict(disk.tree) for disk in self.world.disks]
        self.world.run()
        assert before == [disk.tree for disk in self.world.disks]
        disk.mounted, disk.tree = True, held

    @rule()
    def keep_the_database(self) -> None:
        self.snapshots.append(self.world.memory())

    @rule(data=st.data())
    def roll_the_database_back(self, data: st.DataObject) -> None:
        self.world.recall(data.draw(st.sampled_from([({}, Batches()), *self.snapshots])))

    # --- we

    @rule(
        acts=ACTS,
        full=st.booleans(),
        lost=st.sets(PATHS, max_size=2),
        unreadable=st.sets(st.tuples(SIDES, PATHS), max_size=1),
        moments=MOMENTS,
    )
    def cycle(
        self,
        acts: list[Act],
        full: bool,
        lost: set[str],
        unreadable: set[tuple[Where, str]],
        moments: list[tuple[int, str, str, str, str]],
    ) -> None:
        self.act(acts)
        for where, path in unreadable:
            self.world.disk(where).unreadable.add(path)
        for disk in self.world.disks:
            if full or not disk.view.tree:
                disk.scan()
            else:
                disk.look_again(lost)
            disk.unreadable.clear()
        waiting = sorted(moments)
        for number, _step in enumerate(self.world.cycle()):
            self._note_losers()
            while waiting and waiting[0][0] <= number:
                if self._happens(*waiting.pop(0)[1:], kept=number % 4):
                    return

    @rule(choice=st.sampled_from(list(Choice)))
    def resolve(self, choice: Choice) -> None:
        decisions = dict(self.world.policy.decisions)
        for conflict in self.world.last.conflicts:
            decisions[conflict.key] = Decision(choice, conflict.version)
            if choice is not Choice.BOTH:
                loser = Where.REMOTE if choice is Choice.LAPTOP else Where.LAPTOP
                self._overrule(self.world.disk(loser), conflict.key)
        self.world.policy = self.world.policy._replace(decisions=decisions)

    @rule(choice=st.sampled_from(list(Choice)))
    def rest(self, choice: Choice) -> None:
        """Everybody stops, everything works again."""
        self._quiet()
        blocked = {item.key for item in self.world.last.frozen}
        open_keys = {conflict.key for conflict in self.world.last.conflicts} | blocked
        if self.mode in MIRRORS:
            assert _apart(self.world, open_keys) == {}
        self.resolve(choice)
        self._quiet()
        assert all(conflict.key in _blocked(self.world) for conflict in self.world.last.conflicts)
        if self.mode in MIRRORS:
            assert _apart(self.world, _blocked(self.world)) == {}

    # --- what must hold

    @invariant()
    def nothing_is_lost(self) -> None:
        there = self.world.versions()
        lost = [entry for entry in self.authors if not _kept(entry, there)]
        assert not lost, [(self.authors[entry], entry) for entry in lost]

    @invariant()
    def nothing_is_taken_away(self) -> None:
        standing = {entry for disk in self.world.disks for entry in disk.tree.values()}
        taken = [
            entry
            for entry in self.authors
            if not _kept(entry, standing) and not _kept(entry, self.overruled)
        ]
        assert not taken, [(self.authors[entry], entry) for entry in taken]

    @invariant()
    def ignored_data_is_not_touched(self) -> None:
        for where, before in self.ignored.items():
            assert self.world.disk(where).ignored() == before

    def teardown(self) -> None:
        if self.mode:
            self.rest(Choice.BOTH)
            self.nothing_is_lost()
            self.nothing_is_taken_away()
            self.ignored_data_is_not_touched()

    # --- below

    def _act(self, act: Act) -> None:
        _, deed, path, other = act
        where = self.alone or act[0]
        disk = self.world.disk(where)
        if deed == "delete":
            self._superseded(where, disk.delete(path))
        elif deed == "rename":
            if self.world.policy.ignore.ignores(other, is_dir=False):
                self._overrule(disk, path)  # out of the sync's sight: as good as deleted
            self._superseded(where, disk.rename(path, other))
        elif deed == "chmod":
            disk.chmod(path)
        else:
            self._write(disk, path, deed)

    def _write(self, disk: Disk, path: str, kind: str) -> None:
        self.count += 1
        entry = DIR
        if kind == "link":
            entry = link(f"{disk.where} {self.count}")
        elif kind != "dir":
            entry = new_version(self.count, disk.where, executable=kind == "executable")
        self._superseded(disk.where, disk.write(path, entry))
        if entry != DIR and disk.tree.get(path) == entry:
            self.authors[entry] = disk.where

    def _superseded(self, where: Where, gone: list[Entry]) -> None:
        self.overruled.update(gone)
        for entry in gone:
            for version, author in list(self.authors.items()):
                if author is where and _same_bytes(version, entry):
                    del self.authors[version]

    def _overrule(self, disk: Disk, key: str) -> None:
        for path, entry in disk.tree.items():
            if path == key or path.startswith(key + "/"):
                self.overruled.add(entry)

    def _note_losers(self) -> None:
        """What the laptop wins over goes to the trash, as the mode says."""
        for op in self.world.last.to_remote if self.mode == "laptop-wins" else ():
            if op.expected is not None and op.reason in (Reason.LAPTOP_WINS, Reason.MADE_ROOM):
                self.overruled.add(op.expected)

    def _happens(self, event: str, deed: str, path: str, other: str, *, kept: int) -> bool:
        """Something in the middle of a cycle; whether the cycle ends there."""
        what, _, who = event.partition(" ")
        if what == "act":
            self._act((Where(who), deed, path, other))
            self._note_ignored()
            return False
        if what == "power":
            self.world.disk(Where(who)).lose_power(kept)
        for disk in self.world.disks:
            disk.forget()
        return True

    def _note_ignored(self) -> None:
        self.ignored = {disk.where: disk.ignored() for disk in self.world.disks}

    def _quiet(self) -> None:
        """Cycles until nothing is left to do, and then one more."""
        for _ in range(12):
            idle = self.world.run().idle
            self._note_losers()
            if idle:
                break
        else:
            raise AssertionError(f"never at rest: {self.world.last}")
        before = [dict(disk.tree) for disk in self.world.disks]
        assert self.world.run().idle
        assert before == [disk.tree for disk in self.world.disks]


def _kept(entry: Entry, there: set[Entry]) -> bool:
    if entry in there:
        return True
    return any(_same_bytes(entry, other) for other in there)


def _same_bytes(one: Entry, other: Entry) -> bool:
    """The x bit is no part of a version."""
    return one._replace(executable=False) == other._replace(executable=False)


def _blocked(world: World) -> set[str]:
    """Where ignored data is in the way: that stays, resolved or not."""
    return {item.key for item in world.last.frozen}


def _apart(world: World, open_keys: set[str]) -> dict[str, tuple[Entry | None, Entry | None]]:
    """Where the sides differ without being told so. A dir may stay for its ignored content."""
    laptop, remote = (_synced(disk) for disk in world.disks)
    found = {}
    for key in laptop.keys() | remote.keys():
        ours, theirs = laptop.get(key), remote.get(key)
        covered = any(key == top or key.startswith(top + "/") for top in open_keys)
        if ours == theirs or covered:
            continue
        if DIR in (ours, theirs) and None in (ours, theirs) and _holds_ignored(world, key):
            continue
        found[key] = (ours, theirs)
    return found


def _synced(disk: Disk) -> Tree:
    ignored = disk.ignored()
    return {key: entry for key, entry in disk.tree.items() if key not in ignored}


def _holds_ignored(world: World, key: str) -> bool:
    return any(path.startswith(key + "/") for disk in world.disks for path in disk.ignored())


class OneUser(TwoUsers):
    """Only one side is written to: whatever is cut or crashes, there is never a conflict."""

    @initialize(mode=st.sampled_from(MIRRORS), acts=ACTS, alone=SIDES)
    def begin(self, mode: str, acts: list[Act], alone: Where) -> None:  # type: ignore[override]
        self.mode = mode
        self.world = World(POLICIES[mode])
        for path in BEFORE:
            self._act((Where.LAPTOP, "file", path, ""))
        self._quiet()
        self.alone = alone
        self.act(acts)

    @rule()
    def edit_the_same_on_both(self) -> None:  # type: ignore[override]
        """Nobody does."""

    @rule()
    def roll_the_database_back(self) -> None:  # type: ignore[override]
        """What was agreed on is forgotten by that: no wonder that there are conflicts then."""

    @invariant()
    def nothing_is_in_conflict(self) -> None:
        assert not self.world.last.conflicts


SETTINGS = settings(
    max_examples=int(os.environ.get("REMOTEDL_EXAMPLES", "25")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestTwoUsers = TwoUsers.TestCase
TestTwoUsers.settings = SETTINGS
TestOneUser = OneUser.TestCase
TestOneUser.settings = SETTINGS
