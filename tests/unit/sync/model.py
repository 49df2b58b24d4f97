"""A small faithful copy of everything around reconciliation: two disks, a link, a cycle.

Each disk has a user, a trash, and writes that a power cut may take back until they are flushed.
The cycle is the real order of work (see remotedl/sync/agent/apply.py) cut into steps; between any
two of them something may happen: a crash, a cut, an edit. The deciding code is the real one, and
so is the ledger of what was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from remotedl.sync.agent.tree import DIR, Entry, Issue, Kind, Side, Tree, amend, parent, parents
from remotedl.sync.lanes import Policy
from remotedl.sync.ledger import Ledger
from remotedl.sync.reconcile import reconcile, settle
from remotedl.sync.safety import Halt, HaltKind, Root, check_roots, clear
from remotedl.sync.verdict import Operation, Verdict, Where
from tests.unit.sync.worlds import file

ALLOWED = frozenset(HaltKind) - {HaltKind.UNSOUND}


class Disk:
    """One side: what stands in its root, its trash, and what a scan would see."""

    def __init__(self, where: Where, policy: Policy) -> None:
        self.where = where
        self.policy = policy
        self.tree: Tree = {}
        """Ignored paths included."""
        self.trash: list[Entry] = []
        self.unreadable: set[str] = set()
        self.mounted = True
        self.view = Side({})
        """The last scan, brought up to date by events."""
        self.dirty: set[str] = set()
        self.unflushed: list[Callable[[], None]] = []
        """How to take back each write that is not flushed yet."""

    # --- the user

    def write(self, path: str, entry: Entry) -> list[Entry]:
        """Put `entry` at `path`, as a program does; returns the versions that it destroyed."""
        if any(self.tree.get(up, DIR) != DIR for up in parents(path)):
            return []
        gone = [] if entry == self.tree.get(path) == DIR else self.delete(path)
        for folder in reversed(list(parents(path))):
            self._set(folder, DIR)
        self._set(path, entry)
        self.unflushed.clear()
        return gone

    def delete(self, path: str) -> list[Entry]:
        found = [key for key in self.tree if key == path or key.startswith(path + "/")]
        gone = [self.tree.pop(key) for key in found]
        self.unreadable -= set(found)
        self.dirty.update(found)
        self.unflushed.clear()
        return [entry for entry in gone if entry != DIR]

    def rename(self, old: str, new: str) -> list[Entry]:
        inside = new == old or new.startswith(old + "/") or old.startswith(new + "/")
        if old not in self.tree or inside or self.tree.get(parent(new) or "", DIR) != DIR:
            return []
        if parent(new) and parent(new) not in self.tree:
            return []
        moved = {
            new + key[len(old) :]: self.tree[key]
            for key in self.tree
            if key == old or key.startswith(old + "/")
        }
        gone = self.delete(new)
        self.delete(old)
        for key, entry in moved.items():
            self._set(key, entry)
        return gone

    def chmod(self, path: str) -> None:
        now = self.tree.get(path)
        if now is not None and now.kind is Kind.FILE:
            self._set(path, now._replace(executable=not now.executable))
            self.unflushed.clear()

    def _set(self, path: str, entry: Entry) -> None:
        if self.tree.get(path) != entry:
            self.tree[path] = entry
            self.dirty.add(path)

    # --- scans

    def scan(self) -> None:
        """Look at everything."""
        self.view = self._seen()
        self.dirty.clear()

    def look_again(self, lost: set[str]) -> None:
        """Look where events point; those of `lost` never came."""
        now = self._seen()
        tree = dict(self.view.tree)
        for path in (self.dirty - lost) | set(self.view.issues):
            top = path
            while parent(top) and parent(top) not in tree:
                top = parent(top)
            for key in {*tree, *now.tree}:
                if key == top or key.startswith(top + "/"):
                    tree.pop(key, None)
                    if key in now.tree:
                        tree[key] = now.tree[key]
        tree = {k: e for k, e in tree.items() if all(tree.get(up) == DIR for up in parents(k))}
        self.view = now._replace(tree=tree)
        self.dirty.clear()

    def _seen(self) -> Side:
        ignored = {key for key in self.tree if self._is_ignored(key)}
        hidden = {key for key in self.unreadable if key in self.tree} - ignored
        seen = {
            key: entry
            for key, entry in self.tree.items()
            if key not in ignored
            and not any(up in hidden for up in parents(key))
            and not (key in hidden and entry.kind is not Kind.DIR)
        }
        holding = frozenset(parent(key) for key in ignored if parent(key) not in ignored)
        return Side(seen, dict.fromkeys(hidden, Issue.UNREADABLE), {}, holding)

    def _is_ignored(self, key: str) -> bool:
        return self.policy.ignore.ignores(key, self.tree[key] == DIR)

    def ignored(self) -> Tree:
        return {key: entry for key, entry in self.tree.items() if self._is_ignored(key)}

    # --- apply

    def apply(self, op: Operation) -> bool:
        """One compare-and-swap; whether it was done. Not flushed yet."""
        now = self.tree.get(op.path)
        above = parent(op.path)
        if above and self.tree.get(above) != DIR:
            return op.new is None and now is None
        if now == op.new:
            return True
        if now != op.expected:
            return False
        if now == DIR and any(key.startswith(op.path + "/") for key in self.tree):
            return False
        displaced = now is not None and now != DIR
        if displaced and now is not None:
            self.trash.append(now)
        if op.new is None:
            del self.tree[op.path]
        else:
            self.tree[op.path] = op.new
        self.dirty.add(op.path)
        self.unflushed.append(lambda: self._take_back(op.path, now, displaced))
        return True

    def believe(self, op: Operation) -> None:
        """What we did ourselves is seen without an event; no event of it has to come."""
        if op.new is None:
            self.view.tree.pop(op.key, None)
        else:
            self.view.tree[op.key] = op.new

    def _take_back(self, path: str, before: Entry | None, displaced: bool) -> None:
        if before is None:
            self.tree.pop(path, None)
        else:
            self.tree[path] = before
        if displaced:
            self.trash.pop()

    def flush(self) -> None:
        self.unflushed.clear()

    def lose_power(self, kept: int) -> None:
        """All but the first `kept` unflushed writes never happened."""
        while len(self.unflushed) > kept:
            self.unflushed.pop()()
        self.unflushed.clear()

    def forget(self) -> None:
        """The process that looked is gone: the next one looks at everything."""
        self.view = Side({})

    def versions(self) -> set[Entry]:
        return {entry for entry in (*self.tree.values(), *self.trash) if entry != DIR}


class Batches:
    """The database's table of batches; survives every crash of a model."""

    def __init__(self, rows: Iterable[tuple[str, bool, Any]] = ()) -> None:
        self.rows = list(rows)

    def batches(self) -> list[tuple[str, bool, Any]]:
        return self.rows

    def add_batch(self, side: str, rows: Any, arrivals: Any = ()) -> int:
        self.rows.append((side, False, rows))
        return len(self.rows) - 1

    def batch_arrived(self, number: int, agreed: Any, rows: Any) -> None:
        side = self.rows[number][0]
        self.rows[number] = (side, True, agreed)
        if rows:
            self.rows.append((side, False, rows))


BATCH = 2
"""Operations that are sent, flushed and acknowledged together."""


class World:
    """Both disks, the ancestor, and the cycle between them."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.laptop = Disk(Where.LAPTOP, policy)
        self.remote = Disk(Where.REMOTE, policy)
        self.ancestor: Tree = {}
        self.batches = Batches()
        self.last = Verdict((), (), {}, (), (), (), (), frozenset())

    def disk(self, where: Where) -> Disk:
        return self.laptop if where is Where.LAPTOP else self.remote

    def roots_ok(self) -> bool:
        laptop, remote = (Root(True, "id" if d.mounted else None, "id") for d in self.disks)
        return check_roots(laptop, remote) is None

    @property
    def disks(self) -> tuple[Disk, Disk]:
        return self.laptop, self.remote

    def cycle(self) -> Iterator[str]:
        """One cycle; yields before every step that may be the last. Views are up to date."""
        if not self.roots_ok():
            return
        ledger = Ledger(self.batches)  # type: ignore[arg-type]
        ancestor = dict(self.ancestor)
        amend(ancestor, ledger.agreed)
        past = ledger.own_past(ancestor, self.laptop.view.tree, self.remote.view.tree)
        for disk in self.disks if past else ():
            disk.flush()
        ledger.adopt(past)
        amend(ancestor, past)
        verdict = reconcile(ancestor, self.laptop.view, self.remote.view, self.policy)
        sides = self.laptop.view, self.remote.view
        cleared = clear(verdict, ancestor, *sides, ALLOWED)
        assert not isinstance(cleared, Halt), cleared.message
        self.last = verdict
        done: list[set[str]] = [set(), set()]
        ledger.begin(cleared.to_laptop, cleared.to_remote)
        for number, operations in enumerate((cleared.to_laptop, cleared.to_remote)):
            disk, other = self.disks[number], self.disks[1 - number]
            for start in range(0, len(operations), BATCH):
                yield f"stage on {disk.where}"
                batch = [op for op in operations[start : start + BATCH] if _is_there(op, other)]
                noted = ledger.sending(disk.where, batch)
                made = []
                for op in batch:
                    yield f"apply {op.path} on {disk.where}"
                    if disk.apply(op):
                        disk.believe(op)
                        made.append(op)
                yield f"flush {disk.where}"
                disk.flush()
                yield f"acknowledge {disk.where}"
                ledger.arrived(noted, batch, made)
                done[number].update(op.key for op in made)
        yield "record"
        agreed = {**ledger.agreed, **settle(verdict, *done)}
        amend(ancestor, agreed)
        self.ancestor = ancestor
        self.batches = Batches((where, False, rows) for where, rows in ledger.open_after(agreed))
        decisions = {k: d for k, d in self.policy.decisions.items() if k not in verdict.spent}
        self.policy = self.policy._replace(decisions=decisions)

    def run(self) -> Verdict:
        """An undisturbed cycle over full scans."""
        for disk in self.disks:
            disk.scan()
        for _ in self.cycle():
            pass
        return self.last

    def versions(self) -> set[Entry]:
        return self.laptop.versions() | self.remote.versions()

    def memory(self) -> tuple[Tree, Batches]:
        """The database, as a copy."""
        return dict(self.ancestor), Batches(self.batches.rows)

    def recall(self, memory: tuple[Tree, Batches]) -> None:
        """The database is this older one again."""
        self.ancestor, self.batches = dict(memory[0]), Batches(memory[1].rows)


TEXTS: dict[bytes, str] = {}
"""The content of each version, by its digest."""


def new_version(number: int, author: Where, *, executable: bool = False) -> Entry:
    text = f"{author} {number}"
    entry = file(text, x=executable)
    assert entry.digest is not None
    TEXTS[entry.digest] = text
    return entry


def _is_there(op: Operation, other: Disk) -> bool:
    """The sender reads the file now: if it is another by now, nothing is sent."""
    if op.new is None or op.new.kind is not Kind.FILE:
        return True
    found = other.tree.get(op.source)
    same = found is not None and found.digest == op.new.digest
    return same or (op.expected is not None and op.expected.digest == op.new.digest)
