"""The short form of `make soak`'s cuts: benchmarks/soak_session.py, eight of its thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak_session import soak


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_eight_random_cuts_lose_nothing_and_leave_nothing_behind(tmp_path: Path) -> None:
    told = soak(8, 7, tmp_path)
    assert told.wrong == []
    assert sum(told.cuts.values()) == 8
