"""What the agent tells about its replica: all of it, or what changed since a generation. Pure.

Every change of the picture gets the next number. A laptop that knows the picture as of number n
of the same epoch is told only what came after; otherwise everything.
"""

from __future__ import annotations

import struct
from typing import AbstractSet, Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from remotedl.sync.agent.protocol import (
    Malformed,
    pack_entries,
    pack_json,
    unpack_entries,
    unpack_json,
)
from remotedl.sync.agent.tree import Entry, Issue

MEMORY = 50_000
"""So many changed keys are remembered; who missed more is told everything."""
WORTH_FORGETTING = 1000
_LENGTH = struct.Struct(">I")

Row = Tuple[str, Optional[Entry]]


class Version(NamedTuple):
    """Which state of the picture somebody knows."""

    epoch: str
    number: int


class Around(NamedTuple):
    """What belongs to the picture beside its entries; short, so always told whole."""

    issues: Mapping[str, Issue]
    spelling: Mapping[str, str]
    holding: AbstractSet[str]
    twins: Mapping[str, Tuple[str, ...]] = {}


class Listing(NamedTuple):
    """One part of what is told."""

    version: Version
    """What is known after the last part."""
    whole: bool
    """Forget what you knew: this and the parts that follow are everything."""
    last: bool
    rows: List[Row]
    around: Optional[Around]
    """None: as before."""
    marker: Optional[str]
    gone: str = ""
    """Why the root is not there; everything else is empty then."""
    watching: str = "off"
    """How the host follows changes: "events", "poll", "poll: SYSCTL" or "off"."""
    growing: AbstractSet[str] = frozenset()
    """Keys among `rows` of logs that a program goes on appending to."""


class Generations:
    """Numbers the states of a picture and remembers which keys changed when.

    Decision: every run of the agent that sees a change begins an epoch of its own, which goes on
    counting where the saved one stood. Alternative: one epoch for ever. Reason: an agent that was
    killed had told states that it never saved; the next one gave their numbers to other states,
    and a laptop that asked what had changed since such a number was told: nothing.
    """

    def __init__(self, epoch: str, number: int = 1) -> None:
        self.epoch = epoch
        self.number = number
        self._floor = number
        self._changed: Dict[str, int] = {}
        self._saved: Optional[Version] = None
        """The state that the run before this one saved."""
        self._next = epoch
        """The epoch that the next change begins."""

    @property
    def version(self) -> Version:
        return Version(self.epoch, self.number)

    def note(self, keys: Iterable[str]) -> None:
        """These keys changed, all at once."""
        if self._next != self.epoch:
            self._saved = self.version
            self.epoch = self._next
        self.number += 1
        for key in keys:
            self._changed[key] = self.number
        if len(self._changed) > MEMORY:
            self._changed.clear()
            self._floor = self.number

    def since(self, version: Optional[Version]) -> Optional[List[str]]:
        """The keys that changed after `version`, sorted; None: tell everything."""
        if version is None or not self._floor <= version.number <= self._last_of(version.epoch):
            return None
        return sorted(key for key, number in self._changed.items() if number > version.number)

    def forget(self, version: Optional[Version]) -> bool:
        """Somebody has kept what they were told up to `version`: it need not be told again.

        Whether that was much. An older state of theirs is told everything.
        """
        if version is None or self.since(version) is None:
            return False
        kept = {key: number for key, number in self._changed.items() if number > version.number}
        if len(self._changed) - len(kept) < WORTH_FORGETTING:
            return False
        self._changed, self._floor = kept, version.number
        return True

    def _last_of(self, epoch: str) -> int:
        """The highest number of an epoch that still means here what it meant then."""
        if epoch == self.epoch:
            return self.number
        return self._saved.number if self._saved and self._saved.epoch == epoch else -1

    def to_json(self) -> Dict[str, Any]:
        return {
            "epoch": self.epoch,
            "number": self.number,
            "floor": self._floor,
            "changed": self._changed,
        }

    @classmethod
    def from_json(cls, value: Any, epoch: str) -> Generations:
        """What `to_json` gave, with `epoch` for what comes; `epoch` alone where it is not that."""
        try:
            found = cls(str(value["epoch"]), int(value["number"]))
            found._next = epoch
            found._floor = int(value["floor"])
            found._changed = {str(key): int(number) for key, number in value["changed"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls(epoch)
        return found


def pack_listing(listing: Listing) -> bytes:
    head: Dict[str, Any] = {
        "version": list(listing.version),
        "whole": listing.whole,
        "last": listing.last,
        "marker": listing.marker,
        "gone": listing.gone,
        "watching": listing.watching,
        "growing": sorted(listing.growing),
    }
    if listing.around is not None:
        head["issues"] = {key: issue.value for key, issue in listing.around.issues.items()}
        head["spelling"] = dict(listing.around.spelling)
        head["holding"] = sorted(listing.around.holding)
        head["twins"] = {key: list(paths) for key, paths in listing.around.twins.items()}
    packed = pack_json(head)
    return _LENGTH.pack(len(packed)) + packed + pack_entries(listing.rows)


def is_last(payload: bytes) -> bool:
    """Whether this part of a listing is the last one. Raises Malformed."""
    try:
        (size,) = _LENGTH.unpack_from(payload)
        return bool(unpack_json(payload[4 : 4 + size])["last"])
    except (struct.error, KeyError) as exc:
        raise Malformed(f"a listing that makes no sense: {exc}") from exc


def unpack_listing(payload: bytes) -> Listing:
    """Raises Malformed."""
    try:
        (size,) = _LENGTH.unpack_from(payload)
        head = unpack_json(payload[4 : 4 + size])
        rows = unpack_entries(payload[4 + size :])
        around = None
        if "issues" in head:
            around = Around(
                {str(key): Issue(issue) for key, issue in head["issues"].items()},
                {str(key): str(path) for key, path in head["spelling"].items()},
                frozenset(str(key) for key in head["holding"]),
                {str(key): tuple(map(str, paths)) for key, paths in head["twins"].items()},
            )
        epoch, number = head["version"]
        marker = head["marker"]
        return Listing(
            Version(str(epoch), int(number)),
            bool(head["whole"]),
            bool(head["last"]),
            rows,
            around,
            None if marker is None else str(marker),
            str(head["gone"]),
            str(head["watching"]),
            frozenset(map(str, head["growing"])),
        )
    except (struct.error, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise Malformed(f"a listing that makes no sense: {exc}") from exc
