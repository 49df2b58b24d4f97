"""The last look before anything is applied. Every deletion passes here. Pure.

Three halts: a root is missing or replaced, a root was emptied, one cycle would delete too much
of the laptop. A halt changes nothing and names the way on. What passes comes out as `Cleared`,
the only thing that the cycle hands to apply.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from remotedl.errors import SyncHalted
from remotedl.sync.agent.tree import Side, Tree
from remotedl.sync.reconcile import Operation, Verdict, Where

DELETES_ALWAYS_FINE = 50
DELETES_FINE_SHARE = 0.25


class Root(NamedTuple):
    """What a side says about its root."""

    exists: bool
    """It is there and is a dir."""
    marker: str | None
    """The id in its `.remotedl/`, None when there is none."""


class HaltKind(str, Enum):
    ROOT_MISSING = "root-missing"
    ROOT_REPLACED = "root-replaced"
    """No marker, or another one, where the database expects its own."""
    ROOT_EMPTIED = "root-emptied"
    MASS_DELETE = "mass-delete"
    UNSOUND = "unsound"
    """A verdict that breaks an invariant: a defect of ours, stopped before it does harm."""


class Halt(NamedTuple):
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


def check_roots(expected: str | None, laptop: Root, remote: Root) -> Halt | None:
    """Before trees are compared. `expected` is the database's marker id, None on a first sync."""
    raise NotImplementedError


def clear(
    verdict: Verdict,
    ancestor: Tree,
    laptop: Side,
    remote: Side,
    allowed: frozenset[HaltKind] = frozenset(),
) -> Cleared | Halt:
    """Before anything is applied. `allowed`: halts that the user waved through, this once."""
    raise NotImplementedError
