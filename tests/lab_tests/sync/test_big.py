"""Big files: only what changed goes over the link, whoever wrote it, and never a wrong byte."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remotedl.sync.agent.disk import At, Disk
from remotedl.sync.agent.replica import Replica
from remotedl.sync.agent.scan import PREPARE_FROM
from remotedl.sync.agent.staging import CLONE
from tests.lab_tests.sync.folders import AgentInThread, Folders, ThreadProcess, eventually, trash

MB = 1 << 20
BASE = os.urandom(12 * MB + 1234)

CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "in place": lambda old: old[: 5 * MB] + os.urandom(MB // 2) + old[5 * MB + MB // 2 :],
    "inserted": lambda old: old[: 5 * MB + 77] + os.urandom(MB // 2) + old[5 * MB + 77 :],
    "appended": lambda old: old + os.urandom(MB),
    "cut out": lambda old: old[: 3 * MB] + old[5 * MB + 5 :],
    "cut off": lambda old: old[: 9 * MB + 1],
}


class CountingAgent(AgentInThread):
    """Counts what goes over the link, both ways."""

    def start(self, argv: Any, **_: Any) -> ThreadProcess:
        process = super().start(argv)
        process.passed = 0  # type: ignore[attr-defined]
        send, receive = process.sendall, process.recv

        def sendall(data: Any) -> None:
            process.passed += len(data)  # type: ignore[attr-defined]
            send(data)

        def recv(size: int) -> bytes:
            data = receive(size)
            process.passed += len(data)  # type: ignore[attr-defined]
            return data

        process.sendall, process.recv = sendall, recv  # type: ignore[method-assign]
        return process

    @property
    def passed(self) -> int:
        return sum(process.passed for process in self.processes)  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", ["laptop", "host"])
def test_only_what_changed_is_sent(folders: Folders, side: str, change: str) -> None:
    folders.remote = agent = CountingAgent()
    here, there = folders.laptop, folders.host
    if side == "host":
        here, there = there, here
    (here / "data").write_bytes(BASE)
    sync = folders.open()
    sync.cycle(scan=False)
    assert (there / "data").read_bytes() == BASE
    before = agent.passed
    new = CHANGES[change](BASE)
    (here / "data").write_bytes(new)
    sync.cycle()
    assert (there / "data").read_bytes() == new
    assert agent.passed - before < 2.5 * MB
    assert trash(there) == {BASE}


def test_it_is_sent_whole_where_the_receiver_has_something_else(folders: Folders) -> None:
    """Between comparing and copying, the basis becomes another file: the digest tells."""
    (folders.laptop / "data").write_bytes(BASE)
    sync = folders.open()
    sync.cycle(scan=False)
    other = bytearray(BASE)
    other[0:4] = b"evil"
    stamp = (folders.host / "data").stat()
    new = CHANGES["appended"](BASE)
    (folders.laptop / "data").write_bytes(new)
    (folders.host / "data").write_bytes(other)
    os.utime(folders.host / "data", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    sync.cycle()
    ends = {path.read_bytes() for path in (folders.laptop / "data", folders.host / "data")}
    assert ends == {new, bytes(other)}
    assert [conflict.key for conflict in sync.status().conflicts] == ["data"]


class ReadingDisk(Disk):
    """Counts what is read, and can write to a file while it is copied inside the kernel."""

    def __init__(self) -> None:
        self.read_bytes = 0
        self.created: list[str] = []
        self.written_to: Path | None = None

    def open(self, name: str, flags: int, at: At, mode: int = 0o600) -> int:
        if flags & os.O_CREAT:
            self.created.append(name)
        return super().open(name, flags, at, mode)

    def read(self, fd: int, size: int) -> bytes:
        data = super().read(fd, size)
        self.read_bytes += len(data)
        return data

    def readinto(self, fd: int, buffer: Any) -> int:
        size = super().readinto(fd, buffer)
        self.read_bytes += size
        return size

    def copy_range(self, source: int, start: int, size: int, target: int, offset: int) -> int:
        if self.written_to is not None:
            with self.written_to.open("r+b") as file:
                file.write(b"evil")
            self.written_to = None
        return super().copy_range(source, start, size, target, offset)


def test_what_the_receiver_has_is_not_read_again(folders: Folders) -> None:
    """The kernel copies it, and its blocks' digests are known."""
    disk = ReadingDisk()
    folders.remote = AgentInThread(disk)
    (folders.laptop / "data").write_bytes(BASE)
    sync = folders.open()
    sync.cycle(scan=False)
    disk.read_bytes = 0
    new = CHANGES["appended"](BASE)
    (folders.laptop / "data").write_bytes(new)
    sync.cycle()
    assert (folders.host / "data").read_bytes() == new
    assert disk.read_bytes < MB


def test_what_is_written_to_while_it_is_copied_is_not_believed(folders: Folders) -> None:
    disk = ReadingDisk()
    folders.remote = AgentInThread(disk)
    (folders.laptop / "data").write_bytes(BASE)
    sync = folders.open()
    sync.cycle(scan=False)
    new = CHANGES["appended"](BASE)
    for name in ("data", "the same"):
        (folders.laptop / name).write_bytes(new)
    disk.written_to = folders.host / "data"
    sync.cycle()
    assert disk.written_to is None
    assert (folders.host / "data").read_bytes() == b"evil" + BASE[4:]
    assert (folders.host / "the same").read_bytes() == new


HUGE = os.urandom(PREPARE_FROM + 4 * MB + 1234)
HUGE_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    **CHANGES,
    "cut off": lambda old: old[: 66 * MB + 5],
    "at the very start": lambda old: b"new" + old[3:],
    "everywhere": lambda old: old[::-1],
}

BEGIN_ALIKE = {"in place", "appended", "cut off", "at the very start"}


@pytest.mark.parametrize("change", HUGE_CHANGES)
def test_the_host_copies_the_old_version_while_the_laptop_reads_the_new_one(
    folders: Folders, change: str
) -> None:
    disk = ReadingDisk()
    folders.remote = AgentInThread(disk)
    (folders.laptop / "data").write_bytes(HUGE)
    sync = folders.open()
    sync.cycle(scan=False)
    disk.created.clear()
    new = HUGE_CHANGES[change](HUGE)
    (folders.laptop / "data").write_bytes(new)
    sync.cycle()
    assert (folders.host / "data").read_bytes() == new
    assert trash(folders.host) == {HUGE}
    assert (CLONE in disk.created) == (change in BEGIN_ALIKE)
    # What was copied ahead for nothing goes with the session.
    sync.close()
    assert not list((folders.host / ".remotedl" / "staging").iterdir())


def test_a_copy_made_ahead_is_of_no_use_once_the_file_changed(folders: Folders) -> None:
    """The laptop's hint and the host's own edit cross each other."""
    disk = ReadingDisk()
    folders.remote = AgentInThread(disk)
    (folders.laptop / "data").write_bytes(HUGE)
    sync = folders.open()
    sync.cycle(scan=False)
    (folders.laptop / "data").write_bytes(CHANGES["appended"](HUGE))
    disk.written_to = folders.host / "data"  # while it is copied ahead
    sync.cycle()
    assert disk.written_to is None and CLONE in disk.created
    assert (folders.host / "data").read_bytes() == b"evil" + HUGE[4:]
    sync.cycle()
    assert [conflict.key for conflict in sync.status().conflicts] == ["data"]


def test_a_moved_big_file_is_not_sent_again(folders: Folders) -> None:
    folders.remote = agent = CountingAgent()
    (folders.laptop / "data").write_bytes(BASE)
    sync = folders.open()
    sync.cycle(scan=False)
    before = agent.passed
    (folders.laptop / "models").mkdir()
    (folders.laptop / "data").rename(folders.laptop / "models" / "renamed")
    sync.cycle()
    assert (folders.host / "models" / "renamed").read_bytes() == BASE
    assert not (folders.host / "data").exists()
    assert agent.passed - before < 100_000


def test_a_small_save_does_not_wait_for_a_big_file(folders: Folders) -> None:
    """While a checkpoint is on its way, the code that is edited goes ahead of it."""
    sync = folders.live()
    (folders.laptop / "big").write_bytes(os.urandom(40 * MB))
    (folders.laptop / "small.py").write_text("print()")
    order: list[str] = []

    def seen() -> bool:
        for name in ("small.py", "big"):
            if name not in order and (folders.host / name).exists():
                order.append(name)
        return len(order) == 2

    eventually(seen, 30)
    assert order == ["small.py", "big"]
    assert sync.flush(10).clean
    assert _size(folders.host / "big") == 40 * MB


class StallingAgent(AgentInThread):
    """Its link stands still after so many bytes in one direction, until the gate opens."""

    def __init__(self, direction: str, after: int) -> None:
        super().__init__()
        self.direction, self.after = direction, after
        self.gate = threading.Event()

    def start(self, argv: Any, **_: Any) -> ThreadProcess:
        process = super().start(argv)
        real = getattr(process, self.direction)
        passed = 0

        def stalling(data: Any) -> Any:
            nonlocal passed
            passed += len(data) if self.direction == "sendall" else data
            if passed > self.after:
                self.gate.wait(20)
            return real(data)

        setattr(process, self.direction, stalling)
        return process


@pytest.mark.parametrize("way", ["up", "down"])
def test_the_status_says_how_far_a_big_file_is(folders: Folders, way: str) -> None:
    folders.remote = agent = StallingAgent("sendall" if way == "up" else "recv", 8 * MB)
    sync = folders.live()
    here, there = folders.laptop, folders.host
    if way == "down":
        here, there = there, here
    (here / "big").write_bytes(os.urandom(24 * MB))
    eventually(lambda: [one for one in sync.status().transfers if one.done > MB])
    (progress,) = sync.status().transfers
    assert MB < progress.done < progress.size == 24 * MB
    agent.gate.set()
    eventually((there / "big").exists, 20)
    assert sync.flush(10).clean and sync.status().transfers == ()


def _size(path: Path) -> int:
    return path.stat().st_size


@pytest.mark.parametrize("side", ["laptop", "host"])
def test_a_file_that_is_touched_while_it_is_sent_is_sent_again_soon(
    folders: Folders, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same content still: no other version comes that would end the wait."""
    here, there = folders.laptop, folders.host
    if side == "host":
        here, there = there, here
    touched: list[float] = []
    unchanged = Replica.unchanged

    def touch(self: Replica, source: Any) -> bool:
        if not touched and source.found.st_size == 6 * MB:
            touched.append(time.monotonic())
            os.utime(here / "big", (1, 1))
        return unchanged(self, source)

    monkeypatch.setattr(Replica, "unchanged", touch)
    sync = folders.live()
    (here / "big").write_bytes(os.urandom(6 * MB))
    eventually(lambda: (there / "big").exists())
    assert touched and time.monotonic() - touched[0] < 8
    assert sync.flush(10).clean
    folders.assert_equal()
