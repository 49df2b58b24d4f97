"""Conflicts beside each other: text by lines, notebooks by cells."""

from __future__ import annotations

import json
from typing import Any

from remotedl.session.diffs import LARGEST, diff, notebook_lines


def notebook(*sources: str, count: int = 1) -> bytes:
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "execution_count": count,
            "metadata": {"run": count},
            "source": source.splitlines(keepends=True),
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["out\n"]}],
        }
        for number, source in enumerate(sources)
    ]
    return json.dumps({"cells": cells, "nbformat": 4}).encode()


def test_text_is_compared_line_by_line() -> None:
    found = diff("a.py", b"one\ntwo\n", b"one\n2\n")
    assert "--- a.py (laptop)" in found
    assert "-two" in found
    assert "+2" in found


def test_a_notebook_that_was_only_run_again_shows_no_difference() -> None:
    assert diff("n.ipynb", notebook("x = 1"), notebook("x = 1", count=9)) == ""


def test_a_notebook_shows_the_cell_that_differs_and_not_its_json() -> None:
    found = diff("n.ipynb", notebook("x = 1", "y = 2"), notebook("x = 1", "y = 3"))
    assert "-y = 2" in found
    assert "+y = 3" in found
    assert "[code c1]" in found
    assert "execution_count" not in found


def test_a_broken_notebook_is_compared_as_text() -> None:
    assert notebook_lines("{") is None
    assert "+{}" in diff("n.ipynb", b"{", b"{}")


def test_binary_and_big_files_are_named_by_size() -> None:
    assert "not text" in diff("m.bin", b"\0\1", b"\0")
    assert "too big" in diff("m.txt", b"x" * (LARGEST + 1), b"")
