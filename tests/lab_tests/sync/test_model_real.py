"""The state machine of tests/unit/sync/test_model.py over the real engine: real folders, the real
agent over an in-memory link, real SIGKILLs and power cuts between any two calls of either side.

A bounded run; `REMOTEDL_EXAMPLES=300 pytest tests/lab_tests/sync/test_model_real.py` looks further.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from remotedl.config.models import SyncConfig, SyncMode
from remotedl.errors import SyncHalted
from remotedl.sync.agent.disk import Disk as Calls
from remotedl.sync.agent.tree import DIR, Entry, Kind, Tree, parent, parents
from remotedl.sync.lanes import Choice, Policy, policy_of
from remotedl.sync.safety import HaltKind
from remotedl.sync.status import Outcome
from remotedl.sync.verdict import Where
from tests.lab_tests.sync.disks import CountingDisk, PowerlessDisk
from tests.lab_tests.sync.folders import AgentInThread, Folders
from tests.lab_tests.sync.test_faults import in_a_child
from tests.unit.sync import test_model as model
from tests.unit.sync.model import TEXTS, new_version

pytestmark = pytest.mark.timeout(180)

ALLOWED = frozenset([HaltKind.ROOT_EMPTIED, HaltKind.MASS_DELETE])
CONFIGS = {
    "two-way-safe": SyncConfig(ignore=("i",)),
    "upload-only": SyncConfig(ignore=("i",), mode=SyncMode.UPLOAD_ONLY),
    "outputs": SyncConfig(ignore=("i",), outputs=("d/**",)),
}
IN_MEMORY = Path("/dev/shm")


class RealDisk:
    """One side's folder, written to as its user does."""

    def __init__(self, where: Where, root: Path, policy: Policy) -> None:
        self.where = where
        self.root = root
        self.policy = policy
        self.saves = 0

    @property
    def tree(self) -> Tree:
        return {
            str(path.relative_to(self.root)): entry_at(path)
            for path in sorted(self.root.rglob("*"))
            if ".remotedl" not in path.relative_to(self.root).parts
        }

    def ignored(self) -> Tree:
        ignores = self.policy.ignore.ignores
        return {key: entry for key, entry in self.tree.items() if ignores(key, entry == DIR)}

    def versions(self) -> set[Entry]:
        trash = self.root / ".remotedl" / "trash"
        kept = [entry_at(path) for path in trash.glob("*")] if trash.is_dir() else []
        return {entry for entry in (*self.tree.values(), *kept) if entry != DIR}

    def write(self, path: str, entry: Entry) -> list[Entry]:
        now = self.tree
        if any(now.get(up, DIR) != DIR for up in parents(path)):
            return []
        gone = []
        if not (entry.kind is now.get(path, entry).kind and entry.kind is not Kind.LINK):
            gone = self.delete(path)
        elif path in now and entry != DIR:
            gone = [now[path]]
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry == DIR:
            place.mkdir(exist_ok=True)
        elif entry.kind is Kind.LINK:
            place.symlink_to(entry.target or "")
        else:
            self._save(place, entry)
        return gone

    def _save(self, place: Path, entry: Entry) -> None:
        """As editors do: in place, or beside it and renamed."""
        text = TEXTS[entry.digest or b""]
        self.saves += 1
        if self.saves % 2:
            place.write_text(text)
        else:
            beside = place.with_name(".~" + place.name)
            beside.write_text(text)
            beside.replace(place)
        place.chmod(0o755 if entry.executable else 0o644)

    def delete(self, path: str) -> list[Entry]:
        now = self.tree
        found = [key for key in now if key == path or key.startswith(path + "/")]
        place = self.root / path
        if path not in now:
            return []
        if now[path] == DIR:
            shutil.rmtree(place)
        else:
            place.unlink()
        return [now[key] for key in found if now[key] != DIR]

    def rename(self, old: str, new: str) -> list[Entry]:
        now = self.tree
        inside = new == old or new.startswith(old + "/") or old.startswith(new + "/")
        if old not in now or inside or (parent(new) and now.get(parent(new)) != DIR):
            return []
        gone = self.delete(new)
        (self.root / old).rename(self.root / new)
        return gone

    def chmod(self, path: str) -> None:
        entry = self.tree.get(path)
        if entry is not None and entry.kind is Kind.FILE:
            (self.root / path).chmod(0o644 if entry.executable else 0o755)


def entry_at(path: Path) -> Entry:
    if path.is_symlink():
        return Entry(Kind.LINK, target=os.readlink(path))
    if path.is_dir():
        return DIR
    data = path.read_bytes()
    executable = bool(path.stat().st_mode & 0o100)
    return Entry(Kind.FILE, hashlib.sha256(data).digest(), len(data), executable)


class RealWorld:
    """As much of `model.World` as the machine asks for."""

    def __init__(self, base: Path, config: SyncConfig, policy: Policy) -> None:
        self.folders = Folders(base)
        self.folders.config = config
        self.policy = policy
        self.disks = (
            RealDisk(Where.LAPTOP, self.folders.laptop, policy),
            RealDisk(Where.REMOTE, self.folders.host, policy),
        )
        self.last = Outcome()
        self.knows = False
        """The database is of a whole run."""

    def disk(self, where: Where) -> RealDisk:
        return self.disks[0 if where is Where.LAPTOP else 1]

    def versions(self) -> set[Entry]:
        return self.disks[0].versions() | self.disks[1].versions()

    def plan(self) -> Any:
        """What the next cycle would do, for the message of a failure."""
        sync = self.folders.open(allowed=ALLOWED)
        try:
            return sync.plan()
        finally:
            sync.close()

    def run(self, **options: Any) -> Outcome:
        self.last = self.folders.once(allowed=ALLOWED, **options)
        self.knows = True
        return self.last


class Interrupted(CountingDisk):
    """Calls back before a step."""

    def __init__(self, moments: dict[int, Callable[[], None]]) -> None:
        self.moments = moments
        self.count = 0

    def step(self, call: str) -> None:
        moment = self.moments.pop(self.count, None)
        self.count += 1
        if moment is not None:
            moment()


class PowerCut(PowerlessDisk):
    """The same, for a moment that ends in a power cut."""

    def __init__(self, moments: dict[int, Callable[[], None]], fatal: int, root: Path) -> None:
        super().__init__(fatal + 1, root)
        self.moments = moments
        self.count = 0

    def step(self, call: str) -> None:
        moment = self.moments.pop(self.count, None)
        self.count += 1
        if moment is not None:
            moment()
        super().step(call)


class TwoRealUsers(model.TwoUsers):
    """The same rules, invariants and rest."""

    world: Any
    snapshots: list[Any]

    @initialize(mode=st.sampled_from(sorted(CONFIGS)), acts=model.ACTS)
    def begin(self, mode: str, acts: list[model.Act]) -> None:
        place = str(IN_MEMORY) if IN_MEMORY.is_dir() else None
        self.base = Path(tempfile.mkdtemp(prefix="remotedl-model-", dir=place))
        self.mode = mode
        config = CONFIGS[mode]
        self.world = RealWorld(self.base, config, policy_of(config, model.IGNORE))
        for path in model.BEFORE:
            self._act((Where.LAPTOP, "file", path, ""))
        self._quiet()
        self.act(acts)

    @rule(where=model.SIDES)
    def cycle_while_unmounted(self, where: Where) -> None:
        if not self.world.knows:
            self.world.run()  # without its database nobody can know that a folder was replaced
        root = self.world.disk(where).root
        other = next(disk for disk in self.world.disks if disk.where is not where)
        before = other.tree
        aside = root.with_name("aside")
        root.rename(aside)
        root.mkdir()
        try:
            self.world.run()
        except SyncHalted:
            pass
        assert other.tree == before
        shutil.rmtree(root)
        aside.rename(root)

    @rule()
    def keep_the_database(self) -> None:
        state = self.world.folders.state
        self.snapshots.append({path.name: path.read_bytes() for path in state.iterdir()})

    @rule(data=st.data())
    def roll_the_database_back(self, data: st.DataObject) -> None:
        chosen = data.draw(st.integers(0, len(self.snapshots)))
        state = self.world.folders.state
        self.world.knows = False
        shutil.rmtree(state)
        state.mkdir()
        files: Any = self.snapshots[chosen] if chosen < len(self.snapshots) else {}
        for name, content in files.items():
            (state / name).write_bytes(content)

    @rule(acts=model.ACTS, moments=model.MOMENTS)
    def cycle(self, acts: list[model.Act], moments: list[tuple[int, str, str, str, str]]) -> None:
        self.act(acts)
        if not moments:
            self.world.run()
            return
        log = self.base / "log"
        log.write_text("")
        laptop, host = (self._interrupted(disk, moments, log) for disk in self.world.disks)

        def child() -> None:
            self.world.folders.remote = AgentInThread(host)
            self.world.run(disk=laptop)

        in_a_child(child)
        self._catch_up(log)

    def _interrupted(
        self, disk: RealDisk, moments: list[tuple[int, str, str, str, str]], log: Path
    ) -> Calls:
        """What happens between the calls of one side, in the child."""
        todo: dict[int, Callable[[], None]] = {}
        cut: int | None = None
        for number, (after, event, deed, path, other) in enumerate(moments):
            what, _, who = event.partition(" ")
            at = after * 3 + 1
            mine = who == disk.where or (not who and (after % 2 == 0) is (disk.where == "laptop"))
            if not mine:
                continue
            if what == "act":
                act = (disk.where, deed, path, other)
                todo[at] = partial(self._act_in_child, act, number, log)
            elif what == "power":
                cut = at if cut is None else min(cut, at)
            else:
                todo[at] = lambda: os.kill(os.getpid(), 9)
        return Interrupted(todo) if cut is None else PowerCut(todo, cut, disk.root)

    def _act_in_child(self, act: model.Act, number: int, log: Path) -> None:
        """Do it, and write down what the parent has to know."""
        where, deed, path, other = act
        disk = self.world.disk(where)
        version = self.count + 1 + number
        made = False
        if deed == "delete":
            gone = disk.delete(path)
        elif deed == "rename":
            gone = disk.rename(path, other)
        else:
            entry = new_version(version, where, executable=deed == "executable")
            gone = disk.write(path, entry)
            made = disk.tree.get(path) == entry
        texts = [TEXTS.get(entry.digest or b"", entry.target) for entry in gone]
        with log.open("a") as file:
            file.write(json.dumps([where, texts, version if made else None]) + "\n")

    def _catch_up(self, log: Path) -> None:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for name, texts, version in lines:
            where = Where(name)
            gone = [entry for text in texts for entry in self._entries_of(text)]
            self._superseded(where, gone)
            if version is not None:
                self.authors[new_version(version, where)] = where
        self.count += 10
        self._note_ignored()

    def _entries_of(self, text: str) -> Iterator[Entry]:
        """The version with this content, or this target."""
        digest = hashlib.sha256(text.encode()).digest()
        yield Entry(Kind.FILE, digest, len(text.encode()))
        yield Entry(Kind.LINK, target=text)

    @rule(choice=st.sampled_from(list(Choice)))
    def resolve(self, choice: Choice) -> None:
        sync = self.world.folders.open(allowed=ALLOWED)
        try:
            for conflict in sync.cycle(scan=False).conflicts:
                if choice is not Choice.BOTH:
                    loser = Where.REMOTE if choice is Choice.LAPTOP else Where.LAPTOP
                    self._overrule(self.world.disk(loser), conflict.key)
                sync.resolve(conflict.key, choice)
            self.world.last = sync.cycle()
        finally:
            sync.close()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if self.mode:
                self.world.folders.close()
                shutil.rmtree(self.base, ignore_errors=True)

    def _note_losers(self) -> None: ...

    def _quiet(self) -> None:
        for _ in range(8):
            if self.world.run().idle:
                break
        else:
            raise AssertionError(f"never at rest: {self.world.plan()} {self.world.last}")
        before = [disk.tree for disk in self.world.disks]
        assert self.world.run().idle
        assert before == [disk.tree for disk in self.world.disks]


TestTwoRealUsers = TwoRealUsers.TestCase
TestTwoRealUsers.settings = settings(
    max_examples=int(os.environ.get("REMOTEDL_EXAMPLES", "8")),
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
