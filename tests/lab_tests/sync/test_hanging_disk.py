"""The host's disk hangs: calls block and return no error, while the agent still answers pings."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from remotedl.errors import SyncPaused
from remotedl.sync import peer, turns
from remotedl.sync.agent.disk import Disk
from remotedl.sync.agent.heartbeat import Heartbeat
from remotedl.sync.engine import Sync
from remotedl.sync.remedies import remedies
from remotedl.sync.status import State
from remotedl.sync.turns import DiskSilent
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import AgentInThread, Folders, eventually


class HangingDisk(Disk):
    """Flushing blocks while `hangs` is set."""

    def __init__(self) -> None:
        self.works = threading.Event()
        self.works.set()

    def fsync(self, fd: int) -> None:
        self.works.wait()
        super().fsync(fd)

    def syncfs(self, at: object) -> bool:
        self.works.wait()
        return super().syncfs(at)  # type: ignore[arg-type]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    monkeypatch.setattr(peer, "PING_S", 0.05)
    monkeypatch.setattr(peer, "DISK_S", 0.3)
    made = HangingDisk()
    yield made
    made.works.set()


@pytest.fixture
def folders(make_folders: MakeFolders, disk: HangingDisk) -> Folders:
    return make_folders(remote=AgentInThread(disk))


def hang(folders: Folders, disk: HangingDisk) -> Sync:
    (folders.laptop / "a").write_text("a")
    sync = folders.live()
    sync.flush(10)
    assert sync.status().disk_since is None
    disk.works.clear()
    (folders.laptop / "b").write_text("b")
    eventually(lambda: sync.status().disk_since)
    return sync


def test_it_is_told_since_when_and_goes_on_by_itself(folders: Folders, disk: HangingDisk) -> None:
    before = time.time()
    sync = hang(folders, disk)
    since = sync.status().disk_since
    assert since is not None and before <= since <= time.time()
    told = remedies(sync.status())[0]
    assert told.what.startswith("waiting for the host's disk since ")
    disk.works.set()
    assert sync.flush(10).clean
    assert (folders.host / "b").read_text() == "b"
    eventually(lambda: sync.status().disk_since is None)
    assert not folders.run_errors


def test_no_call_waits_for_ever(
    folders: Folders, disk: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = hang(folders, disk)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="waiting for the host's disk since"):
        sync.flush(0.5)
    monkeypatch.setattr(turns, "HANGS_S", 0.5)
    for call in (sync.history, sync.undo, sync.plan, sync.resume, lambda: sync.allow([])):
        with pytest.raises(DiskSilent, match="waiting for the host's disk since"):
            call()
    sync.pause()
    assert sync.status().state is State.PAUSED
    with pytest.raises((SyncPaused, DiskSilent)):
        sync.flush(5)
    assert time.monotonic() - began < 8
    disk.works.set()
    eventually(lambda: sync.status().disk_since is None)
    sync.resume()
    assert sync.flush(10).clean
    folders.assert_equal()


def test_a_flush_that_was_given_up_half_way_loses_nothing(
    folders: Folders, disk: HangingDisk
) -> None:
    """What the host did with the request meanwhile is asked for."""
    (folders.laptop / "a").write_text("a")
    sync = folders.open()
    sync.cycle(scan=False)
    disk.works.clear()
    (folders.laptop / "a").write_text("b")
    with pytest.raises(TimeoutError):
        sync.flush(0.5)
    disk.works.set()
    (folders.laptop / "a").write_text("c")
    eventually(lambda: not sync.cycle().pending)
    assert not sync.status().conflicts
    assert (folders.host / "a").read_text() == "c"


def test_the_end_comes(
    folders: Folders, disk: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remotedl.sync.engine.CLOSE_S", 0.5)
    sync = hang(folders, disk)
    began = time.monotonic()
    ended = threading.Thread(target=sync.close, daemon=True)
    ended.start()
    eventually(lambda: folders.run_errors)
    disk.works.set()
    ended.join(10)
    assert not ended.is_alive() and time.monotonic() - began < 8


def test_the_heartbeat_is_that_of_the_thread_that_waits_longest() -> None:
    now = [100.0]
    heartbeat = Heartbeat(lambda: now[0])
    disk = heartbeat.watch(Disk())
    assert heartbeat.silent_for() == 0.0
    with heartbeat.working():
        now[0] += 5
        assert heartbeat.silent_for() == 5.0
        disk.close_dir(disk.open_top("/"))
        assert heartbeat.silent_for() == 0.0
        now[0] += 3
        other = threading.Thread(target=lambda: disk.close_dir(disk.open_top("/")))
        other.start()
        other.join()
        assert heartbeat.silent_for() == 3.0, "another thread's calls are its own"
    assert heartbeat.silent_for() == 0.0
