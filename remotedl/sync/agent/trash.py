"""What a sync took out of the way, kept for a while: `.remotedl/trash/`, and its journal.

Every displaced version stays on the same filesystem under a name of ours; the journal says what
it was, where it stood and in which step it went. A line is written before the file moves, so a
file without a line cannot be; a line without a file means that the move never happened.
`sync undo` reads it. Nothing here decides what is displaced.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional

from remotedl.sync.agent.disk import CLOSE_ON_EXEC, NO_FOLLOW, READ, At, read_blocks, write_all
from remotedl.sync.agent.folder import Folder
from remotedl.sync.agent.tree import Entry, Kind

JOURNAL = "journal"
TEMPORARY = "journal.new"
DAY_S = 86400.0
SHRINK_TO = 0.9
"""Of its limit: what goes beyond makes this much room, so that not every file costs a tidying."""


class Trashed(NamedTuple):
    """One line of the journal."""

    id: str
    """Its name in the trash; a directory has nothing there."""
    step: str
    """Which cycle took it."""
    at: float
    """Seconds since the epoch, on this machine's clock."""
    path: str
    """Where it stood."""
    old: Entry
    """What it was."""
    new: Optional[Entry]
    """What took its place; None: it was deleted."""
    reason: str


class Trash:
    """The trash of one root. One thread at a time."""

    def __init__(self, folder: Folder) -> None:
        self.disk = folder.disk
        self.at: At = folder.own("trash")
        self._lock = threading.Lock()
        self._serial = 0
        self.size: Optional[int] = None
        """How many bytes may be kept; None: any number."""
        self._held: Optional[int] = None
        """Bytes that are in it, or a few more; None: not counted yet."""
        self._last = ""
        """The id that was announced last."""

    def close(self) -> None:
        self.disk.close_dir(self.at)

    def announce(self, lines: Iterable[Trashed]) -> None:
        """Write lines before the moves that they speak about; the caller flushes (`flush`)."""
        lines = list(lines)
        for line in lines:
            self._last = line.id if line.old.kind is Kind.FILE else self._last
            if self._held is not None:
                self._held += line.old.size
        text = "".join(json.dumps(_to_json(line)) + "\n" for line in lines)
        if not text:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_FOLLOW | CLOSE_ON_EXEC
        fd = self.disk.open(JOURNAL, flags, self.at)
        try:
            # A line that a crash cut off must not swallow the next one.
            write_all(self.disk, fd, ("\n" + text).encode("ascii"))
            self.disk.fsync(fd)
        finally:
            self.disk.close(fd)

    def new_id(self, step: str) -> str:
        """A name that is not used yet."""
        while True:
            self._serial += 1
            name = f"{step}.{self._serial}"
            try:
                self.disk.lstat(name, self.at)
            except FileNotFoundError:
                return name

    def lines(self) -> Iterator[Trashed]:
        """The journal, oldest first; lines that cannot be read are skipped."""
        try:
            fd = self.disk.open(JOURNAL, READ, self.at)
        except FileNotFoundError:
            return
        try:
            text = b"".join(read_blocks(self.disk, fd, 1 << 20))
        finally:
            self.disk.close(fd)
        for raw in text.splitlines():
            line = _from_json(raw) if raw else None
            if line is not None:
                yield line

    def kept(self) -> List[Trashed]:
        """What is in the trash now, oldest first."""
        names = self._names()
        return [line for line in self.lines() if line.id in names or line.old.kind is Kind.DIR]

    def keep_to_size(self) -> int:
        """After something was displaced: the oldest beyond the limit go; how many bytes went.

        What was displaced last stays, however big it is: until the next one comes. Raises OSError.
        """
        if self.size is None:
            return 0
        if self._held is None:
            self._held = sum(line.old.size for line in self.kept())
        if self._held <= self.size:
            return 0
        return self.prune(float("inf"), int(self.size * SHRINK_TO), spare=self._last)

    def prune(self, days: float, size: int, *, spare: str = "") -> int:
        """Remove what is older, and the oldest beyond `size` bytes; how many bytes went.

        `spare`: an id that stays.
        """
        now = self.disk.now()
        lines = self.kept()
        left = sum(line.old.size for line in lines)
        keep: List[Trashed] = []
        freed = 0
        for line in lines:
            expired = now - line.at > days * DAY_S
            if line.id == spare or (not expired and left <= size):
                keep.append(line)
                continue
            left -= line.old.size
            freed += line.old.size
            self.remove(line.id)
        self._held = left
        known = {line.id for line in keep}
        if len(keep) != len(lines):
            self._rewrite(keep)
        for name in self._names() - known - {JOURNAL, TEMPORARY}:
            if self._age(name, now) > days * DAY_S:  # left by a crash, in no journal
                self.remove(name)
        return freed

    def remove(self, name: str) -> None:
        try:
            self.disk.unlink(name, self.at)
        except FileNotFoundError:
            pass

    def _age(self, name: str, now: float) -> float:
        try:
            return now - self.disk.lstat(name, self.at).st_ctime
        except FileNotFoundError:
            return 0.0

    def _names(self) -> set[str]:
        with self.disk.scandir(self.at) as found:
            return {item.name for item in found}

    def _rewrite(self, lines: List[Trashed]) -> None:
        from remotedl.sync.agent.disk import write_small

        text = "".join(json.dumps(_to_json(line)) + "\n" for line in lines)
        write_small(self.disk, JOURNAL, text.encode("ascii"), self.at, TEMPORARY)


def entry_to_json(entry: Optional[Entry]) -> Optional[Dict[str, Any]]:
    if entry is None:
        return None
    value: Dict[str, Any] = {"kind": entry.kind.value}
    if entry.kind is Kind.FILE:
        assert entry.digest is not None
        value.update(sha256=entry.digest.hex(), size=entry.size, executable=entry.executable)
    if entry.target is not None:
        value["target"] = entry.target
    return value


def entry_from_json(value: Optional[Dict[str, Any]]) -> Optional[Entry]:
    """Raises ValueError, KeyError, TypeError."""
    if value is None:
        return None
    kind = Kind(value["kind"])
    if kind is Kind.FILE:
        digest = bytes.fromhex(value["sha256"])
        return Entry(kind, digest, int(value["size"]), bool(value["executable"]))
    return Entry(kind, target=str(value["target"]) if kind is Kind.LINK else None)


def _to_json(line: Trashed) -> Dict[str, Any]:
    value = line._asdict()
    value["old"] = entry_to_json(line.old)
    value["new"] = entry_to_json(line.new)
    return dict(value)


def _from_json(raw: bytes) -> Optional[Trashed]:
    try:
        value = json.loads(raw.decode("ascii"))
        old = entry_from_json(value["old"])
        if old is None:
            return None
        return Trashed(
            str(value["id"]),
            str(value["step"]),
            float(value["at"]),
            str(value["path"]),
            old,
            entry_from_json(value["new"]),
            str(value["reason"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
