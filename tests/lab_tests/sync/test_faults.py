"""Disks that fail and processes that die, at every step, on either side: nothing is ever lost."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable

import pytest

from remotedl.sync import transfers
from remotedl.sync.agent.disk import At, Disk
from remotedl.sync.agent.tree import Issue
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.disks import (
    FaultyDisk,
    FullDisk,
    KillingDisk,
    LinklessDisk,
    PlainDisk,
    PowerlessDisk,
    RebootedDisk,
    ShortDisk,
    StingyDisk,
)
from tests.lab_tests.sync.folders import AgentInThread, Folders, trash, tree

BIG = bytes(range(256)) * 1_300
"""More than is kept in memory, and brought over in the background (see `smaller`)."""
STEPS_LIMIT = 400
NOBODY = 65534


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as big, so that an interrupted run has few steps."""
    monkeypatch.setattr(transfers, "BIG", len(BIG))


def agree(folders: Folders) -> None:
    """What stands on both sides before the work that is interrupted."""
    files = {"edited": b"1", "deleted": b"2", "dir/a": b"3", "dir/b": b"4", "swapped": b"5",
             "script": b"6", "host/edited": b"7", "host/deleted": b"8"}  # fmt: skip
    for name, content in files.items():
        path = folders.laptop / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (folders.laptop / "link").symlink_to("old")
    folders.once()
    folders.assert_equal()


def work(folders: Folders) -> None:
    """Something of everything, both ways."""
    (folders.laptop / "edited").write_bytes(b"10")
    (folders.laptop / "deleted").unlink()
    shutil.rmtree(folders.laptop / "dir")
    (folders.laptop / "swapped").unlink()
    (folders.laptop / "swapped").mkdir()
    (folders.laptop / "swapped" / "inside").write_bytes(b"11")
    (folders.laptop / "script").chmod(0o755)
    (folders.laptop / "link").unlink()
    (folders.laptop / "link").symlink_to("new")
    (folders.laptop / "new").mkdir()
    (folders.laptop / "new" / "small").write_bytes(b"12")
    (folders.laptop / "new" / "big").write_bytes(BIG)
    (folders.host / "host" / "edited").write_bytes(b"13")
    (folders.host / "host" / "deleted").unlink()
    (folders.host / "host" / "made").write_bytes(BIG[::-1])


DONE = {
    "edited": "- b'10'",
    "swapped": "dir",
    "swapped/inside": "- b'11'",
    "script": "x b'6'",
    "link": "link new",
    "new": "dir",
    "new/small": "- b'12'",
    "new/big": f"- {BIG!r}",
    "host": "dir",
    "host/edited": "- b'13'",
    "host/made": f"- {BIG[::-1]!r}",
}
DISPLACED = {b"1", b"2", b"3", b"4", b"5", b"7", b"8"}


def in_a_child(run: Callable[[], None]) -> bool:
    """Run it in a forked process; whether that was killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed"
    return False


def check_all_is_there(folders: Folders) -> None:
    assert tree(folders.laptop) == DONE
    assert tree(folders.host) == DONE
    assert trash(folders.laptop) | trash(folders.host) >= DISPLACED


@pytest.fixture
def interrupted(make_folders: MakeFolders) -> Folders:
    """Folders with all of `work` to do; copied for every step that is interrupted."""
    template = make_folders()
    agree(template)
    work(template)
    return template


def at_every_step(
    template: Folders, die: Callable[[Folders, int], None], go_on: Callable[[Folders], None]
) -> None:
    """`die` in a child at step 1, 2, … until it lives; after each, `go_on` must mend all."""
    for fatal in range(1, STEPS_LIMIT):
        folders = Folders(template.base.with_name(f"step{fatal}"))
        shutil.copytree(template.base, folders.base, symlinks=True, dirs_exist_ok=True)
        killed = in_a_child(lambda folders=folders, fatal=fatal: die(folders, fatal))
        go_on(folders)
        check_all_is_there(folders)
        folders.close()
        shutil.rmtree(folders.base)
        if not killed:
            assert fatal > 30
            return
    raise AssertionError("it never came to its end")


def test_sigkill_at_every_step_of_apply_on_the_laptop(interrupted: Folders) -> None:
    def die(folders: Folders, fatal: int) -> None:
        folders.once(disk=KillingDisk(fatal))

    at_every_step(interrupted, die, lambda folders: folders.once())


def test_sigkill_at_every_step_of_apply_on_the_host(interrupted: Folders) -> None:
    def die(folders: Folders, fatal: int) -> None:
        folders.remote = AgentInThread(KillingDisk(fatal))
        folders.once()

    at_every_step(interrupted, die, lambda folders: folders.once())


def test_unflushed_data_zeroed_by_a_crash_of_the_laptop(interrupted: Folders) -> None:
    def die(folders: Folders, fatal: int) -> None:
        folders.once(disk=PowerlessDisk(fatal, folders.laptop))

    at_every_step(interrupted, die, lambda folders: folders.once(disk=RebootedDisk()))


def test_unflushed_data_zeroed_by_a_crash_of_the_host(interrupted: Folders) -> None:
    def die(folders: Folders, fatal: int) -> None:
        folders.remote = AgentInThread(PowerlessDisk(fatal, folders.host))
        folders.once()

    def go_on(folders: Folders) -> None:
        folders.remote = AgentInThread(RebootedDisk())
        folders.once()

    at_every_step(interrupted, die, go_on)


class WrittenBetween(LinklessDisk):
    """A program opens the empty file that takes the name, and writes into it."""

    def replace(self, name: str, at: At, new_name: str, new_at: At) -> None:
        if new_name == "new":
            fd = os.open(new_name, os.O_WRONLY, dir_fd=int(new_at))
            os.write(fd, b"typed in between")
            os.close(fd)
        super().replace(name, at, new_name, new_at)


@pytest.mark.parametrize("side", ["laptop", "host"])
def test_without_rename_flags_and_links_a_writer_in_between_loses_nothing(
    make_folders: MakeFolders, side: str
) -> None:
    disk = WrittenBetween()
    folders = make_folders(remote=AgentInThread(disk if side == "host" else None))
    poor, other = folders.laptop, folders.host
    if side == "host":
        poor, other = other, poor
    (other / "new").write_text("from the other side")
    folders.once(disk=disk) if side == "laptop" else folders.once()
    assert (poor / "new").read_text() == "typed in between"
    again = folders.once()
    assert [conflict.key for conflict in again.conflicts] == ["new"]
    assert (other / "new").read_text() == "from the other side"


@pytest.mark.parametrize("disk", [StingyDisk, PlainDisk, LinklessDisk])
@pytest.mark.parametrize("side", ["laptop", "host"])
def test_poorer_filesystems(make_folders: MakeFolders, side: str, disk: type[Disk]) -> None:
    """Short reads and writes; no swapping of names; no hard links."""
    folders = make_folders()
    agree(folders)
    work(folders)
    if side == "host":
        folders.remote = AgentInThread(disk())
        folders.once()
    else:
        folders.once(disk=disk())
    check_all_is_there(folders)


@pytest.mark.parametrize("space", [0, 1, 30_000, len(BIG) + 4])
def test_full_disk_while_staging(make_folders: MakeFolders, space: int) -> None:
    """It is said, nothing is half-written or lost, and what was refused holds the deletes back.

    How far the space goes depends on who writes first: the big file on its way, or the small ones.
    """
    folders = make_folders()
    agree(folders)
    disk = FullDisk(1 << 40)
    folders.remote = AgentInThread(disk)
    sync = folders.open()
    work(folders)
    before = tree(folders.host)
    disk.space = space
    outcome = sync.cycle()
    assert any("space" in failure.why for failure in outcome.failures)
    now = tree(folders.host)
    for name, what in now.items():
        assert what in (before.get(name), DONE.get(name)), f"{name} is half-written"
    refused = {failure.key for failure in outcome.failures} - {"new/big"}
    assert ("deleted" in now) is bool(refused)
    assert "deleted" in now or b"2" in trash(folders.host)
    assert refused or space > 1
    disk.broken = False
    folders.close()
    folders.once()
    check_all_is_there(folders)


def test_a_refused_write_holds_the_deletes_back(make_folders: MakeFolders) -> None:
    """A move is a write and a delete: half of it must not happen."""
    folders = make_folders()
    agree(folders)
    staged = FaultyDisk(
        errno.ENOSPC, lambda call, name: call == "create" and name.startswith("new.")
    )
    folders.remote = AgentInThread(staged)
    sync = folders.open()
    (folders.laptop / "deleted").rename(folders.laptop / "moved")
    outcome = sync.cycle()
    assert [failure.key for failure in outcome.failures] == ["moved"]
    assert outcome.pending == 2
    assert tree(folders.host)["deleted"] == "- b'2'"
    assert sync.flush(10).behind == ("deleted", "moved")  # no job starts on these
    staged.broken = False
    folders.close()
    folders.once()
    folders.assert_equal()


@pytest.mark.parametrize("side", ["laptop", "host"])
def test_an_old_checkpoint_goes_only_when_the_new_one_is_there(
    make_folders: MakeFolders, side: str
) -> None:
    """A big file that cannot be written holds back the deletes of big ones, and of no others."""
    folders = make_folders()
    here, there = folders.laptop, folders.host
    if side == "laptop":
        here, there = there, here
    (here / "checkpoint-1").write_bytes(BIG)
    (here / "module.py").write_bytes(b"old name")
    folders.once()
    disk = ShortDisk(len(BIG) // 2)
    options = {}
    if side == "host":
        folders.remote = AgentInThread(disk)
    else:
        options["disk"] = disk
    sync = folders.open(**options)
    (here / "checkpoint-1").unlink()
    (here / "checkpoint-2").write_bytes(BIG[::-1])
    (here / "module.py").rename(here / "renamed.py")
    outcome = sync.cycle()
    assert [failure.key for failure in outcome.failures] == ["checkpoint-2"]
    assert sorted(tree(there)) == ["checkpoint-1", "renamed.py"]
    disk.broken = False
    folders.close()
    folders.remote = AgentInThread()
    folders.once()
    assert sorted(tree(there)) == ["checkpoint-2", "renamed.py"]
    assert trash(there) == {BIG, b"old name"}


def test_full_disk_on_the_laptop(folders: Folders) -> None:
    agree(folders)
    work(folders)
    disk = FullDisk(1 << 40)
    sync = folders.open(disk=disk)
    disk.space = 1000
    outcome = sync.cycle(scan=False)
    assert any("space" in failure.why for failure in outcome.failures)
    assert "host/made" not in tree(folders.laptop)
    folders.close()
    folders.once()
    check_all_is_there(folders)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("side", ["laptop", "host"])
def test_error_during_a_scan_is_no_absence(
    make_folders: MakeFolders, side: str, number: int
) -> None:
    folders = make_folders()
    agree(folders)
    (folders.laptop / "edited").write_bytes(b"goes on")
    before = tree(folders.host)
    disk = FaultyDisk(number, lambda call, name: call == "scandir" and name.endswith("/dir"))
    if side == "host":
        folders.remote = AgentInThread(disk)
        outcome = folders.once()
    else:
        outcome = folders.once(disk=disk)
    assert {item.key: item.issue for item in outcome.frozen} == {"dir": Issue.UNREADABLE}
    assert tree(folders.host) == {**before, "edited": "- b'goes on'"}
    assert tree(folders.laptop) == tree(folders.host)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["open", "read"])
def test_a_file_that_cannot_be_read_is_frozen(
    make_folders: MakeFolders, call: str, number: int
) -> None:
    folders = make_folders()
    agree(folders)
    (folders.laptop / "solo").write_bytes(b"1")
    folders.once()
    (folders.host / "solo").write_bytes(b"unreadable")
    folders.remote = AgentInThread(
        FaultyDisk(number, lambda done, name: done == call and name.endswith("solo"))
    )
    outcome = folders.once()
    assert {item.key: item.issue for item in outcome.frozen} == {"solo": Issue.UNREADABLE}
    assert (folders.laptop / "solo").read_bytes() == b"1"


@pytest.mark.parametrize("call", ["rename", "exchange", "fsync", "sync dir", "create", "mkdir"])
@pytest.mark.parametrize("side", ["laptop", "host"])
def test_io_error_in_apply(make_folders: MakeFolders, side: str, call: str) -> None:
    folders = make_folders()
    agree(folders)
    work(folders)
    disk = FaultyDisk(errno.EIO, lambda done, name: done == call)
    disk.broken = False
    if side == "host":
        folders.remote = AgentInThread(disk)
        sync = folders.open()
    else:
        sync = folders.open(disk=disk)
    disk.broken = True
    outcome = sync.cycle(scan=False)
    assert outcome.failures or outcome.pending or call not in ("rename", "create")
    disk.broken = False
    folders.close()
    folders.remote = AgentInThread()
    folders.once()
    check_all_is_there(folders)


@pytest.mark.lab
def test_a_root_owned_file(make_folders: MakeFolders) -> None:
    """Both sides run as somebody else: what belongs to root is read, and never replaced."""
    folders = make_folders()
    agree(folders)
    (folders.laptop / "solo").write_bytes(b"1")
    folders.once()
    folders.close()
    for path in (folders.base, *folders.base.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
    folders.base.parent.chmod(0o755)
    for name, content, mode in (
        *(("edited", b"1", 0o644), ("solo", b"secret", 0o600)),
        *(("by-root", b"readable", 0o644), ("deleted", b"2", 0o644)),
    ):
        (folders.host / name).write_bytes(content)
        os.chown(folders.host / name, 0, 0)
        (folders.host / name).chmod(mode)
    (folders.laptop / "edited").write_bytes(b"10")
    (folders.laptop / "deleted").unlink()

    def as_nobody() -> None:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        outcome = folders.once()
        assert [failure.key for failure in outcome.failures] == ["edited"]
        assert "belongs to user 0" in outcome.failures[0].why
        assert {item.key: item.issue for item in outcome.frozen} == {"solo": Issue.UNREADABLE}

    assert not in_a_child(as_nobody)
    assert (folders.host / "edited").read_bytes() == b"1"
    assert (folders.laptop / "edited").read_bytes() == b"10"
    assert (folders.laptop / "solo").read_bytes() == b"1"
    assert (folders.laptop / "by-root").read_bytes() == b"readable"
    assert (folders.host / "deleted").exists(), "a refusal holds the deletes back"
