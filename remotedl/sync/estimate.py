"""What a sync would move, before the first byte: how much, how long, what weighs most. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from remotedl.sync.agent.tree import Entry, Kind
from remotedl.sync.verdict import Operation, Verdict, Where

LARGEST = 10
PER_FILE_S = 0.0002
"""What a file costs beside its bytes: open, write, rename; from a tree of 20,000 small files."""


class Item(NamedTuple):
    """One path that weighs."""

    path: str
    where: Where
    """Where it would go."""
    size: int


class Way(NamedTuple):
    """All that would go to one side."""

    files: int
    """Created or overwritten, links included."""
    folders: int
    deleted: int
    """Files and links that go to the trash, as `safety` counts them."""
    bytes: int
    """Contents to be sent; x bits and contents that the receiver holds already cost nothing."""
    removed: int = 0
    """Folders."""


class Estimate(NamedTuple):
    """A dry run's result."""

    to_laptop: Way
    to_remote: Way
    rate: float | None
    """Bytes a second, as measured just now on this link; None if it was not."""
    seconds: float | None
    """At that rate."""
    largest: tuple[Item, ...]
    """The biggest first, of both ways."""
    conflicts: int
    frozen: int
    left_out: int
    left_out_bytes: int


def estimate(
    verdict: Verdict,
    held_laptop: frozenset[bytes] = frozenset(),
    held_remote: frozenset[bytes] = frozenset(),
    rate: float | None = None,
) -> Estimate:
    """`held_…`: digests that a side has somewhere, which need not be sent (a rename).

    `rate`: bytes a second, as measured on this link.
    """
    to_laptop = _way(verdict.to_laptop, held_laptop)
    to_remote = _way(verdict.to_remote, held_remote)
    moved = to_laptop.bytes + to_remote.bytes
    ways = (to_laptop, to_remote)
    count = sum(way.files + way.folders + way.deleted + way.removed for way in ways)
    seconds = moved / rate + count * PER_FILE_S if rate else None
    items = [
        *_items(verdict.to_laptop, Where.LAPTOP, held_laptop),
        *_items(verdict.to_remote, Where.REMOTE, held_remote),
    ]
    items.sort(key=lambda item: (-item.size, item.path, item.where))
    return Estimate(
        to_laptop,
        to_remote,
        rate,
        seconds,
        tuple(items[:LARGEST]),
        len(verdict.conflicts),
        len(verdict.frozen),
        len(verdict.left_out),
        sum(item.entry.size for item in verdict.left_out),
    )


def _way(operations: Iterable[Operation], held: frozenset[bytes]) -> Way:
    files = folders = deleted = removed = 0
    size = 0
    sent = set(held)
    for op in operations:
        if op.new is None and op.expected is not None and op.expected.kind is Kind.DIR:
            removed += 1
        elif op.new is None:
            deleted += 1
        elif op.new.kind is Kind.DIR:
            folders += 1
        else:
            files += 1
            if _is_sent(op, op.new, sent):
                size += op.new.size
                sent.add(op.new.digest or b"")
    return Way(files, folders, deleted, size, removed)


def _items(operations: Iterable[Operation], where: Where, held: frozenset[bytes]) -> Iterable[Item]:
    for op in operations:
        if op.new is not None and op.new.size and _is_sent(op, op.new, held):
            yield Item(op.path, where, op.new.size)


def _is_sent(op: Operation, new: Entry, held: Collection[bytes]) -> bool:
    if new.kind is not Kind.FILE or (new.digest or b"") in held:
        return False
    return op.expected is None or op.expected.digest != new.digest
