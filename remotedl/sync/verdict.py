"""What reconciliation says: operations, conflicts, what is frozen or left out. Types, no decisions.

`reconcile` makes a `Verdict`, `safety` looks at it, the cycle applies it and `settle` turns what
was really done into the new ancestor.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple

from remotedl.sync.agent.opened import MERGES
from remotedl.sync.agent.tree import Entry, Issue, join, name, parent


class Where(StrEnum):
    """Which replica."""

    LAPTOP = "laptop"
    REMOTE = "remote"


class Reason(StrEnum):
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
    GREW = "grew"
    """A log that is being written: what it was is part of what it is. See agent/apply.py."""
    MERGED_LIVE = MERGES
    """Edited on both sides and open in Jupyter, which merges the laptop's version into its own."""


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


class ConflictKind(StrEnum):
    """What the two users did."""

    BOTH_NEW = "created on both sides"
    BOTH_EDITED = "edited on both sides"
    KINDS = "not the same kind of thing on both sides"
    HELD_NEW = "made on the host, and tells a program of the laptop what to do: held back"
    HELD_EDITED = "changed on the host, and tells a program of the laptop what to do: held back"


class Conflict(NamedTuple):
    """A path that both sides changed differently; neither is touched. Covers all below it."""

    key: str
    ancestor: Entry | None
    laptop: Entry | None
    """None: only the host has it, which is a conflict where it is held back."""
    remote: Entry | None
    kind: ConflictKind
    version: str
    """Tells these two versions from any others, dirs with all that is in them."""
    held: bool = False
    """The host's version is, or holds, what tells a program of the laptop what to do: it is taken
    only by somebody who was shown what differs."""


class Frozen(NamedTuple):
    """A path that is left as it is, with all below it, until its issue is gone."""

    key: str
    where: Where
    issue: Issue
    spellings: tuple[str, ...] = ()
    """The paths on disk that are one name to us, where that is the issue."""


class LeftOutWhy(StrEnum):
    """Why something stays on the host."""

    TOO_BIG = "above max_file_size_down"
    NO_LINKS = "the other side cannot make links"
    UPLOAD_ONLY = "made on the host; the mode is upload-only"
    HELD = "it tells a program of the laptop what to do"


class LeftOut(NamedTuple):
    """Something that stays where it is on purpose, with all below it."""

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


def settle(
    verdict: Verdict, done_laptop: Collection[str], done_remote: Collection[str]
) -> dict[str, Entry | None]:
    """Changes of the ancestor after the operations on the named keys were acknowledged.

    A key advances only when every operation on it, on both sides, is done and flushed: an
    ancestor that is behind costs nothing, one that is ahead loses data. Includes
    `verdict.ancestor`. None drops the key.
    """
    agreed = dict(verdict.ancestor)
    undone = {op.key for op in verdict.to_laptop if not op.settles or op.key not in done_laptop}
    undone |= {op.key for op in verdict.to_remote if not op.settles or op.key not in done_remote}
    for op in (*verdict.to_laptop, *verdict.to_remote):
        if op.key not in undone:
            agreed[op.key] = op.new
    return agreed


_COPY = re.compile(
    r"(?P<stem>.+?)\.conflict-(?P<side>host|disk)-[0-9a-f]{8}(?:-[0-9]+)?(?P<rest>\.[^.]*)?"
)


def conflict_copy(key: str, digest: bytes, attempt: int = 1) -> str:
    """The name of the remote's version when both are kept: "a.conflict-host-1f2e3d4c.py".

    A conflict copy's own copy is named after the original, never after the copy. `attempt`
    counts on when another file has the name.
    """
    leaf = name(key)
    known = _COPY.fullmatch(leaf)
    if known is not None:
        leaf = known["stem"] + (known["rest"] or "")
    stem, dot, ending = leaf.rpartition(".")
    if not stem.strip("."):
        stem, dot, ending = leaf, "", ""
    count = "" if attempt == 1 else f"-{attempt}"
    label = f".conflict-host-{digest.hex()[:8]}{count}{dot}{ending}"
    return join(parent(key), _fitting(stem, 255 - len(_raw(label))) + label)


def unmerged(key: str) -> str | None:
    """The file of which `key` is the version that could not be merged where it is open in Jupyter.

    None if it is no such copy. See dockerfiles/base/jupyter/remotedl_documents.py.
    """
    known = _COPY.fullmatch(name(key)) if ".conflict-disk-" in key else None
    if known is None or known["side"] != "disk":
        return None
    return join(parent(key), known["stem"] + (known["rest"] or ""))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _fitting(stem: str, limit: int) -> str:
    """`stem` cut to `limit` bytes of UTF-8 at a character's end."""
    while len(_raw(stem)) > limit:
        stem = stem[:-1]
    return stem
