"""A short soak, as `make soak` runs it for minutes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.soak import soak

SECONDS = 12.0


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_soak() -> None:
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as base:
        told = soak(SECONDS, seed=7, base=Path(base))
    assert told.lost == []
    assert told.unequal == []
    assert told.checked > 50
    assert told.acts["type_words"] > 5
    assert told.acts["rewrite_what_is_typed"] > 2
    assert sum(told.acts[name] for name in ("kill_laptop", "kill_agent", "cut", "freeze")) > 0
