"""What both sides last agreed on, kept on the laptop in SQLite: the ancestor and what goes with it.

An ancestor that is behind costs a comparison; one that is ahead loses data. So it is written
after the receiver has flushed, in one transaction, and a damaged file stops the sync with a
message: it is never taken for an empty one. Decides nothing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from remotedl.errors import ConfigError, FolderUnusable, StateCorrupt
from remotedl.sync.agent import packed
from remotedl.sync.agent.listing import Version
from remotedl.sync.agent.protocol import (
    Malformed,
    count_rows,
    pack_changes,
    pack_entries,
    unpack_changes,
    unpack_entries,
)
from remotedl.sync.agent.tree import DIR, Change, Entry, Kind, Tree
from remotedl.sync.lanes import Choice, Decision

SCHEMA = 3
APPLICATION = 0x72646C73
"""In the file's header: "rdls"."""

NEW_BASE_FROM = 4096
"""So many changed rows are folded into one table, which is read ten times as fast."""

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE ancestor (
    key BLOB PRIMARY KEY, kind INTEGER NOT NULL, digest BLOB, size INTEGER NOT NULL,
    executable INTEGER NOT NULL, target BLOB
) WITHOUT ROWID;
CREATE TABLE base (id INTEGER PRIMARY KEY, digest BLOB NOT NULL, entries BLOB NOT NULL);
CREATE TABLE remote (
    key BLOB PRIMARY KEY, kind INTEGER NOT NULL, digest BLOB, size INTEGER NOT NULL,
    executable INTEGER NOT NULL, target BLOB
) WITHOUT ROWID;
CREATE TABLE decision (
    key BLOB PRIMARY KEY, choice TEXT NOT NULL, version TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE step (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, side TEXT NOT NULL,
    count INTEGER NOT NULL, reasons TEXT NOT NULL, changes BLOB NOT NULL
);
"""
_BATCH = """
CREATE TABLE batch (
    number INTEGER PRIMARY KEY, side TEXT NOT NULL, arrived INTEGER NOT NULL, entries BLOB NOT NULL
);
"""
_ARRIVED = """
CREATE TABLE IF NOT EXISTS arrived (key BLOB PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID;
"""
_MIGRATIONS = {1: _BATCH, 2: _ARRIVED}
"""What brings a database of that version to the next one."""
Rows = Sequence[tuple[str, Entry | None]]
_KINDS = {Kind.FILE: 1, Kind.DIR: 2, Kind.LINK: 3}
_ABSENT = 0
_ROW = "(key, kind, digest, size, executable, target) VALUES (?, ?, ?, ?, ?, ?)"
_HINT = (
    "both folders are untouched; to unite them anew without deleting anything, move {path} away "
    "and run: remotedl sync --once"
)


class Step(NamedTuple):
    """What one cycle changed on one side."""

    id: str
    at: float
    """Seconds since the epoch, on the laptop's clock."""
    side: str
    reasons: tuple[str, ...]
    changes: tuple[Change, ...]


class Database:
    """The laptop's memory of one pair of folders. One thread at a time. Close it."""

    def __init__(self, path: Path, *, used: bool = False) -> None:
        """`used`: there was a session before, so that an empty file is a damaged one.

        Raises StateCorrupt, FolderUnusable; ConfigError for the file of a newer version.
        """
        self.path = path
        self._used = used
        self._since_base = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open()
        except OSError as exc:
            raise FolderUnusable(f"{path}: {exc.strerror}") from exc
        except sqlite3.Error as exc:
            raise self._translated(exc) from exc

    @classmethod
    def peek(cls, path: Path) -> tuple[list[str | int] | None, str | None, Tree]:
        """Where the laptop's folder was, its marker, and what both sides agreed on; read beside
        whoever may have it open. Raises StateCorrupt.
        """
        self = cls.__new__(cls)
        self.path = path
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as exc:
            raise self._corrupt(exc) from exc
        try:
            return self._get("laptop place"), self._get("laptop marker"), self.ancestor()
        finally:
            self._connection.close()

    def note_place(self, place: list[str | int]) -> None:
        """Where the laptop's folder is, and which inode it is."""
        if self._get("laptop place") != place:
            with self._transaction():
                self._set("laptop place", place)

    def close(self) -> None:
        """Say that all was written in order."""
        try:
            self._set("clean", True)
            self._connection.commit()
            self._connection.close()
        except sqlite3.Error as exc:
            raise self._translated(exc) from exc

    @property
    def expected_markers(self) -> tuple[str | None, str | None]:
        """The ids of the laptop's and the host's root at the last sync."""
        return self._get("laptop marker"), self._get("remote marker")

    def expect_markers(self, laptop: str, remote: str) -> None:
        with self._transaction():
            self._set("laptop marker", laptop)
            self._set("remote marker", remote)

    def boots(self) -> tuple[str, str]:
        """Which starts of laptop and host the last session ran in."""
        return self._get("laptop boot") or "", self._get("remote boot") or ""

    def set_boots(self, laptop: str, remote: str) -> None:
        with self._transaction():
            self._set("laptop boot", laptop)
            self._set("remote boot", remote)

    def laptop_id(self) -> str | None:
        """Tells this laptop's memory of the pair from that of any other laptop."""
        found = self._get("laptop id")
        return None if found is None else str(found)

    def set_laptop_id(self, id: str) -> None:
        with self._transaction():
            self._set("laptop id", id)

    def outputs(self) -> tuple[str, ...] | None:
        """The patterns of `outputs` by which the last session decided; None: there was none."""
        patterns = self._get("outputs")
        return None if patterns is None else tuple(patterns)

    def set_outputs(self, patterns: Iterable[str]) -> None:
        with self._transaction():
            self._set("outputs", list(patterns))

    def pruned_at(self) -> float:
        """When both trashes were last gone through (seconds since the epoch); 0: never."""
        return float(self._get("pruned at") or 0)

    def set_pruned(self, at: float) -> None:
        with self._transaction():
            self._set("pruned at", at)

    def forgiven_at(self) -> float:
        """When the user last let a mass delete pass (seconds since the epoch); 0: never."""
        return float(self._get("forgiven at") or 0)

    def set_forgiven(self, at: float) -> None:
        with self._transaction():
            self._set("forgiven at", at)

    def ancestor(self) -> Tree:
        """What both sides agreed on: the base, and what changed since. Raises StateCorrupt."""
        tree = self._base()
        for key, entry in self._rows("ancestor"):
            if entry is None:
                tree.pop(key, None)
            else:
                tree[key] = entry
        return tree

    def remote_version(self) -> Version | None:
        """As of which of its versions the host's picture is known; None: it is not."""
        version = self._get("remote version")
        return None if version is None else Version(str(version[0]), int(version[1]))

    def remote(self, ancestor: Tree) -> Tree:
        """The host's picture as it was last known."""
        if self.remote_version() is None:
            return {}
        tree = packed.copy_of(ancestor)
        for key, entry in self._rows("remote"):
            if entry is None:
                tree.pop(key, None)
            else:
                tree[key] = entry
        return tree

    def record(
        self,
        ancestor: Tree,
        agreed: Mapping[str, Entry | None],
        remote: Mapping[str, tuple[bool, Entry | None]],
        version: Version | None,
        spent: Iterable[str],
        steps: Iterable[Step],
        *,
        whole: bool = False,
        open_batches: Iterable[tuple[str, Rows]] = (),
    ) -> None:
        """One cycle, in one transaction.

        `ancestor`: all of it now. `agreed`: what changed in it. `remote`: by key, whether the
        host's picture differs from the ancestor there, and how; `whole`: there is no other
        difference. `spent`: decisions that can be forgotten. `open_batches`: what was sent to a
        side and is not agreed on; all other batches are part of `agreed`.
        """
        equal = [(_raw(key),) for key, (differs, _) in remote.items() if not differs]
        other = [_row(key, entry) for key, (differs, entry) in remote.items() if differs]
        with self._transaction():
            run = self._connection.executemany
            self._record_agreed(ancestor, agreed)
            if whole:
                self._connection.execute("DELETE FROM remote")
            run("DELETE FROM remote WHERE key = ?", equal)
            run("INSERT OR REPLACE INTO remote " + _ROW, other)
            run("DELETE FROM decision WHERE key = ?", [(_raw(key),) for key in spent])
            if version is not None:
                self._set("remote version", list(version))
            for step in steps:
                self._add_step(step)
            self._connection.execute("DELETE FROM batch")
            for side, rows in open_batches:
                self._add_batch(side, rows)

    def batches(self) -> list[tuple[str, bool, Rows]]:
        """Since the last record, oldest first: to which side, whether it arrived, what."""
        query = "SELECT side, arrived, entries FROM batch ORDER BY number"
        try:
            return [
                (str(side), bool(arrived), unpack_entries(entries) if entries else [])
                for side, arrived, entries in self._connection.execute(query)
            ]
        except (sqlite3.Error, Malformed, TypeError) as exc:
            raise self._corrupt(exc) from exc

    def add_batch(self, side: str, rows: Rows, arrivals: Iterable[tuple[str, bytes]] = ()) -> int:
        """What is about to be sent to a side; the number of the batch.

        `arrivals`: contents that the host gives the laptop, by key: see `arrived_in`.
        """
        with self._transaction():
            query = "INSERT OR REPLACE INTO arrived (key, digest) VALUES (?, ?)"
            self._connection.executemany(query, [(_raw(key), one) for key, one in arrivals])
            return self._add_batch(side, rows)

    def batch_arrived(self, number: int, agreed: Rows, rows: Rows) -> None:
        """A batch was acknowledged: `agreed` is what both sides have now, `rows` may be there."""
        with self._transaction():
            run = self._connection.execute
            change = (_packed(agreed), number)
            run("UPDATE batch SET arrived = 1, entries = ? WHERE number = ?", change)
            if rows:
                query = "INSERT INTO batch (side, arrived, entries) SELECT side, 0, ? FROM batch "
                run(query + "WHERE number = ?", (_packed(rows), number))

    def _add_batch(self, side: str, rows: Rows) -> int:
        insert = "INSERT INTO batch (side, arrived, entries) VALUES (?, 0, ?)"
        added = self._connection.execute(insert, (side, _packed(rows)))
        return int(added.lastrowid or 0)

    def _record_agreed(self, ancestor: Tree, agreed: Mapping[str, Entry | None]) -> None:
        """A few changes as rows; many, or many since the last time, as a new base."""
        self._since_base += len(agreed)
        if self._since_base < NEW_BASE_FROM:
            rows = [_row(key, entry) for key, entry in agreed.items()]
            self._connection.executemany("INSERT OR REPLACE INTO ancestor " + _ROW, rows)
            return
        entries = pack_entries(list(ancestor.items()))
        self._connection.execute("DELETE FROM ancestor")
        base = (hashlib.sha256(entries).digest(), entries)
        self._connection.execute("INSERT OR REPLACE INTO base VALUES (1, ?, ?)", base)
        self._since_base = 0

    def _base(self) -> Tree:
        try:
            row = self._connection.execute("SELECT digest, entries FROM base").fetchone()
            if row is None:
                return {}
            if hashlib.sha256(row[1]).digest() != row[0]:
                raise Malformed("the base is not what was written")
            if count_rows(row[1]) >= packed.FROM:
                return packed.unpack(row[1], b"", 0)[0]
            return {key: entry for key, entry in unpack_entries(row[1]) if entry is not None}
        except (sqlite3.Error, Malformed, TypeError) as exc:
            raise self._corrupt(exc) from exc

    def add_step(self, step: Step) -> None:
        """Remember what was changed outside a cycle."""
        with self._transaction():
            self._add_step(step)

    def forget_agreement(self) -> None:
        """Unite both sides anew: what differs becomes a conflict, nothing is deleted."""
        with self._transaction():
            for table in ("base", "ancestor", "remote", "batch"):
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608
            self._connection.execute("DELETE FROM meta WHERE name LIKE '% marker'")
            self._connection.execute("DELETE FROM meta WHERE name = 'remote version'")

    def shrink(self) -> None:
        """Keep nothing in memory of what was read."""
        self._connection.execute("PRAGMA shrink_memory")

    def decisions(self) -> dict[str, Decision]:
        """What the user chose for conflicts, by key."""
        try:
            rows = self._connection.execute("SELECT key, choice, version FROM decision")
            return {_text(key): Decision(Choice(choice), version) for key, choice, version in rows}
        except (sqlite3.Error, ValueError, KeyError, TypeError) as exc:
            raise self._corrupt(exc) from exc

    def decide(self, key: str, decision: Decision) -> None:
        row = (_raw(key), decision.choice.value, decision.version)
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO decision VALUES (?, ?, ?)", row)

    def steps(self, limit: int = 1000, since: float = 0.0) -> list[Step]:
        """What was changed, newest first; `since`: only later ones (seconds since the epoch)."""
        query = (
            "SELECT id, at, side, reasons, changes FROM step WHERE at > ? "
            "ORDER BY number DESC LIMIT ?"
        )
        try:
            return [
                Step(
                    id,
                    at,
                    side,
                    tuple(json.loads(reasons)),
                    tuple(unpack_changes(zlib.decompress(blob))),
                )
                for id, at, side, reasons, blob in self._connection.execute(query, (since, limit))
            ]
        except (sqlite3.Error, zlib.error, Malformed, ValueError) as exc:
            raise self._corrupt(exc) from exc

    def drop_steps(self, before: float) -> None:
        """Forget steps older than `before` (seconds since the epoch)."""
        with self._transaction():
            self._connection.execute("DELETE FROM step WHERE at < ?", (before,))

    def _open(self) -> None:
        new = not self.path.exists()
        self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        run = self._connection.execute
        run("PRAGMA busy_timeout = 5000")
        if new or run("PRAGMA schema_version").fetchone()[0] == 0:
            if self._used and not new:
                raise sqlite3.DatabaseError("it is empty")
            self._create()
        application = run("PRAGMA application_id").fetchone()[0]
        if application != APPLICATION:
            raise sqlite3.DatabaseError("it is not a database of remotedl's sync")
        version = self._migrated(run("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA:
            message = f"{self.path} was written by a newer version of remotedl (schema {version})"
            raise ConfigError(message, hint="pip install --upgrade remotedl")
        if version != SCHEMA:
            raise sqlite3.DatabaseError(f"its version is {version}, and {SCHEMA} is expected")
        run("PRAGMA synchronous = NORMAL")
        if not self._get("clean"):
            self._check()
        self._set("clean", False)
        self._since_base = run("SELECT count(*) FROM ancestor").fetchone()[0]

    def _create(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        statements = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"
        self._connection.executescript(
            "BEGIN;" + _TABLES + _BATCH + _ARRIVED + statements + "COMMIT;"
        )
        self._set("clean", True)

    def _migrated(self, version: int) -> int:
        """An older database is brought up to date; the version that it has now."""
        while version in _MIGRATIONS:
            statements = f"{_MIGRATIONS[version]} PRAGMA user_version = {version + 1};"
            self._connection.executescript(f"BEGIN IMMEDIATE; {statements} COMMIT;")
            version += 1
        return version

    def _check(self) -> None:
        """The last session did not end in order: see whether all pages hang together."""
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(str(found))

    def _rows(self, table: str) -> Iterator[tuple[str, Entry | None]]:
        query = f"SELECT key, kind, digest, size, executable, target FROM {table}"  # noqa: S608
        try:
            for key, kind, digest, size, executable, target in self._connection.execute(query):
                yield _text(key), _entry(kind, digest, size, executable, target)
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as exc:
            raise self._corrupt(exc) from exc

    def _add_step(self, step: Step) -> None:
        blob = zlib.compress(pack_changes(step.changes), 1)
        row = (step.id, step.at, step.side, len(step.changes), json.dumps(step.reasons), blob)
        self._connection.execute(
            "INSERT INTO step (id, at, side, count, reasons, changes) VALUES (?, ?, ?, ?, ?, ?)",
            row,
        )

    def _get(self, name: str) -> Any:
        query = "SELECT value FROM meta WHERE name = ?"
        try:
            row = self._connection.execute(query, (name,)).fetchone()
            return None if row is None else json.loads(row[0])
        except (sqlite3.Error, ValueError) as exc:
            raise self._corrupt(exc) from exc

    def _set(self, name: str, value: Any) -> None:
        row = (name, json.dumps(value))
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    def _transaction(self) -> _Transaction:
        return _Transaction(self)

    def _translated(self, exc: sqlite3.Error) -> StateCorrupt | FolderUnusable:
        code = getattr(exc, "sqlite_errorname", "")
        if code.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_BUSY")):
            return FolderUnusable(
                f"{self.path} cannot be written: {exc}", hint=f"df -h '{self.path.parent}'"
            )
        return self._corrupt(exc)

    def _corrupt(self, exc: Exception) -> StateCorrupt:
        message = f"the record of what both sides agreed on is damaged ({self.path}): {exc}"
        return StateCorrupt(message, hint=_HINT.format(path=self.path))


def arrived_in(path: Path) -> dict[str, bytes]:
    """The last content that the host gave each path, whatever was made of it here since.

    Of a database that somebody else may have open. Raises StateCorrupt.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] < SCHEMA:
                return {}
            rows = connection.execute("SELECT key, digest FROM arrived").fetchall()
        finally:
            connection.close()
        return {_text(key): bytes(digest) for key, digest in rows}
    except (sqlite3.Error, ValueError, TypeError, AttributeError) as exc:
        message = f"the record of what came from the host is damaged ({path}): {exc}"
        raise StateCorrupt(message, hint=_HINT.format(path=path)) from exc


class _Transaction:
    """All of it or nothing; SQLite's errors are translated at this border."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._run("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if exc is None:
            self._run("COMMIT")
            return
        self._run("ROLLBACK")
        if isinstance(exc, sqlite3.Error):
            raise self._database._translated(exc) from exc

    def _run(self, statement: str) -> None:
        try:
            self._database._connection.execute(statement)
        except sqlite3.Error as exc:
            raise self._database._translated(exc) from exc


def _packed(rows: Rows) -> bytes:
    return pack_entries(rows) if rows else b""


def _raw(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _row(key: str, entry: Entry | None) -> tuple[bytes, int, bytes | None, int, bool, bytes | None]:
    if entry is None:
        return _raw(key), _ABSENT, None, 0, False, None
    target = None if entry.target is None else _raw(entry.target)
    return _raw(key), _KINDS[entry.kind], entry.digest, entry.size, entry.executable, target


def _entry(
    kind: int, digest: bytes | None, size: int, executable: int, target: bytes | None
) -> Entry | None:
    """Raises ValueError for a row that cannot be."""
    if kind == 1 and digest is not None and len(digest) == 32:
        return Entry(Kind.FILE, digest, size, bool(executable))
    if kind == 2:
        return DIR
    if kind == 3 and target is not None:
        return Entry(Kind.LINK, target=_text(target))
    if kind == _ABSENT:
        return None
    raise ValueError(f"a row of kind {kind}")
