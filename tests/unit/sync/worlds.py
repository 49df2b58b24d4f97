"""Small trees to reconcile, written down as briefly as they can be thought of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from remotedl.config.models import SyncMode
from remotedl.sync.agent.tree import DIR, Entry, Issue, Kind, Side, Traits, Tree, patched
from remotedl.sync.lanes import Policy
from remotedl.sync.reconcile import Operation, Verdict, reconcile, settle
from remotedl.sync.verdict import Where


def file(text: str, *, x: bool = False, size: int | None = None) -> Entry:
    raw = text.encode()
    digest = hashlib.sha256(raw).digest()
    return Entry(Kind.FILE, digest, len(raw) if size is None else size, x)


def link(target: str) -> Entry:
    return Entry(Kind.LINK, target=target)


def tree(**named: Entry | str) -> Tree:
    """`tree(d=DIR, d__x="1")` is a dir d with a file x; a str is a file's content."""
    return {path.replace("__", "/"): entry_of(value) for path, value in named.items()}


def entry_of(value: Entry | str) -> Entry:
    return file(value) if isinstance(value, str) else value


def side(
    entries: Tree,
    *,
    issues: Mapping[str, Issue] | None = None,
    holding: Iterable[str] = (),
    traits: Traits | None = None,
    spelling: Mapping[str, str] | None = None,
) -> Side:
    return Side(entries, issues or {}, spelling or {}, frozenset(holding), traits or Traits())


class World(NamedTuple):
    """The three trees. `flipped` swaps the two users: what holds for one holds for the other."""

    ancestor: Tree
    here: Side
    there: Side
    flipped: bool = False

    def decide(self, policy: Policy | None = None) -> Outcome:
        laptop, remote = (self.there, self.here) if self.flipped else (self.here, self.there)
        verdict = reconcile(self.ancestor, laptop, remote, policy or Policy())
        return Outcome(self, verdict)


class Outcome(NamedTuple):
    """A verdict in the words of the world: `here` and `there` instead of laptop and remote."""

    world: World
    verdict: Verdict

    @property
    def to_here(self) -> tuple[Operation, ...]:
        return self.verdict.to_remote if self.world.flipped else self.verdict.to_laptop

    @property
    def to_there(self) -> tuple[Operation, ...]:
        return self.verdict.to_laptop if self.world.flipped else self.verdict.to_remote

    def where(self, here: bool) -> Where:
        return Where.LAPTOP if here is not self.world.flipped else Where.REMOTE

    @property
    def untouched(self) -> bool:
        return self.verdict.idle

    def after(self) -> World:
        """Everything was applied and acknowledged."""
        agreed = settle(
            self.verdict,
            {op.key for op in self.verdict.to_laptop},
            {op.key for op in self.verdict.to_remote},
        )
        return World(
            patched(self.world.ancestor, agreed),
            applied(self.world.here, self.to_here),
            applied(self.world.there, self.to_there),
            self.world.flipped,
        )


def applied(before: Side, operations: Iterable[Operation]) -> Side:
    """The side after its operations, each of which must find what it expects, in an order that
    a filesystem accepts."""
    now = dict(before.tree)
    for op in operations:
        assert now.get(op.key) == op.expected, op
        if op.new != DIR:
            below = [key for key in now if key.startswith(op.key + "/")]
            assert not below, f"{op.key} still holds {below}"
        if op.new is None:
            assert op.key not in before.holding, f"{op.key} holds ignored data"
            del now[op.key]
        else:
            above = op.key.rpartition("/")[0]
            assert not above or now.get(above) == DIR, f"{op.key} has no dir to go to"
            now[op.key] = op.new
    return before._replace(tree=now)


def world(ancestor: Tree, here: Tree | Side, there: Tree | Side, *, flipped: bool = False) -> World:
    as_side = [item if isinstance(item, Side) else side(item) for item in (here, there)]
    return World(ancestor, as_side[0], as_side[1], flipped)


def brief(operations: Iterable[Operation]) -> list[str]:
    """'+x' created, '-x' deleted, '~x' replaced, 'xx' x bit changed; in the order of applying."""
    return [_sign(op) + op.path for op in operations]


def _sign(op: Operation) -> str:
    if op.expected is None:
        return "+"
    if op.new is None:
        return "-"
    same_bytes = op.expected.digest is not None and op.expected.digest == op.new.digest
    return "x" if same_bytes else "~"


LAPTOP_WINS = Policy(mode=SyncMode.LAPTOP_WINS)
UPLOAD_ONLY = Policy(mode=SyncMode.UPLOAD_ONLY)
