"""What differs in a conflict: text line by line, notebooks cell by cell. Pure.

Reads nothing: whoever asks hands in both versions' bytes. The laptop's version is "-", the
host's is "+".

Decision: a cell differ of our own, by the ids that nbformat 4.5 gives to cells. Alternative:
nbdime. Reason: it brings Jupyter's server, tornado and GitPython onto a laptop that needs none of
them, and of its diff we would show sources and whether outputs differ, no more.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from remotedl.sync.agent.digest import FROM
from remotedl.sync.agent.tree import Entry, Kind
from remotedl.sync.verdict import Conflict

LIMIT = 1 << 20
"""Bytes of a version that is compared; bigger ones are only described."""
CONTEXT = 3
LAPTOP, HOST = "laptop", "host"


class How(StrEnum):
    """How the two versions were compared."""

    TEXT = "text"
    NOTEBOOK = "notebook"
    NOT_COMPARED = "not compared"
    """Binary, too big, gone by now, or not both files: `lines` says what each side has."""


class Comparison(NamedTuple):
    """A conflict and what differs."""

    key: str
    how: How
    lines: tuple[str, ...]
    version: str = ""
    """Of the conflict: what was looked at."""


class Part(NamedTuple):
    """One path of what is held back, on both sides; None where there is nothing."""

    key: str
    laptop: Entry | None
    remote: Entry | None
    laptop_bytes: bytes | None = None
    """Of a file; None where it is not to be had."""
    remote_bytes: bytes | None = None


def compare_held(conflict: Conflict, parts: Sequence[Part]) -> Comparison:
    """Every line that would come, path by path, notebooks too: nothing is left to trust."""
    lines: list[str] = []
    for part in parts:
        lines += _part_lines(part)
    return Comparison(conflict.key, How.TEXT, tuple(lines), conflict.version)


def compare(conflict: Conflict, laptop: bytes | None, remote: bytes | None) -> Comparison:
    """`laptop`, `remote`: the versions' bytes, None where they are not to be had."""
    if laptop is not None and remote is not None:
        if conflict.key.endswith(".ipynb"):
            cells = diff_notebooks(laptop, remote)
            if cells is not None:
                return Comparison(conflict.key, How.NOTEBOOK, tuple(cells), conflict.version)
        text = diff_texts(laptop, remote)
        if text is not None:
            return Comparison(conflict.key, How.TEXT, tuple(text), conflict.version)
    lines = (
        f"{LAPTOP}: {describe(conflict.laptop)}",
        f"{HOST}: {describe(conflict.remote)}",
    )
    return Comparison(conflict.key, How.NOT_COMPARED, lines, conflict.version)


def is_comparable(conflict: Conflict) -> bool:
    """Whether it is worth fetching both versions."""
    return all(
        entry is not None and is_readable(entry) for entry in (conflict.laptop, conflict.remote)
    )


def is_readable(entry: Entry) -> bool:
    """A file that is not too big to be shown."""
    return entry.kind is Kind.FILE and entry.size <= LIMIT


def describe(entry: Entry | None) -> str:
    """What stands on a side, in a few words."""
    if entry is None:
        return "nothing"
    if entry.kind is Kind.DIR:
        return "a folder"
    if entry.kind is Kind.LINK:
        return f"a link to {entry.target}"
    digest = (entry.digest or b"").hex()[:8]
    name = "sha256" if entry.size < FROM else "digest"
    return f"a file of {entry.size} bytes, {name} {digest}…"


def _part_lines(part: Part) -> list[str]:
    described = [
        f"--- {LAPTOP}: {part.key}: {describe(part.laptop)}{_x_bit(part.laptop)}",
        f"+++ {HOST}: {part.key}: {describe(part.remote)}{_x_bit(part.remote)}",
    ]
    raw = [
        b"" if entry is None or entry.kind is not Kind.FILE else data
        for entry, data in ((part.laptop, part.laptop_bytes), (part.remote, part.remote_bytes))
    ]
    if raw[0] is None or raw[1] is None:
        return [*described, " (not to be had, or too big to be shown)"]
    lines = diff_texts(raw[0], raw[1])
    return [*described, *([" (no text)"] if lines is None else lines[2:] or lines)]


def _x_bit(entry: Entry | None) -> str:
    return ", executable" if entry is not None and entry.executable else ""


def diff_texts(laptop: bytes, remote: bytes) -> list[str] | None:
    """A unified diff; None if one of them is no text."""
    texts = [_text(laptop), _text(remote)]
    if texts[0] is None or texts[1] is None:
        return None
    return _unified(texts[0], texts[1], [LAPTOP, HOST])


def diff_notebooks(laptop: bytes, remote: bytes) -> list[str] | None:
    """Cell by cell; None if one of them is no notebook of format 4."""
    cells = [_cells(laptop), _cells(remote)]
    if cells[0] is None or cells[1] is None:
        return None
    lines: list[str] = []
    for mine, theirs in _pairs(cells[0], cells[1]):
        lines += _cell_diff(mine, theirs)
    return lines or ["only metadata differs"]


class _Cell(NamedTuple):
    number: int
    """From 1, as Jupyter counts them from the top."""
    kind: str
    id: str
    source: str
    rest: str
    """Outputs and attachments, to see whether they differ. Not the execution count."""


def _cells(raw: bytes) -> list[_Cell] | None:
    try:
        notebook = json.loads(raw)
        if notebook["nbformat"] != 4:
            return None
        return [_cell(number, cell) for number, cell in enumerate(notebook["cells"], 1)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _cell(number: int, cell: dict[str, Any]) -> _Cell:
    source = cell["source"]
    outputs = [
        {name: value for name, value in output.items() if name != "execution_count"}
        for output in cell.get("outputs", [])
    ]
    rest = json.dumps([outputs, cell.get("attachments")], sort_keys=True)
    text = source if isinstance(source, str) else "".join(source)
    return _Cell(number, str(cell["cell_type"]), str(cell.get("id", "")), text, rest)


def _pairs(
    laptop: Sequence[_Cell], remote: Sequence[_Cell]
) -> Iterator[tuple[_Cell | None, _Cell | None]]:
    """Which cell of the one is which of the other, in the order of the laptop's notebook."""
    names = [_names(laptop), _names(remote)]
    matcher = difflib.SequenceMatcher(None, names[0], names[1], autojunk=False)
    for tag, low, high, other_low, other_high in matcher.get_opcodes():
        ours, theirs = laptop[low:high], remote[other_low:other_high]
        if tag == "equal" or (tag == "replace" and not _have_ids(ours, theirs)):
            shared = min(len(ours), len(theirs))
            yield from zip(ours[:shared], theirs[:shared], strict=True)
            ours, theirs = ours[shared:], theirs[shared:]
        yield from ((cell, None) for cell in ours)
        yield from ((None, cell) for cell in theirs)


def _names(cells: Sequence[_Cell]) -> list[str]:
    """What a cell is recognised by: its id; before nbformat 4.5, its source."""
    return [cell.id or f"{cell.kind} {cell.source}" for cell in cells]


def _have_ids(ours: Sequence[_Cell], theirs: Sequence[_Cell]) -> bool:
    return all(cell.id for cell in (*ours, *theirs))


def _cell_diff(mine: _Cell | None, theirs: _Cell | None) -> list[str]:
    if mine is None:
        assert theirs is not None
        head = f"@@ {theirs.kind} cell {theirs.number}, on the host only @@"
        return [head, *(f"+{line}" for line in theirs.source.splitlines())]
    if theirs is None:
        head = f"@@ {mine.kind} cell {mine.number}, on the laptop only @@"
        return [head, *(f"-{line}" for line in mine.source.splitlines())]
    body = _unified(mine.source, theirs.source, [])
    if mine.kind != theirs.kind:
        body.append(f" (a {mine.kind} cell on the laptop, a {theirs.kind} cell on the host)")
    if mine.rest != theirs.rest:
        body.append(" (outputs differ)")
    return [f"@@ {mine.kind} cell {mine.number} @@", *body] if body else []


def _text(raw: bytes) -> str | None:
    if b"\0" in raw:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _unified(laptop: str, remote: str, names: Sequence[str]) -> list[str]:
    """The lines of a unified diff; its head only where `names` are given."""
    one, other = laptop.splitlines(), remote.splitlines()
    start, end = names or ("", "")
    lines = list(difflib.unified_diff(one, other, start, end, lineterm="", n=CONTEXT))
    if not lines and laptop != remote:
        return ["only line ends differ"]
    return lines if names else [line for line in lines[2:] if not line.startswith("@@")]
