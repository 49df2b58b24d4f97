"""What the sync says about itself: results of a cycle, the state of a session. Types only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from remotedl.sync.safety import Halt
from remotedl.sync.verdict import Conflict, Frozen, LeftOut, Where


class State(StrEnum):
    """What a session is doing."""

    OPENING = "opening"
    LIVE = "live"
    PAUSED = "paused"
    HALTED = "halted"
    """Stopped by safety; `halt` says why and the way on."""
    CLOSED = "closed"


class There(NamedTuple):
    """Where the host's folder is, for who has to mend something there."""

    host: str = ""
    """As `ssh` is told; "": hints leave the way to the reader."""
    folder: str = ""
    container: str = ""
    """In which the folder is /workspace; "" where there is none."""


class Failure(NamedTuple):
    """A path that could not be brought over, and why; it is tried again."""

    key: str
    where: Where
    """Where it could not be put."""
    why: str


class Opening(NamedTuple):
    """What is known once both sides are open and scanned."""

    remote_root: str
    """Absolute, on the host."""
    laptop_files: int
    remote_files: int
    first: bool
    """Nothing was ever agreed on between the two folders."""
    left_out: tuple[str, ...]
    """Rules by which paths are ignored."""


class Counts(NamedTuple):
    """What went one way."""

    written: int = 0
    """Files and links; folders are not counted, as in `Opening`."""
    deleted: int = 0
    sent: int = 0
    """Bytes of content."""

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.written + other.written, self.deleted + other.deleted, self.sent + other.sent
        )


class Outcome(NamedTuple):
    """One cycle."""

    to_laptop: Counts = Counts()
    to_remote: Counts = Counts()
    pending: int = 0
    """Operations that are still to be done: big files on their way, failures."""
    failures: tuple[Failure, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    frozen: tuple[Frozen, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def idle(self) -> bool:
        """Nothing was done and nothing is left to do."""
        return not self.pending and self.to_laptop == self.to_remote == Counts()


class Barrier(NamedTuple):
    """What `flush` proved: everything written before it is on both sides, but for what is named."""

    pending: int
    failures: tuple[Failure, ...]
    conflicts: tuple[Conflict, ...]
    frozen: tuple[Frozen, ...]
    behind: tuple[str, ...] = ()
    """Keys of what the host does not have as it was saved on the laptop; see behind.py."""
    there: There = There()

    @property
    def clean(self) -> bool:
        return not (self.pending or self.failures or self.conflicts or self.frozen)


class SyncStatus(NamedTuple):
    """For one line that always shows how things stand."""

    state: State
    last_success: float | None
    """Seconds since the epoch: when both sides were last seen equal, but for what is named."""
    pending: int
    transfers: tuple[Progress, ...]
    conflicts: tuple[Conflict, ...]
    frozen: tuple[Frozen, ...]
    failures: tuple[Failure, ...]
    left_out: tuple[LeftOut, ...]
    laptop_watching: str
    """ "events", "poll" or "poll: SYSCTL"."""
    remote_watching: str
    halt: Halt | None
    files: int
    since: Mapping[str, float] = {}
    """By key of what waits for its program: since when (seconds since the epoch)."""
    unmerged: tuple[str, ...] = ()
    """Copies that stand beside files: what could not be merged where they were open in Jupyter."""
    disk_since: float | None = None
    """Since when the host's disk does not answer (seconds since the epoch); None: it does."""
    there: There = There()


class Progress(NamedTuple):
    """A big file on its way."""

    key: str
    where: Where
    """Where it goes."""
    done: int
    size: int
