"""Who gets what: the table of docs/sync.md as one pure function. Touches nothing, asks nobody.

Three trees go in (what both sides last agreed on, the laptop's, the remote's), a `Verdict`
comes out. It never guesses: what a scan could not see is frozen, what both sides changed is a
conflict, and every operation names the entry that it expects to find (compare-and-swap).
`safety` looks at a verdict before anything is applied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum, IntEnum
from typing import NamedTuple

from remotedl.sync.agent.tree import Entry, Issue, Side, Tree
from remotedl.sync.lanes import Policy


class Where(str, Enum):
    """Which replica."""

    LAPTOP = "laptop"
    REMOTE = "remote"


class Reason(str, Enum):
    """Why an operation is done; shown in history and dry runs."""

    NEW = "new"
    EDITED = "edited"
    DELETED = "deleted"
    RESTORED = "restored"
    """Deleted there, edited here: the edit wins."""
    KIND_CHANGED = "kind changed"
    MERGED = "merged"
    """Content of one side, x bit of the other."""
    MADE_ROOM = "made room"
    """Removed because something else takes the place of a dir above it, or its name by case."""
    LAPTOP_WINS = "laptop wins"
    RESOLVED = "resolved"


class Phase(IntEnum):
    """Operations of one side are applied in this order."""

    CLEAR = 0
    """Deletes that make room, bottom-up."""
    WRITE = 1
    """Dirs, files and links, top-down."""
    DELETE = 2
    """Deletes, bottom-up."""


class Operation(NamedTuple):
    """One compare-and-swap on one side. `expected` None: nothing is there; `new` None: delete.

    A replaced or deleted version goes to the trash of its side. Equal digests in `expected` and
    `new` of a file mean that only the x bit changes. A dir is deleted by rmdir alone.
    """

    key: str
    path: str
    """As spelled on the side that is changed."""
    source: str
    """As spelled on the side that the content comes from."""
    expected: Entry | None
    new: Entry | None
    reason: Reason
    phase: Phase
    settles: bool = True
    """Whether both sides agree on `new` once all operations of this key are done."""


class ConflictKind(str, Enum):
    """What the two users did."""

    BOTH_NEW = "both created it"
    BOTH_EDITED = "both edited it"
    KINDS = "a file on one side, a folder or link on the other"


class Conflict(NamedTuple):
    """A path that both sides changed differently; neither is touched. Covers all below it."""

    key: str
    ancestor: Entry | None
    laptop: Entry
    remote: Entry
    kind: ConflictKind


class Frozen(NamedTuple):
    """A path that is left as it is, with all below it, until its issue is gone."""

    key: str
    where: Where
    issue: Issue


class LeftOutWhy(str, Enum):
    TOO_BIG = "above max_file_size_down"
    NO_LINKS = "the laptop cannot make links"
    UPLOAD_ONLY = "made on the host; the mode is upload-only"


class LeftOut(NamedTuple):
    """Something that stays on the host on purpose."""

    key: str
    entry: Entry
    why: LeftOutWhy


class Verdict(NamedTuple):
    """What a cycle has to do. All parts are sorted; equal input gives an equal verdict."""

    to_laptop: tuple[Operation, ...]
    """In the order in which they are applied."""
    to_remote: tuple[Operation, ...]
    ancestor: Mapping[str, Entry | None]
    """Changes of the ancestor that need no I/O: adopted (entry) or dropped (None)."""
    conflicts: tuple[Conflict, ...]
    frozen: tuple[Frozen, ...]
    left_out: tuple[LeftOut, ...]
    spent: tuple[str, ...]
    """Keys of decisions that are done or void and can be forgotten."""
    candidates: frozenset[str]
    """Keys that were looked at. Hand them in again as part of the next `changed`."""

    @property
    def idle(self) -> bool:
        """Nothing to apply and nothing to record."""
        return not (self.to_laptop or self.to_remote or self.ancestor)


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
    raise NotImplementedError


def settle(
    verdict: Verdict, done_laptop: Collection[str], done_remote: Collection[str]
) -> dict[str, Entry | None]:
    """Changes of the ancestor after the named keys' operations were acknowledged and flushed.

    A key advances only when every operation on it, on both sides, is done. Includes
    `verdict.ancestor`. None drops the key.
    """
    raise NotImplementedError


def conflict_copy(key: str, digest: bytes) -> str:
    """The one name of the remote's version when both are kept: "a.conflict-host-1f2e3d4c.py".

    A conflict copy's own copy is named after the original, never after the copy.
    """
    raise NotImplementedError
