"""Files that a program keeps open: logs are followed while they grow, everything else waits."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remotedl.sync.agent.tree import Issue
from tests.lab_tests.sync.folders import Folders, eventually, settled, trash

MB = 1 << 20
BEHIND_S = 5.0


class Writer:
    """Appends to files twice a second and keeps them open."""

    def __init__(self, *paths: Path) -> None:
        self._files = [path.open("ab") for path in paths]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            for file in self._files:
                file.write(b"%.3f step\n" % time.monotonic())
                file.flush()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for file in self._files:
            file.close()


@pytest.fixture
def write() -> Iterator[Callable[..., Writer]]:
    made: list[Writer] = []

    def start(*paths: Path) -> Writer:
        made.append(Writer(*paths))
        return made[-1]

    yield start
    for writer in made:
        writer.close()


def lag(copy: Path) -> float:
    """How old the last line that has arrived is."""
    if not copy.exists():
        return float("inf")
    with copy.open("rb") as file:
        file.seek(max(0, copy.stat().st_size - 100))
        said = re.findall(rb"([\d.]+) step\n", file.read())
    return time.monotonic() - float(said[-1]) if said else float("inf")


@pytest.mark.timeout(90)
@pytest.mark.parametrize("side", ["host", "laptop"])
def test_logs_that_stay_open_are_followed_within_seconds(
    folders: Folders, write: Callable[..., Writer], side: str
) -> None:
    live = folders.live()
    here, there = folders.host, folders.laptop
    if side == "laptop":
        here, there = there, here
    sizes = {"small.log": 0, "big.log": 3 * MB, "events.out.tfevents.1": 2 * MB, "huge": 20 * MB}
    for name, size in sizes.items():
        (here / name).write_bytes(os.urandom(size))
    writer = write(*(here / name for name in sizes))
    eventually(lambda: all(lag(there / name) < BEHIND_S for name in sizes), 15)
    began = time.monotonic()
    worst = 0.0
    while time.monotonic() - began < 8:
        worst = max(worst, *(lag(there / name) for name in sizes))
        time.sleep(0.2)
    assert worst < BEHIND_S
    # The version that was sent before anybody knew that it is a log may be in there.
    assert sum(map(len, trash(there))) < 30 * MB
    writer.close()
    settled(live)
    for name in sizes:
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert live.status().conflicts == ()


@pytest.mark.timeout(60)
def test_a_file_that_changes_in_the_middle_waits_and_it_is_said_since_when(
    folders: Folders,
) -> None:
    live = folders.live()
    data = folders.host / "data.bin"
    began = time.time()
    with data.open("wb") as file:
        for number in range(12):
            file.seek(0)
            file.write(os.urandom(2 * MB + number * 1000))
            file.flush()
            time.sleep(0.4)
        status = live.status()
        assert {item.key: item.issue for item in status.frozen} == {"data.bin": Issue.UNSTABLE}
        assert not (folders.laptop / "data.bin").exists()
        (since,) = status.since.values()
        assert began <= since <= began + 4
    eventually(lambda: (folders.laptop / "data.bin").exists())
    settled(live)
    assert live.status().since == {}
    folders.assert_equal()
