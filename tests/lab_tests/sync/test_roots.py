"""Roots that are missing, replaced, emptied or taken; databases that are lost, old or damaged."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from remotedl.errors import FolderUnusable, LinkLost, RootInUse, StateCorrupt, SyncError, SyncHalted
from remotedl.sync import peer
from remotedl.sync.agent import keeper, protocol, serve
from remotedl.sync.agent.hints import GONE_S
from remotedl.sync.agent.protocol import Parser, Type
from remotedl.sync.agent.serve import Agent
from remotedl.sync.safety import HaltKind
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import Folders, ThreadProcess, eventually, trash, tree
from tests.support.local_remote import LocalRemote


def fill(folders: Folders, count: int = 8) -> None:
    for number in range(count):
        path = folders.laptop / f"dir{number % 4}" / f"file{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"content {number}")
    assert folders.once().pending == 0
    folders.assert_equal()


def test_remote_root_replaced(folders: Folders) -> None:
    fill(folders)
    before = tree(folders.laptop)
    folders.host.rename(folders.base / "away")
    folders.host.mkdir()
    with pytest.raises(SyncHalted, match="lost its marker") as halted:
        folders.once()
    assert "--allow root-replaced" in halted.value.hint
    assert tree(folders.laptop) == before
    assert tree(folders.host) == {}
    folders.once(allowed=frozenset([HaltKind.ROOT_REPLACED]))
    assert tree(folders.laptop) == before
    folders.assert_equal()


def test_remote_root_replaced_by_another_synced_folder(folders: Folders) -> None:
    fill(folders)
    shutil.rmtree(folders.host)
    other = Folders(folders.base / "other")
    (other.laptop / "other").write_text("other")
    other.once()
    shutil.move(other.host, folders.host)
    before = tree(folders.laptop)
    with pytest.raises(SyncHalted, match="not the one of the last sync"):
        folders.once()
    assert tree(folders.laptop) == before
    assert tree(folders.host) == {"other": "- b'other'"}


def test_remote_root_missing(folders: Folders) -> None:
    fill(folders)
    before = tree(folders.laptop)
    shutil.rmtree(folders.host)
    with pytest.raises(SyncHalted, match="is not there"):
        folders.once()
    assert not folders.host.exists(), "it may be a mount that is not there yet"
    assert tree(folders.laptop) == before
    folders.once(allowed=frozenset([HaltKind.ROOT_MISSING]))
    folders.assert_equal()
    assert tree(folders.laptop) == before


def test_laptop_root_replaced(folders: Folders) -> None:
    fill(folders)
    before = tree(folders.host)
    shutil.rmtree(folders.laptop)
    folders.laptop.mkdir()
    with pytest.raises(SyncHalted, match="the laptop's folder has lost its marker"):
        folders.once()
    assert tree(folders.host) == before


def test_remote_root_emptied(folders: Folders) -> None:
    fill(folders)
    before = tree(folders.laptop)
    for path in folders.host.iterdir():
        if path.name != ".remotedl":
            shutil.rmtree(path)
    with pytest.raises(SyncHalted, match="is empty") as halted:
        folders.once()
    assert "--allow root-emptied" in halted.value.hint
    assert tree(folders.laptop) == before
    folders.once(allowed=frozenset([HaltKind.ROOT_EMPTIED]))
    assert tree(folders.laptop) == {}
    assert len(trash(folders.laptop)) == 8


@pytest.mark.lab
def test_remote_root_unmounted(folders: Folders) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folders.host)], check=True)
    try:
        fill(folders)
    finally:
        subprocess.run(["umount", str(folders.host)], check=True)
    before = tree(folders.laptop)
    with pytest.raises(SyncHalted, match="lost its marker"):
        folders.once()
    assert tree(folders.laptop) == before


def test_remote_root_replaced_while_live(folders: Folders) -> None:
    fill(folders)
    before = tree(folders.laptop)
    sync = folders.live()
    folders.host.rename(folders.base / "away")
    folders.host.mkdir()
    (folders.laptop / "dir0" / "new").write_text("new")
    eventually(lambda: sync.status().halt is not None)
    assert tree(folders.laptop) == {**before, "dir0/new": "- b'new'"}
    assert tree(folders.host) == {}
    folders.host.rmdir()
    (folders.base / "away").rename(folders.host)
    eventually(lambda: sync.status().halt is None)
    eventually(lambda: tree(folders.host) == tree(folders.laptop))


class Warnings:
    """A report that keeps what it warns of."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def warn(self, text: str, hint: str = "") -> None:
        self.told.append((text, hint))

    def stage(self, name: str, detail: str = "") -> None: ...

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def output(self, line: str) -> None: ...


@pytest.mark.parametrize("how", ["renamed", "folder above", "replaced"])
def test_remote_root_that_goes_while_live_is_one_halt_that_stands_still(
    folders: Folders, how: str
) -> None:
    """Nothing else need happen for it to be noticed; it is named rightly, and told once."""
    if how == "folder above":
        folders.host.rmdir()
        folders.host = folders.base / "above" / "host"
        folders.host.parent.mkdir()
        folders.remote_root = str(folders.host)
    fill(folders)
    report = Warnings()
    sync = folders.live(report=report)
    moved = folders.host.parent if how == "folder above" else folders.host
    away = folders.base / "away"
    moved.rename(away)
    if how == "replaced":
        moved.mkdir()
    eventually(lambda: sync.status().halt is not None)
    halt = sync.status().halt
    assert halt is not None
    kind = HaltKind.ROOT_REPLACED if how == "replaced" else HaltKind.ROOT_MISSING
    assert halt.kind is kind
    inside = away / "host" if how == "folder above" else away
    (folders.laptop / "dir0" / "new").write_text("new")
    (inside / "below").mkdir()
    (inside / "below" / "made meanwhile").write_text("seen later")
    for _ in range(5):
        with pytest.raises(SyncHalted):
            sync.flush(5)
        assert sync.status().halt == halt
    assert report.told == [(halt.message, halt.hint)]
    if how == "replaced":
        moved.rmdir()
    away.rename(moved)
    eventually(lambda: sync.status().halt is None)
    eventually(lambda: tree(folders.host) == tree(folders.laptop))
    assert (folders.laptop / "below" / "made meanwhile").exists()
    assert len(report.told) == 1


def test_laptop_root_whose_folder_above_is_renamed_while_live(folders: Folders) -> None:
    folders.laptop.rmdir()
    folders.laptop = folders.base / "above" / "laptop"
    folders.laptop.mkdir(parents=True)
    fill(folders)
    sync = folders.live()
    folders.laptop.parent.rename(folders.base / "away")
    eventually(lambda: sync.status().halt is not None)
    (folders.base / "away").rename(folders.laptop.parent)
    eventually(lambda: sync.status().halt is None)


def test_laptop_root_renamed_while_live(folders: Folders) -> None:
    """Freezes: nothing is deleted on the host, and it goes on when the folder is back."""
    fill(folders)
    before = tree(folders.host)
    sync = folders.live()
    away = folders.base / "away"
    folders.laptop.rename(away)
    (folders.host / "dir0" / "new").write_text("new")
    eventually(lambda: sync.status().halt is not None)
    assert "the laptop's folder is not there" in sync.status().halt.message  # type: ignore[union-attr]
    (away / "dir0" / "file0").unlink()
    with pytest.raises(SyncHalted):
        sync.flush(5)
    assert tree(folders.host) == {**before, "dir0/new": "- b'new'"}
    assert not folders.laptop.exists(), "it is not made anew behind the user's back"
    away.rename(folders.laptop)
    eventually(lambda: sync.status().halt is None)
    eventually(lambda: tree(folders.host) == tree(folders.laptop))
    assert "dir0/file0" not in tree(folders.host)


def test_laptop_root_replaced_while_live(folders: Folders) -> None:
    fill(folders)
    before = tree(folders.host)
    sync = folders.live()
    folders.laptop.rename(folders.base / "away")
    folders.laptop.mkdir()
    (folders.laptop / "stray").write_text("another folder's")
    (folders.host / "dir0" / "new").write_text("new")
    eventually(lambda: sync.status().halt is not None)
    assert tree(folders.host) == {**before, "dir0/new": "- b'new'"}
    assert tree(folders.laptop) == {"stray": '- b"another folder\'s"'}


@pytest.mark.parametrize("count", [8, 3000])
def test_laptop_root_removed_while_live(folders: Folders, count: int) -> None:
    """`rm -rf` of the whole folder is no wish to empty the host."""
    fill(folders, count)
    before = tree(folders.host)
    sync = folders.live()
    subprocess.run(["rm", "-rf", str(folders.laptop)], check=True)
    eventually(lambda: sync.status().halt is not None)
    assert tree(folders.host) == before
    assert trash(folders.host) == set()


def test_laptop_root_whose_removal_is_held_up_for_a_moment(folders: Folders) -> None:
    fill(folders, 200)
    before = tree(folders.host)
    sync = folders.live()
    for number in range(0, 76, 4):
        (folders.laptop / "dir0" / f"file{number}").unlink()
    threading.Event().wait(2 * GONE_S)  # rm gets no turn for so long
    subprocess.run(["rm", "-rf", str(folders.laptop)], check=True)
    eventually(lambda: sync.status().halt is not None)
    assert tree(folders.host) == before
    assert trash(folders.host) == set()


@pytest.mark.lab
def test_laptop_root_unmounted_while_live(folders: Folders) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folders.laptop)], check=True)
    mounted = True
    try:
        fill(folders)
        before = tree(folders.host)
        sync = folders.live()
        subprocess.run(["umount", "-l", str(folders.laptop)], check=True)
        mounted = False
        (folders.host / "dir0" / "new").write_text("new")
        eventually(lambda: sync.status().halt is not None)
        assert tree(folders.host) == {**before, "dir0/new": "- b'new'"}
        assert tree(folders.laptop) == {}
    finally:
        folders.close()
        if mounted:
            subprocess.run(["umount", "-l", str(folders.laptop)], check=False)


def test_half_of_the_files_deleted_on_the_host_halts(folders: Folders) -> None:
    fill(folders, 200)
    before = tree(folders.laptop)
    for number in (0, 1):
        shutil.rmtree(folders.host / f"dir{number}")
    with pytest.raises(SyncHalted, match="100 of the laptop's 200 files are gone"):
        folders.once()
    assert tree(folders.laptop) == before
    folders.once(allowed=frozenset([HaltKind.MASS_DELETE]))
    folders.assert_equal()
    assert len(trash(folders.laptop)) == 100


@pytest.mark.parametrize("moved", [False, True], ids=["where it was", "moved"])
def test_a_lost_corner_is_put_back_where_the_files_prove_it(folders: Folders, moved: bool) -> None:
    """`git clean -fdx`: ours and untracked files are gone, the rest is as it was."""
    fill(folders)
    before = (folders.laptop / ".remotedl" / "marker").read_text()
    shutil.rmtree(folders.laptop / ".remotedl")
    shutil.rmtree(folders.laptop / "dir1")
    if moved:
        folders.laptop = folders.laptop.rename(folders.base / "moved")
    told = Warnings()
    outcome = folders.once(report=told)
    assert (folders.laptop / ".remotedl" / "marker").read_text() == before
    assert not outcome.conflicts and outcome.to_laptop.written == 0
    assert any(f"is synced with {folders.host}" in line for line in told.notes)
    folders.assert_equal()


@pytest.mark.parametrize("what", ["another folder", "emptied", "other files"])
def test_a_lost_corner_is_no_proof_by_itself(folders: Folders, what: str) -> None:
    fill(folders)
    if what == "another folder":
        folders.laptop.rename(folders.base / "old")
        folders.laptop.mkdir()
    elif what == "emptied":
        for path in folders.laptop.iterdir():
            shutil.rmtree(path)
    else:
        shutil.rmtree(folders.laptop / ".remotedl")
        for path in folders.laptop.rglob("file*"):
            path.write_text("another project")
    before = tree(folders.host)
    with pytest.raises(SyncHalted, match="has lost its marker"):
        folders.once()
    assert tree(folders.host) == before


def test_files_deleted_on_the_host_piece_by_piece_halt_too(folders: Folders) -> None:
    fill(folders, 120)
    gone = list(folders.host.rglob("file*"))[:60]
    now = time.time()
    sync = folders.open(now=lambda: now)
    for path in gone[:30]:
        path.unlink()
        sync.cycle()
    sync.close()
    sync = folders.open(now=lambda: now + 300)  # what an earlier session took counts too
    for path in gone[30:50]:
        path.unlink()
        sync.cycle()
    gone[50].unlink()
    with pytest.raises(SyncHalted, match="50 went within the last 10 minutes"):
        sync.cycle()
    assert len(list(folders.laptop.rglob("file*"))) == 70
    sync.allow([HaltKind.MASS_DELETE])
    assert sync.cycle().to_laptop.deleted == 1
    for path in gone[51:]:  # it begins anew
        path.unlink()
        sync.cycle()
    sync.close()
    folders.assert_equal()
    sync = folders.open(now=lambda: now + 301)
    next(folders.host.rglob("file*")).unlink()
    assert sync.cycle().to_laptop.deleted == 1


def test_files_deleted_on_the_host_over_hours_are_deleted(folders: Folders) -> None:
    fill(folders, 80)
    now = time.time()
    sync = folders.open(now=lambda: now)
    for path in list(folders.host.rglob("file*"))[:60]:
        now += 20
        path.unlink()
        sync.cycle()
    folders.assert_equal()


def test_half_of_the_files_deleted_on_the_laptop_goes_with_a_notice(folders: Folders) -> None:
    fill(folders, 200)
    for number in (0, 1):
        shutil.rmtree(folders.laptop / f"dir{number}")
    outcome = folders.once()
    assert "100 files" in outcome.notices[0]
    folders.assert_equal()
    assert len(trash(folders.host)) == 100


def test_database_lost_equal_files_are_adopted_and_others_are_conflicts(folders: Folders) -> None:
    fill(folders)
    shutil.rmtree(folders.state)
    (folders.laptop / "dir0" / "file0").write_text("laptop's")
    (folders.host / "dir1" / "file1").unlink()
    outcome = folders.once()
    assert [conflict.key for conflict in outcome.conflicts] == ["dir0/file0"]
    assert (folders.host / "dir0" / "file0").read_text() == "content 0"
    assert (folders.host / "dir1" / "file1").read_text() == "content 1"


def test_database_rolled_back_loses_nothing(folders: Folders) -> None:
    fill(folders)
    saved = (folders.state / "sync.db").read_bytes()
    (folders.laptop / "dir0" / "file0").write_text("second")
    (folders.host / "dir1" / "file1").write_text("second")
    (folders.laptop / "new").write_text("new")
    (folders.laptop / "dir2" / "file2").unlink()
    folders.once()
    (folders.host / "dir0" / "file0").write_text("third")
    (folders.host / "new").write_text("newer")
    (folders.laptop / "dir3" / "file3").write_text("third")
    for path in folders.state.iterdir():
        path.unlink()
    (folders.state / "sync.db").write_bytes(saved)
    folders.once()
    everything = {
        *tree(folders.laptop).values(), *tree(folders.host).values(),
        *(f"- {data!r}" for data in trash(folders.laptop) | trash(folders.host)),
    }  # fmt: skip
    for version in (b"second", b"third", b"newer", b"content 3"):
        assert f"- {version!r}" in everything
    assert (folders.host / "dir3" / "file3").read_text() == "third"


@pytest.mark.parametrize("damage", ["garbage", "flipped", "cut off", "other", "row", "empty"])
def test_database_corrupt(folders: Folders, damage: str) -> None:
    fill(folders, 200)
    before = tree(folders.laptop)
    path = folders.state / "sync.db"
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        path.write_bytes(b"garbage" * 1000)
    elif damage == "flipped":
        for at in range(4096 * 2, len(data), 4096):
            data[at : at + 64] = os.urandom(64)
        path.write_bytes(data)
    elif damage == "cut off":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        path.unlink()
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE mine (x)")
    else:
        with sqlite3.connect(path) as other:
            other.execute("UPDATE ancestor SET kind = 77")
    shutil.rmtree(folders.laptop / "dir0")
    with pytest.raises(StateCorrupt) as corrupt:
        folders.once()
    assert "nothing" in corrupt.value.hint or "without deleting" in corrupt.value.hint
    assert (folders.host / "dir0" / "file0").exists()
    path.unlink()
    folders.once()
    assert tree(folders.laptop) == before == tree(folders.host)


def test_two_sessions_on_one_root(folders: Folders) -> None:
    fill(folders)
    folders.open()
    with pytest.raises(RootInUse, match="another session"):
        folders.once()
    folders.close()
    folders.once()


def test_a_copy_of_the_folder_on_another_laptop_sends_no_agent_away(folders: Folders) -> None:
    """It has the same marker, and is no session that this laptop left behind."""
    fill(folders)
    other = Folders(folders.base / "other", remote_root=str(folders.host))
    shutil.copytree(folders.laptop, other.laptop, dirs_exist_ok=True)
    held = []
    for each in (folders, other, folders):
        each.open()
        lock = folders.host / ".remotedl" / "lock"
        held.append(json.loads(lock.read_bytes().lstrip(b"\0"))["id"])
        each.close()
    assert held[0] == held[2] != held[1], "a session knows its own agent, and only that"
    folders.open()
    began = time.monotonic()
    with pytest.raises(RootInUse, match=r"is being synced by .+@"):
        other.open()
    assert time.monotonic() - began < keeper.TAKE_OVER_S, "it was not waited for"
    other.close()


def test_a_copied_state_folder_is_another_holder(make_folders: MakeFolders, tmp_path: Path) -> None:
    """The project and the laptop's memory of it, copied: neither ends the other's agent."""
    one = make_folders(remote=LocalRemote(tmp_path))
    fill(one)
    other = Folders(one.base / "other", one.remote, remote_root=str(one.host))
    shutil.copytree(one.laptop, other.laptop, dirs_exist_ok=True)
    shutil.copytree(one.state, other.state)
    live = one.live()
    with pytest.raises(RootInUse, match=r"is being synced by .+@") as refused:
        other.open()
    assert "remotedl sync --once --allow root-in-use" in refused.value.hint
    (one.laptop / "more").write_text("more")
    live.flush(10)
    assert not one.run_errors and (one.host / "more").exists()

    other.open(allowed=frozenset([HaltKind.ROOT_IN_USE]))
    eventually(lambda: one.run_errors)
    assert isinstance(one.run_errors[0], LinkLost)
    one.close()
    other.close()
    with pytest.raises(RootInUse, match=r"is being synced by .+@"):
        one.open()  # it was taken over, for good
    other.once()
    one.once(allowed=frozenset([HaltKind.ROOT_IN_USE]))
    one.once()
    with pytest.raises(RootInUse):
        other.open()
    other.close()


@pytest.mark.parametrize("boot, number", [("same", signal.SIGTERM), ("before", signal.SIGUSR1)])
def test_an_agent_of_an_earlier_run_of_this_machine_is_asked_before_it_is_ended(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, boot: str, number: int
) -> None:
    """After a reboot a leftover holds the folder; a copy of this machine that runs has it too."""
    sent = []
    monkeypatch.setattr(keeper, "TAKE_OVER_S", 0.1)
    monkeypatch.setattr(keeper, "PROOF_S", 0.3)
    monkeypatch.setattr(keeper, "_signal", lambda holder, number: sent.append(number))
    told = {"id": "x", "name": "me"}
    process = ThreadProcess(None)
    for each, running in (("same", process), (boot, ThreadProcess(None))):
        hello = {
            "root": str(folders.host), "create": True, "holder": {**told, "boot": each},
            "rules": [], "watch": False,
        }  # fmt: skip
        running.sendall(protocol.frame(Type.HELLO, 0, protocol.pack_json(hello)))
        parser = Parser(skip_noise=True)
        answers: list[dict[str, Any]] = []
        while not answers:
            found = parser.feed(running.recv(1 << 16))
            answers += [protocol.unpack_json(got.payload) for got in found]
    assert answers[0]["error"] == "busy"
    assert set(sent) == {number} and (len(sent) == 1) is (number == signal.SIGUSR1)
    running.close()
    process.close()


def test_an_agent_in_doubt_waits_no_longer_than_for_two_pings() -> None:
    now = [0.0]
    agent = Agent(lambda _: b"", lambda _: None, clock=lambda: now[0])
    now[0] = serve.DOUBTED_S + 1
    assert not agent.is_forsaken
    agent.doubt()
    assert agent.is_forsaken
    assert peer.PING_S < serve.DOUBTED_S < keeper.PROOF_S < peer.START_S


def test_our_corner_is_hidden_from_git(folders: Folders) -> None:
    fill(folders)
    for side in (folders.laptop, folders.host):
        subprocess.run(["git", "init", "-q"], cwd=side, check=True)
        status = ["git", "status", "--porcelain", "--untracked-files=all"]
        told = subprocess.run(status, cwd=side, check=True, capture_output=True, text=True).stdout
        assert "dir0/file0" in told and ".remotedl" not in told
        (side / ".remotedl" / ".gitignore").write_text("my own rules\n")
    folders.once()
    assert (folders.laptop / ".remotedl" / ".gitignore").read_text() == "my own rules\n"
    assert (folders.host / ".remotedl" / ".gitignore").read_text() == "my own rules\n"


def test_a_user_without_a_name(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    fill(folders)


@pytest.mark.parametrize("side", ["laptop", "host"])
@pytest.mark.parametrize("allowed", [[], [HaltKind.ROOT_MISSING]])
def test_a_halt_makes_nothing_in_the_folder_that_it_refuses(
    folders: Folders, side: str, allowed: list[HaltKind]
) -> None:
    """So the right one is put back as it went."""
    fill(folders)
    root = folders.laptop if side == "laptop" else folders.host
    root.rename(folders.base / "away")
    root.mkdir()
    with pytest.raises(SyncHalted, match="lost its marker"):
        folders.once(allowed=frozenset(allowed))
    root.rmdir()
    (folders.base / "away").rename(root)
    assert folders.once().idle


@pytest.mark.parametrize("side", ["laptop", "host"])
@pytest.mark.parametrize("what", ["folder", "long"])
def test_a_marker_that_is_none_of_ours(folders: Folders, side: str, what: str) -> None:
    fill(folders)
    marker = (folders.laptop if side == "laptop" else folders.host) / ".remotedl" / "marker"
    marker.unlink()
    if what == "folder":
        marker.mkdir()
    else:
        marker.write_bytes(b"m" * 5000)
    with pytest.raises(SyncHalted, match="lost its marker"):
        folders.once()
    if what == "folder":
        with pytest.raises((FolderUnusable, SyncError), match="marker is a folder"):
            folders.once(allowed=frozenset([HaltKind.ROOT_REPLACED]))
        marker.rmdir()
    folders.once(allowed=frozenset([HaltKind.ROOT_REPLACED]))
    folders.assert_equal()


@pytest.mark.parametrize("side", ["laptop", "host"])
@pytest.mark.parametrize("what", ["file", "link"])
def test_a_trash_that_is_no_folder_is_named(folders: Folders, side: str, what: str) -> None:
    fill(folders)
    bin_ = (folders.laptop if side == "laptop" else folders.host) / ".remotedl" / "trash"
    shutil.rmtree(bin_)
    if what == "file":
        bin_.write_text("mine")
    else:
        bin_.symlink_to(folders.base)
    with pytest.raises(FolderUnusable, match=str(bin_)):
        folders.once()


def test_root_that_is_no_folder(folders: Folders) -> None:
    folders.host.rmdir()
    folders.host.write_text("a file")
    with pytest.raises(FolderUnusable):
        folders.once()
    shutil.rmtree(folders.laptop)
    with pytest.raises(FolderUnusable):
        folders.once()


def test_root_of_the_filesystem_is_refused(folders: Folders) -> None:
    folders.remote_root = "/"
    with pytest.raises(FolderUnusable, match="root of the whole filesystem"):
        folders.once()
    folders.laptop = Path("/")
    with pytest.raises(FolderUnusable, match="root of the whole filesystem"):
        folders.once()


@pytest.mark.parametrize("side", ["laptop", "host"])
def test_a_home_folder_is_asked_about_once(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    asked: list[str] = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setenv("HOME", str(folders.laptop if side == "laptop" else folders.host))
    (folders.laptop / "a").write_text("one")
    with pytest.raises(FolderUnusable, match="whole home folder"):
        folders.once()
    assert tree(folders.host) == {}
    folders.once(confirm=yes)
    assert len(asked) == 1 and "whole home folder" in asked[0]
    (folders.laptop / "a").write_text("two")
    folders.once()
    folders.assert_equal()


@pytest.mark.parametrize("side", ["laptop", "host"])
def test_a_root_that_is_a_link_is_asked_about_once(folders: Folders, side: str) -> None:
    link = folders.base / "link"
    if side == "laptop":
        link.symlink_to(folders.laptop)
        real, folders.laptop = folders.laptop, link
    else:
        link.symlink_to(folders.host)
        real, folders.remote_root = folders.host, str(link)
    (folders.laptop / "a").write_text("one")
    with pytest.raises(FolderUnusable, match=f"link is a link to {real}|link on host is a link"):
        folders.once()
    assert tree(folders.host) == {} or side == "host"
    folders.once(confirm=lambda question: "link" in question)
    (folders.laptop / "a").write_text("two")
    folders.once()
    assert (folders.host / "a").read_text() == "two"


def test_a_root_that_became_a_link_is_the_folder_that_it_leads_to(folders: Folders) -> None:
    fill(folders)
    (folders.base / "link").symlink_to(folders.host)
    folders.remote_root = str(folders.base / "link")
    (folders.laptop / "new").write_text("new")
    folders.once()
    assert (folders.host / "new").read_text() == "new"


def test_an_emptied_host_folder_takes_everything_but_the_projects_own_settings(
    folders: Folders,
) -> None:
    """Without hosts.toml no command would know the host that `undo` is for."""
    (folders.laptop / "hosts.toml").write_text("[hosts.h1]\n")
    fill(folders)
    for path in folders.host.iterdir():
        if path.name != ".remotedl":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SyncHalted):
        folders.once()
    folders.once(allowed=frozenset([HaltKind.ROOT_EMPTIED, HaltKind.MASS_DELETE]))
    folders.assert_equal()
    assert {name.decode() for name in os.listdir(os.fsencode(folders.laptop))} == {
        ".remotedl",
        "hosts.toml",
    }
    (folders.laptop / "hosts.toml").unlink()
    folders.once()
    assert not (folders.host / "hosts.toml").exists()
