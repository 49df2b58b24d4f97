"""Fixtures of the sync's tests on real files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab_tests.sync.folders import Folders

MakeFolders = Callable[..., Folders]

MEMORY = Path("/dev/shm")
"""Where there is one, tests run in memory: an fsync on a shared disk takes 0.1 s."""


@pytest.fixture
def make_folders() -> Iterator[MakeFolders]:
    """`make_folders(remote=…)`: further pairs of folders, closed at the end."""
    made: list[Folders] = []
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(
        prefix="remotedl-sync-", dir=place, ignore_cleanup_errors=True
    ) as name:

        def make(**options: Any) -> Folders:
            folders = Folders(Path(name) / str(len(made)), **options)
            made.append(folders)
            return folders

        yield make
        for folders in made:
            folders.close()


@pytest.fixture
def folders(make_folders: MakeFolders) -> Folders:
    """Two empty folders; the agent runs in a thread."""
    return make_folders()
