"""What is known to have changed and is not settled yet counts as pending, on either side."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from remotedl.sync.agent.disk import Disk
from remotedl.sync.engine import Sync
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import AgentInThread, eventually, settled

MANY = 3000


def fill(folder: Path) -> None:
    folder.mkdir()
    for number in range(MANY):
        (folder / f"f{number}").write_text(f"{number}" * 30)


class Watched:
    """Notes from the first event on, as often as it can, how many wait and how many have come."""

    def __init__(self, sync: Sync, there: Path) -> None:
        self.seen: list[tuple[int, int]] = []
        self._sync, self._there = sync, there
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            before = self._sync.status().pending
            self.seen.append((before, sum(1 for _ in self._there.glob("data/*"))))

    def end(self) -> list[tuple[int, int]]:
        self._stop.set()
        self._thread.join()
        return self.seen


class SlowDisk(Disk):
    """A disk on which looking takes long enough to be seen."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def read(self, fd: int, size: int) -> bytes:
        if "/data/" in os.readlink(f"/proc/self/fd/{fd}"):
            self.gate.wait(20)
        return super().read(fd, size)


@pytest.mark.parametrize("side", ["laptop", "host"])
def test_files_moved_in_are_pending_until_all_are_there(
    make_folders: MakeFolders, side: str
) -> None:
    folders = make_folders()
    sync = folders.live()
    settled(sync)
    here, there = (
        (folders.laptop, folders.host) if side == "laptop" else (folders.host, folders.laptop)
    )
    fill(folders.base / "data")
    watched = Watched(sync, there)
    (folders.base / "data").rename(here / "data")
    eventually(lambda: sum(1 for _ in there.glob("data/*")) == MANY, 60)
    eventually(lambda: sync.status().pending == 0)
    seen = watched.end()
    began = next(at for at, (pending, _) in enumerate(seen) if pending)
    wrong = [one for one in seen[began:] if one[0] == 0 and one[1] < MANY]
    assert not wrong, wrong[:5]
    assert max(pending for pending, _ in seen) > MANY / 2
    assert not any(arrived for _, arrived in seen[:began])
    assert sync.status().last_success is not None


def test_what_the_host_is_looking_at_is_no_success(make_folders: MakeFolders) -> None:
    """Read slowly there: nothing is told yet, and nothing is called equal."""
    disk = SlowDisk()
    folders = make_folders(remote=AgentInThread(disk))
    sync = folders.live()
    settled(sync)
    disk.gate.clear()
    fill(folders.base / "data")
    (folders.base / "data").rename(folders.host / "data")
    eventually(lambda: sync.status().pending > MANY / 2)
    before = sync.status().last_success
    assert sync.status().pending > MANY / 2
    disk.gate.set()
    eventually(lambda: sync.status().pending == 0, 60)
    eventually(lambda: (sync.status().last_success or 0) > (before or 0))
    folders.assert_equal()
