"""Merges what two sides made of one document: text by lines, words and edges, notebooks by cells.

Pure: three versions go in (what both started from, ours, theirs), one comes out, and whether all
that is theirs is in it. What is ours always is. Nothing is read, written or shown here.

Decision: merge3 finds the regions (bzr's algorithm, kept by its author), of lines, then of the
words in a region that both changed, then of ids for the order of cells. Alternative: nbdime. It
matches cells as well, but merges their text by lines only: a word typed at the end of a cell and
a line added below it are a conflict there, with markers in the text.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from merge3 import Merge3

WORDS = re.compile(r"\n|[^\S\n]+|\w+|[^\w\s]")
EXACT_BELOW = 2000
"""So many elements are compared to the last one; what is longer, roughly where it repeats."""

Cell = dict[str, Any]
Notebook = dict[str, Any]


class Merged(NamedTuple):
    content: Any
    """A text or a notebook."""
    whole: bool
    """All that the other side wrote is in it; else that version has to be kept elsewhere."""


class Edit(NamedTuple):
    """Replaces `start`:`end` (characters) by `text`."""

    start: int
    end: int
    text: str


# --- text


def merge_text(base: str, ours: str, theirs: str) -> Merged:
    """Where both changed the same words differently, ours stays and `whole` is false."""
    if theirs in (base, ours):
        return Merged(ours, True)
    if ours == base:
        return Merged(theirs, True)
    lines, whole = _merge(base.split("\n"), ours.split("\n"), theirs.split("\n"), _lines_of_both)
    text = "\n".join(lines)
    if _new_words(base, ours) - _words_in(text):
        return Merged(ours, False)
    return Merged(text, whole and not _new_words(base, theirs) - _words_in(text))


def _new_words(base: str, now: str) -> Counter[str]:
    return _words_in(now) - _words_in(base)


def _words_in(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def edits(before: str, after: str) -> list[Edit]:
    """What makes `after` of `before`, the last place first, so that places stay valid."""
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    if not old or not new:
        return [Edit(head, head + len(old), new)] if old or new else []
    olds, news = WORDS.findall(old), WORDS.findall(new)
    at = [head]
    for word in olds:
        at.append(at[-1] + len(word))
    found = [
        Edit(at[i], at[j], "".join(news[k:n]))
        for tag, i, j, k, n in _Matcher(None, olds, news).get_opcodes()
        if tag != "equal"
    ]
    return found[::-1]


class _Matcher(SequenceMatcher):  # type: ignore[type-arg]
    def __init__(self, junk: None, a: Sequence[str], b: Sequence[str]) -> None:
        super().__init__(junk, a, b, autojunk=len(a) + len(b) > EXACT_BELOW)


_Both = Callable[[list[str], list[str], list[str]], "tuple[list[str], bool]"]


def _merge(
    base: list[str], ours: list[str], theirs: list[str], both: _Both
) -> tuple[list[str], bool]:
    """`both` settles a region that both changed."""
    head = min(_common(base, ours), _common(base, theirs))
    cut = [part[head:] for part in (base, ours, theirs)]
    ends = [part[::-1] for part in cut]
    tail = min(_common(ends[0], ends[1]), _common(ends[0], ends[2]))
    middle = [part[: len(part) - tail] for part in cut]
    merged, whole = list(base[:head]), True
    for kind, *parts in Merge3(*middle, sequence_matcher=_Matcher).merge_groups():
        if kind == "conflict":
            settled, all_in = both(*(list(part) for part in parts))
            merged += settled
            whole = whole and all_in
        else:
            merged += parts[0]
    return merged + base[len(base) - tail :], whole


def _lines_of_both(base: list[str], ours: list[str], theirs: list[str]) -> tuple[list[str], bool]:
    if not theirs:
        return ours, True  # an edit outlives a delete
    if not base:
        return (ours if _holds(ours, theirs) else ours + theirs), True
    if not ours:
        return ours, False
    words = (WORDS.findall("\n".join(part)) for part in (base, ours, theirs))
    merged, whole = _merge(*words, _words_of_both)
    if not whole and not any(base):  # an empty line that both filled
        return ours + theirs, True
    return "".join(merged).split("\n"), whole


def _words_of_both(base: list[str], ours: list[str], theirs: list[str]) -> tuple[list[str], bool]:
    text = _at_the_edges("".join(base), "".join(ours), "".join(theirs))
    return (ours, False) if text is None else ([text], True)


def _at_the_edges(base: str, ours: str, theirs: str) -> str | None:
    """Both changed this piece: one in it, the other only before or behind it. None: a conflict."""
    if not theirs:
        return ours
    if ours.startswith(base) and theirs.startswith(base):
        added = _at_one_place(ours[len(base) :], theirs[len(base) :])
        return None if added is None else base + added
    if ours.endswith(base) and theirs.endswith(base):
        cut = len(base)
        added = _at_one_place(ours[:-cut], theirs[:-cut])
        return None if added is None else added + base
    for one, other in ((ours, theirs), (theirs, ours)):
        if other.startswith(base) and _apart(one, other[len(base) :]):
            return one + other[len(base) :]
        if other.endswith(base) and _apart(other[: -len(base)], one):
            return other[: -len(base)] + one
    return None


def _at_one_place(ours: str, theirs: str) -> str | None:
    """Both put something in at the same place: whole lines of one stay apart from the other's."""
    words = WORDS.findall(ours), WORDS.findall(theirs)
    if _holds(*words):
        return ours
    if _holds(*words[::-1]):
        return theirs
    if theirs.startswith("\n") or ours.endswith("\n"):
        return ours + theirs
    if theirs.endswith("\n") or ours.startswith("\n"):
        return theirs + ours
    return None


def _apart(left: str, right: str) -> bool:
    """No new word comes about where the two meet."""
    return not (left and right and re.match(r"\w", left[-1]) and re.match(r"\w", right[0]))


def _holds(ours: list[str], theirs: list[str]) -> bool:
    size = len(theirs)
    return any(ours[at : at + size] == theirs for at in range(len(ours) - size + 1))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many elements both begin with."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


# --- notebooks


def merge_notebook(
    base: Notebook, ours: Notebook, theirs: Notebook, running: Collection[str] = ()
) -> Merged:
    """Cells by id: all three must have been through `plain`. A running cell is never taken out."""
    before, here, there = _by_id(base), _by_id(ours), _by_id(theirs)
    cells: dict[str, Cell] = {}
    whole = True
    for key, cell in here.items():
        if key in there:
            cells[key], all_in = _merge_cell(before.get(key), cell, there[key])
            whole = whole and all_in
        elif key not in before or key in running or not _alike(cell, before[key]):
            cells[key] = cell
    for key, cell in there.items():
        if key in here:
            continue
        if key not in before:
            cells[key] = cell
        elif not _alike(cell, before[key]):
            whole = False  # taken out here, edited there
    order = _order(list(before), list(here), list(there), cells, bool(running))
    merged = {
        **{key: _newer(base.get(key), ours[key], theirs.get(key)) for key in ours},
        "metadata": _merge_keys(*(nb.get("metadata", {}) for nb in (base, ours, theirs))),
        "cells": [cells[key] for key in order],
    }
    return Merged(merged, whole)


def plain(notebook: Notebook, like: Notebook | None = None) -> Notebook:
    """Of dicts, lists and whole strings; every cell with an id of its own.

    Older formats have no ids: a cell gets that of the same cell in `like`. Whether a cell is
    trusted is known to the server alone, and is no part of what is merged.
    """
    found: Notebook = json.loads(json.dumps(notebook))
    for cell in found["cells"]:
        if isinstance(cell["source"], list):
            cell["source"] = "".join(cell["source"])
        cell.setdefault("metadata", {}).pop("trusted", None)
    if like is not None and not all(cell.get("id") for cell in found["cells"]):
        _take_ids(found["cells"], like["cells"])
    seen: set[str] = set()
    for cell in found["cells"]:
        if not cell.get("id") or cell["id"] in seen:
            cell["id"] = str(uuid.uuid4())
        seen.add(cell["id"])
    return found


def _take_ids(cells: list[Cell], like: list[Cell]) -> None:
    def shown(all_of: list[Cell]) -> list[tuple[str, str]]:
        return [(cell["cell_type"], cell["source"]) for cell in all_of]

    matcher = SequenceMatcher(None, shown(like), shown(cells), autojunk=False)
    for tag, i, j, k, n in matcher.get_opcodes():
        if tag == "equal" or (tag == "replace" and j - i == n - k):
            for old, new in zip(like[i:j], cells[k:n], strict=True):
                new["id"] = old["id"]


def _merge_cell(base: Cell | None, ours: Cell, theirs: Cell) -> tuple[Cell, bool]:
    source, whole = merge_text(base["source"] if base else "", ours["source"], theirs["source"])
    if base is None:
        return {**ours, "source": source}, whole
    if ours["cell_type"] != theirs["cell_type"]:
        kept = _newer(base["cell_type"], ours["cell_type"], theirs["cell_type"])
        one = ours if kept == ours["cell_type"] else theirs
        return {**one, "source": source}, whole
    merged = {}
    for key in {**ours, **theirs}:
        one = theirs if ours.get(key) == base.get(key) else ours
        if key in one:
            merged[key] = one[key]
    merged["metadata"] = _merge_keys(base["metadata"], ours["metadata"], theirs["metadata"])
    merged["source"] = source
    printed = [cell.get("outputs") for cell in (base, ours, theirs)]
    if printed[2] and printed[2] not in printed[:2] and printed[1] != printed[0]:
        whole = False  # ran on both sides
    return merged, whole


def _newer(base: Any, ours: Any, theirs: Any) -> Any:
    return theirs if ours == base else ours


def _merge_keys(base: Cell, ours: Cell, theirs: Cell) -> Cell:
    merged = {}
    for key in {**ours, **theirs}:
        value = _newer(base.get(key), ours.get(key), theirs.get(key))
        if value is not None:
            merged[key] = value
    return merged


def _alike(one: Cell, other: Cell) -> bool:
    """Nothing in it was edited or printed since."""
    keys = ("cell_type", "source", "outputs", "attachments")
    return all(one.get(key) == other.get(key) for key in keys)


def _order(
    before: list[str], here: list[str], there: list[str], cells: Collection[str], runs: bool
) -> list[str]:
    """Ours, unless only they moved cells; new ones behind the cell that they stood behind.

    A cell is moved by making it anew: not while one `runs`.
    """
    in_all = {key for key in before if key in here and key in there and key in cells}

    def moved(order: list[str]) -> bool:
        return [key for key in order if key in in_all] != [key for key in before if key in in_all]

    ours = [key for key in here if key in cells]
    theirs = [key for key in there if key in cells]
    if moved(theirs) and not moved(ours) and not runs:
        ours, theirs = theirs, ours
    return _weave(ours, theirs)


def _weave(order: list[str], other: list[str]) -> list[str]:
    """What only `other` has goes behind what it stands behind there."""
    woven, last = list(order), None
    for key in other:
        if key not in woven:
            woven.insert(0 if last is None else woven.index(last) + 1, key)
        last = key
    return woven


def _by_id(notebook: Notebook) -> dict[str, Cell]:
    return {cell["id"]: cell for cell in notebook["cells"]}


# --- which version the other side started from


Lines = Counter[Any]


def lines_of(content: str | Notebook) -> Lines:
    """What tells one version from another."""
    if isinstance(content, str):
        return Counter(content.split("\n"))
    lines: Lines = Counter()
    for cell in content["cells"]:
        lines.update((cell["id"], line) for line in cell["source"].split("\n"))
        lines[cell["id"], "outputs", json.dumps(cell.get("outputs"), sort_keys=True)] += 1
    return lines


def nearest(versions: Iterable[Lines], theirs: Lines) -> int:
    """The number of the version that `theirs` was made from.

    Who writes a file read it a moment before, and this room may have saved since: with the last
    version as base, what was typed in between would count as taken out by the other side. Every
    word that came or went since the true base only adds to the distance. Of equals the earliest:
    what then counts as ours stays.
    """
    distances = [_distance(version, theirs) for version in versions]
    return distances.index(min(distances))


def _distance(one: Lines, other: Lines) -> tuple[int, int]:
    only, missing = one - other, other - one
    words, others = _words_of(only), _words_of(missing)
    return only.total() + missing.total(), ((words - others) + (others - words)).total()


def _words_of(lines: Lines) -> Counter[str]:
    texts = (line if isinstance(line, str) else line[-1] for line in lines.elements())
    return Counter(word for text in texts for word in WORDS.findall(text))
