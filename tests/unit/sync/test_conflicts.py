"""What a conflict shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remotedl.sync.agent.tree import DIR, Entry
from remotedl.sync.conflicts import (
    LIMIT,
    How,
    compare,
    describe,
    diff_notebooks,
    diff_texts,
    is_comparable,
)
from remotedl.sync.verdict import Conflict, ConflictKind
from tests.unit.sync.worlds import file, link


def conflict(key: str, laptop: Entry | None = None, remote: Entry | None = None) -> Conflict:
    sides = laptop or file("1"), remote or file("2")
    return Conflict(key, None, *sides, ConflictKind.BOTH_NEW, "")


def cell(source: str, id: str = "", **more: Any) -> dict[str, Any]:
    found = {"cell_type": "code", "source": source.splitlines(True), "metadata": {}, **more}
    return {**found, "id": id} if id else found


def notebook(*cells: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": cells, **more}).encode()


def test_text_line_by_line() -> None:
    assert diff_texts(b"a\nb\nc\n", b"a\nB\nc\n") == [
        "--- laptop",
        "+++ host",
        "@@ -1,3 +1,3 @@",
        " a",
        "-b",
        "+B",
        " c",
    ]


def test_text_that_differs_in_line_ends_only() -> None:
    assert diff_texts(b"a\r\nb\r\n", b"a\nb\n") == ["only line ends differ"]


@pytest.mark.parametrize("raw", [b"\x00\x01", b"\xff\xfe"])
def test_what_is_no_text_is_described(raw: bytes) -> None:
    assert diff_texts(raw, b"a") is None
    found = compare(conflict("a.bin"), raw, b"a")
    assert found.how is How.NOT_COMPARED
    assert [line.partition(":")[0] for line in found.lines] == ["laptop", "host"]


def test_notebook_cell_by_cell_by_id() -> None:
    laptop = notebook(cell("a = 1", "one"), cell("b = 2\nc = 3", "two"), cell("gone", "three"))
    host = notebook(cell("new", "four"), cell("a = 1", "one"), cell("b = 2\nc = 4", "two"))
    assert diff_notebooks(laptop, host) == [
        "@@ code cell 1, on the host only @@",
        "+new",
        "@@ code cell 2 @@",
        " b = 2",
        "-c = 3",
        "+c = 4",
        "@@ code cell 3, on the laptop only @@",
        "-gone",
    ]


def test_notebook_without_ids_is_aligned_by_source() -> None:
    laptop = notebook(cell("a"), cell("b"), cell("c"))
    assert diff_notebooks(laptop, notebook(cell("a"), cell("B"), cell("c"), cell("d"))) == [
        "@@ code cell 2 @@",
        "-b",
        "+B",
        "@@ code cell 4, on the host only @@",
        "+d",
    ]


def test_notebook_run_again_differs_in_outputs_not_in_counts() -> None:
    out = {"output_type": "stream", "name": "stdout", "text": "1"}
    same = notebook(cell("a", "x", outputs=[{**out, "execution_count": 1}], execution_count=1))
    again = notebook(cell("a", "x", outputs=[{**out, "execution_count": 9}], execution_count=9))
    other = notebook(cell("a", "x", outputs=[{**out, "text": "2"}]))
    assert diff_notebooks(same, again) == ["only metadata differs"]
    assert diff_notebooks(same, other) == ["@@ code cell 1 @@", " (outputs differ)"]


def test_notebook_whose_cell_became_markdown() -> None:
    lines = diff_notebooks(
        notebook(cell("a", "x")), notebook({**cell("a", "x"), "cell_type": "raw"})
    )
    assert lines == ["@@ code cell 1 @@", " (a code cell on the laptop, a raw cell on the host)"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"nbformat": 3, "cells": []}', b'{"nbformat": 4, "cells": [1]}']
)
def test_a_broken_notebook_is_compared_as_text(raw: bytes) -> None:
    assert diff_notebooks(raw, notebook()) is None
    assert compare(conflict("a.ipynb"), raw, notebook()).how is How.TEXT


def test_a_notebook_is_compared_as_one() -> None:
    found = compare(conflict("a.ipynb"), notebook(cell("a", "x")), notebook(cell("b", "x")))
    assert found.how is How.NOTEBOOK and "+b" in found.lines


@pytest.mark.parametrize(
    "entry, text",
    [
        (DIR, "a folder"),
        (link("../x"), "a link to ../x"),
        (file("1"), "a file of 1 bytes, sha256 6b86b273…"),
    ],
)
def test_each_kind_is_described(entry: Entry, text: str) -> None:
    assert describe(entry) == text
    assert compare(conflict("a", laptop=entry), None, b"x").lines[0] == f"laptop: {text}"


def test_what_is_worth_fetching() -> None:
    assert is_comparable(conflict("a"))
    assert not is_comparable(conflict("a", laptop=DIR))
    assert not is_comparable(conflict("a", remote=file("1", size=LIMIT + 1)))
