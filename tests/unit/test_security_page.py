"""docs/security.md promises what tests show: each one that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_every_test_that_is_named_exists() -> None:
    text = (TOP / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)`", text)
    assert len(named) > 5
    assert [name for name in named if not (TOP / name).is_file()] == []


def test_every_row_names_one() -> None:
    text = (TOP / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert [row[:40] for row in rows if "`tests/" not in row] == []
