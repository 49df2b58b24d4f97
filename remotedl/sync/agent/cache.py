"""The picture of a root kept between sessions, so that unchanged files are not read again.

It can only save work: what is damaged, of another version or of another folder is not used, and
every stat record in it is compared with the disk before its digest is believed. After a crash of
the machine, files written shortly before the picture was saved are read again: what they held
may never have reached the disk.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from remotedl.sync.agent import packed, protocol
from remotedl.sync.agent.disk import At, Disk, read_small, write_small
from remotedl.sync.agent.folder import Folder
from remotedl.sync.agent.scan import STAMP, Scanner
from remotedl.sync.agent.tree import DIR, Entry

CACHE = "cache"
TEMPORARY = "cache.new"
VERSION = 2
LIMIT = 1 << 30
UNFLUSHED_NS = 120_000_000_000
"""What is older than this when the machine goes down is on the disk."""
_NONE = b"\0" * STAMP.size
_LENGTH = struct.Struct(">II")


class Saved(NamedTuple):
    """What was kept beside the picture."""

    boot: str
    notes: Dict[str, Any]
    """The agent's generations, the time of saving."""


def save(scanner: Scanner, boot: str, notes: Dict[str, Any]) -> None:
    """Write the picture. Raises OSError."""
    rows: List[Tuple[str, Optional[Entry]]] = list(scanner.tree.items())
    stamps = scanner.stamps
    again = scanner.again
    table = protocol.pack_entries(rows)
    column = b"".join(_NONE if key in again else stamps.get(key, _NONE) for key, _ in rows)
    head = protocol.pack_json(
        {
            "version": VERSION,
            "boot": boot,
            "saved": scanner.now_ns(),
            "root": list(scanner.folder.identity),
            "spelling": scanner.spelling,
            "rules": scanner.ignore.fingerprint,
            "notes": notes,
        }
    )
    body = _LENGTH.pack(len(head), len(table)) + head + table + column
    at = scanner.folder.own()
    try:
        data = hashlib.sha256(body).digest() + body
        write_small(scanner.disk, CACHE, data, at, TEMPORARY)
    finally:
        scanner.disk.close_dir(at)


def load(scanner: Scanner, boot: str) -> Optional[Saved]:
    """Fill an empty picture with the saved one; None where there is none to be used."""
    body = _read(scanner.folder, scanner.disk)
    if body is None:
        return None
    try:
        head_size, table_size = _LENGTH.unpack_from(body)
        at = _LENGTH.size
        head = protocol.unpack_json(body[at : at + head_size])
        at += head_size
        table, column = body[at : at + table_size], body[at + table_size :]
        rows = protocol.count_rows(table)
        if head["version"] != VERSION or len(column) != STAMP.size * rows:
            return None
        if head["root"] != list(scanner.folder.identity):
            return None
        if head["rules"] != scanner.ignore.fingerprint:
            return None
        saved_ns, saved_boot = int(head["saved"]), str(head["boot"])
        spelling, notes = dict(head["spelling"]), dict(head["notes"])
        if rows >= packed.FROM:
            scanner.tree, scanner.stamps = packed.unpack(table, column, STAMP.size)
            _note_unknown(scanner)
        else:
            _fill(scanner, protocol.unpack_entries(table), column)
    except (struct.error, ValueError, KeyError, TypeError):
        return None
    scanner.spelling.update(spelling)
    if not boot or saved_boot != boot:
        _doubt(scanner, saved_ns)
    return Saved(saved_boot, notes)


def _read(folder: Folder, disk: Disk) -> Optional[bytes]:
    try:
        at: At = folder.own()
    except OSError:
        return None
    try:
        data = read_small(disk, CACHE, at, LIMIT)
    except OSError:
        return None
    finally:
        disk.close_dir(at)
    body = data[32:]
    return body if hashlib.sha256(body).digest() == data[:32] else None


def _fill(scanner: Scanner, rows: List[Tuple[str, Optional[Entry]]], column: bytes) -> None:
    tree, stamps, again = scanner.tree, scanner.stamps, scanner.again
    size = STAMP.size
    for (key, entry), at in zip(rows, range(0, len(column), size)):
        if entry is None:
            continue
        tree[key] = entry
        if entry is DIR:
            continue
        stamp = column[at : at + size]
        if stamp == _NONE:
            again[key] = 0
        else:
            stamps[key] = stamp


def _note_unknown(scanner: Scanner) -> None:
    """What has no stamp has to be looked at again."""
    if len(scanner.stamps) < packed.count_files(scanner.tree):
        for key, entry in scanner.tree.items():
            if entry != DIR and key not in scanner.stamps:
                scanner.again[key] = 0


def _doubt(scanner: Scanner, saved_ns: int) -> None:
    """The machine went down since: trust no file that may not have been flushed before."""
    for key, stamp in scanner.stamps.items():
        _, _, _, mtime, ctime, _ = STAMP.unpack(stamp)
        if max(int(mtime), int(ctime)) > saved_ns - UNFLUSHED_NS:
            scanner.again[key] = 0
