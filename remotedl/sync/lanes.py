"""What the user wants of a path: mirrored, uploaded only, or results that only come down. Pure.

A policy decides nothing about a path's state; `reconcile` does, asking here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, StrEnum
from typing import NamedTuple

from remotedl.config.models import SyncConfig, SyncMode
from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import Kind, Tree
from remotedl.sync.instructions import Instructions


class Lane(Enum):
    """How changes of a path travel."""

    MIRROR = "mirror"
    """Both ways."""
    UPLOAD = "upload"
    """Laptop to host; what the host makes stays there."""
    OUTPUT = "output"
    """Host to laptop: new and grown files come down, nothing goes up, nothing is deleted."""
    HELD = "held"
    """Laptop to host; what the host makes of it is a conflict, taken only after a look."""


class Choice(StrEnum):
    """How the user resolves a conflict."""

    LAPTOP = "laptop"
    REMOTE = "remote"
    BOTH = "both"
    """The laptop's version keeps the name, the remote's gets a named copy beside it."""


class Decision(NamedTuple):
    """A choice for the two versions that the user saw; void as soon as either changes."""

    choice: Choice
    version: str
    """`Conflict.version` at that time."""


class Policy(NamedTuple):
    """Everything that reconciliation needs to know about what is wanted."""

    mode: SyncMode = SyncMode.TWO_WAY_SAFE
    ignore: Ignore = Ignore()
    outputs: Ignore = Ignore(defaults=False)
    """What it "ignores" is in the output lane."""
    max_file_size_down: int = 100_000_000
    """Bytes; a bigger file of the host stays there and is listed."""
    decisions: Mapping[str, Decision] = {}
    """By key of the conflict."""
    instructions: Instructions = Instructions()
    opened: frozenset[str] = frozenset()
    """Keys of files that are open in Jupyter, which merges an outside change."""

    def lane(self, key: str, kind: Kind) -> Lane:
        """How changes of `key` travel. Output patterns overrule the mode; no pattern and no mode
        brings an instruction down."""
        if self.instructions.holds(key, kind):
            return Lane.UPLOAD if self.mode is SyncMode.UPLOAD_ONLY else Lane.HELD
        if self.outputs.sources and self.outputs.ignores(key, kind is Kind.DIR):
            return Lane.OUTPUT
        return Lane.UPLOAD if self.mode is SyncMode.UPLOAD_ONLY else Lane.MIRROR


def left_lane(
    ancestor: Tree, laptop: Tree, remote: Tree, before: Iterable[str], now: Iterable[str]
) -> set[str]:
    """Keys that are results no more, and of which the sides kept different versions on purpose.

    What was agreed on there is to be forgotten: a delete or an edit that stayed on its side while
    the path was a result is no wish to change the other side now.
    """
    old, new = _outputs(before), _outputs(now)
    found = set()
    for key, known in ancestor.items() if old.sources else ():
        apart = laptop.get(key) != known or key not in remote
        is_dir = known.kind is Kind.DIR
        if apart and old.ignores(key, is_dir) and not (new.sources and new.ignores(key, is_dir)):
            found.add(key)
    return found


def _outputs(patterns: Iterable[str]) -> Ignore:
    lines = "\n".join(patterns)
    return Ignore([Source(lines)] if lines else [], defaults=False)


def policy_of(
    config: SyncConfig,
    ignore: Ignore,
    decisions: Mapping[str, Decision] | None = None,
    instructions: Instructions | None = None,
) -> Policy:
    """The policy of a `[project.sync]` table with rules compiled elsewhere."""
    return Policy(
        config.mode,
        ignore,
        _outputs(config.outputs),
        config.max_file_size_down,
        decisions or {},
        instructions or Instructions(config.ask_before),
    )
