"""Live sessions: bursts, editors, notebooks, logs, checkpoints, the kernel's limits, idleness."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remotedl.errors import SyncPaused
from remotedl.sync.agent import hints, inotify
from remotedl.sync.agent.tree import Issue
from remotedl.sync.engine import Sync
from tests.lab_tests.sync.folders import Folders, eventually, settled, trash, tree


@pytest.fixture
def live(folders: Folders) -> Sync:
    return folders.live()


def equal(folders: Folders) -> Callable[[], bool]:
    return lambda: tree(folders.laptop) == tree(folders.host)


def sides(folders: Folders) -> Iterator[tuple[Path, Path]]:
    yield folders.laptop, folders.host
    yield folders.host, folders.laptop


def test_mkdir_p_with_instant_writes(folders: Folders, live: Sync) -> None:
    for here, there in sides(folders):
        for number in range(20):
            deep = here / f"{here.name}{number}" / "a" / "b" / "c"
            deep.mkdir(parents=True)
            (deep / "file").write_text(str(number))
            (deep.parent / "file").write_text(str(number))
        eventually(lambda here=here, there=there: tree(here) == tree(there))
        assert len(tree(there)) >= 120


def test_dirs_moved_in_and_out(folders: Folders, live: Sync) -> None:
    outside = folders.base / "outside"
    (folders.laptop / "stays").touch()
    for here, there in sides(folders):
        (outside / "x" / "y").mkdir(parents=True)
        (outside / "x" / "y" / "file").write_text("moved in")
        (outside / "x").rename(here / "x")
        eventually(lambda there=there: (there / "x" / "y" / "file").exists())
        (here / "x" / "y" / "file").write_text("edited after the move")
        eventually(
            lambda there=there: (there / "x" / "y" / "file").read_text() == "edited after the move"
        )
        (here / "x").rename(here / "z")
        eventually(lambda there=there: (there / "z" / "y" / "file").exists())
        (here / "z" / "y" / "new").write_text("in the renamed dir")
        eventually(lambda there=there: (there / "z" / "y" / "new").exists())
        (here / "z").rename(outside / "z")
        eventually(lambda there=there: not (there / "z").exists())
        (outside / "z" / "y" / "file").write_text("no longer ours")
        shutil.rmtree(outside)
        eventually(equal(folders))


def test_git_checkout_storm(folders: Folders, live: Sync) -> None:
    def git(*argv: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *argv],
            cwd=folders.laptop, check=True, capture_output=True,
        )  # fmt: skip

    git("init", "-q", "-b", "one")
    for number in range(150):
        path = folders.laptop / f"pkg{number % 10}" / f"mod{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"one {number}\n" * 20)
    git("add", ".")
    git("commit", "-qm", "one")
    git("checkout", "-qb", "two")
    for number in range(0, 150, 2):
        (folders.laptop / f"pkg{number % 10}" / f"mod{number}.py").unlink()
    for number in range(1, 150, 2):
        (folders.laptop / f"pkg{number % 10}" / f"mod{number}.py").write_text(f"two {number}\n")
    git("add", "-A")
    git("commit", "-qm", "two")
    for branch in ("one", "two", "one", "two", "one"):
        git("checkout", "-q", branch)
    settled(live)
    here = {key: what for key, what in tree(folders.laptop).items() if not key.startswith(".git")}
    assert tree(folders.host) == here
    assert live.status().conflicts == ()
    assert not (folders.host / ".git").exists()


def save_like_vim(path: Path, text: str) -> None:
    """backup by rename, write anew, remove the backup; a swap file beside it."""
    swap = path.with_name(f".{path.name}.swp")
    swap.write_bytes(b"swap")
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    backup.unlink()
    swap.unlink()


def save_like_vscode(path: Path, text: str) -> None:
    """truncate and write in place."""
    with path.open("r+") as file:
        file.truncate(0)
        file.write(text)


def save_like_pycharm(path: Path, text: str) -> None:
    """safe write: a temporary file beside it, the old one away, the new one in its place."""
    temporary = path.with_name(path.name + "___jb_tmp___")
    old = path.with_name(path.name + "___jb_old___")
    temporary.write_text(text)
    path.rename(old)
    temporary.rename(path)
    old.unlink()


@pytest.mark.parametrize("save", [save_like_vim, save_like_vscode, save_like_pycharm])
def test_save_styles(folders: Folders, live: Sync, save: Callable[[Path, str], None]) -> None:
    for here, there in sides(folders):
        name = f"{here.name}.py"
        (here / name).write_text("version 0")
        (here / name).chmod(0o755)
        eventually(lambda there=there, name=name: (there / name).exists())
        for number in range(1, 6):
            save(here / name, f"version {number}")
            eventually(
                lambda there=there, name=name, number=number: (
                    (there / name).read_text() == f"version {number}"
                )
            )
        settled(live)
        assert sorted(tree(there)) == sorted(tree(here))
        assert live.status().conflicts == ()
    assert sorted(tree(folders.host)) == ["host.py", "laptop.py"]


def test_a_file_that_becomes_empty_is_given_time(folders: Folders, live: Sync) -> None:
    """Jupyter truncates, then writes: the moment between must never be synced."""
    notebook = folders.host / "a.ipynb"
    notebook.write_text("cells")
    copy = folders.laptop / "a.ipynb"
    eventually(copy.exists)
    with notebook.open("w") as file:
        file.flush()
        live.flush(10)
        assert copy.read_text() == "cells"
        file.write("more cells")
    eventually(lambda: copy.read_text() == "more cells")
    assert trash(folders.laptop) == {b"cells"}


def test_jupyter_save_racing_our_replace(folders: Folders, live: Sync) -> None:
    """The host saves in place, again and again, while the laptop edits the same notebook."""
    notebook = folders.host / "a.ipynb"
    copy = folders.laptop / "a.ipynb"
    notebook.write_text("start")
    eventually(copy.exists)
    written = {"start"}
    for number in range(40):
        for path, text in ((notebook, f"host {number}"), (copy, f"laptop {number}")):
            path.write_text(text)
            written.add(text)
        time.sleep(random.random() * 0.03)
    settled(live)
    conflicts = live.status().conflicts
    ends = {notebook.read_text(), copy.read_text()}
    if not conflicts:
        assert len(ends) == 1
    # Every version is in a tree or in a trash, or its own author wrote over it before it was seen.
    assert ends <= {"host 39", "laptop 39"}
    for thrown in trash(folders.laptop) | trash(folders.host):
        assert thrown.decode() in written


def test_append_only_log(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that stays open is followed, and its writer never loses its file."""
    monkeypatch.setattr(hints, "WRITER_S", 0.3)
    live = folders.live()
    log = folders.host / "train.log"
    copy = folders.laptop / "train.log"
    with log.open("a", buffering=1) as file:
        inode = os.fstat(file.fileno()).st_ino
        for number in range(30):
            file.write(f"epoch {number}\n")
            time.sleep(0.01)
        eventually(lambda: copy.exists() and copy.read_text() == log.read_text())
        file.write("last\n")
        eventually(lambda: copy.read_text().endswith("last\n"))
    assert log.stat().st_ino == inode
    assert live.status().conflicts == ()


def test_a_file_that_is_open_for_writing_is_not_replaced(folders: Folders, live: Sync) -> None:
    log = folders.host / "train.log"
    log.write_text("epoch 1\n")
    copy = folders.laptop / "train.log"
    eventually(copy.exists)
    with log.open("a") as file:
        copy.write_text("edited on the laptop")
        live.flush(10)
        assert live.status().pending == 1
        assert log.read_text() == "epoch 1\n"
        del file
    eventually(lambda: log.read_text() == "edited on the laptop")


def test_a_checkpoint_in_mid_write_is_not_sent(folders: Folders, live: Sync) -> None:
    checkpoint = folders.host / "model.pt"
    copy = folders.laptop / "model.pt"
    piece = os.urandom(1 << 20)
    with checkpoint.open("wb") as file:
        for _ in range(12):
            file.write(piece)
            file.flush()
        live.flush(10)
        status = live.status()
        assert {item.key: item.issue for item in status.frozen} == {"model.pt": Issue.UNSTABLE}
        assert not copy.exists()
        for _ in range(12):
            file.write(piece)
    eventually(lambda: copy.exists() and copy.stat().st_size == 24 << 20)
    assert copy.read_bytes() == piece * 24
    assert live.status().frozen == ()


def test_a_1_gb_checkpoint_in_mid_write_on_the_host(folders: Folders, live: Sync) -> None:
    """Above the limit it is neither read nor sent, however long it is being written."""
    checkpoint = folders.host / "checkpoint.pt"
    with checkpoint.open("wb") as file:
        for size in (200 << 20, 600 << 20, 1 << 30):
            file.truncate(size)
            file.seek(size - 1)
            file.write(b"1")
            file.flush()
            live.flush(10)
            assert not (folders.laptop / "checkpoint.pt").exists()
    (folders.host / "metrics.json").write_text("{}")
    eventually((folders.laptop / "metrics.json").exists)
    assert [item.key for item in settled(live).left_out] == ["checkpoint.pt"]
    assert os.listdir(folders.laptop / ".remotedl" / "staging") == []


def test_inotify_overflow(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 creates while nobody reads the kernel's queue: it overflows, and nothing is missed."""
    gate = threading.Event()
    gate.set()
    overflows: list[int] = []
    real = inotify.Watcher._event

    def slow(watcher: inotify.Watcher, number: int, mask: int, name: str) -> None:
        gate.wait(60)
        overflows.append(mask & inotify.IN_Q_OVERFLOW)
        real(watcher, number, mask, name)

    monkeypatch.setattr(inotify.Watcher, "_event", slow)
    live = folders.live()
    here, there = folders.host, folders.laptop
    (here / "many").mkdir()
    settled(live)
    gate.clear()
    for number in range(20_000):
        os.close(os.open(here / "many" / f"f{number}", os.O_CREAT | os.O_WRONLY))
    (here / "after").write_text("no event tells of this")
    gate.set()
    eventually(lambda: any(overflows), 30)
    eventually((there / "after").exists, 40)
    eventually(lambda: len(os.listdir(there / "many")) == 20_000, 40)


def test_watch_limit(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives no further watch: it is said, with the knob, and polled."""
    import errno

    from remotedl.sync.agent import follow

    monkeypatch.setattr(follow, "POLL_S", 0.2)
    real = inotify._libc()

    class Limited:
        left = 3

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def inotify_add_watch(self, *args: object) -> int:
            import ctypes

            if self.left <= 0:
                ctypes.set_errno(errno.ENOSPC)
                return -1
            self.left -= 1
            return int(real.inotify_add_watch(*args))

    limited = Limited()
    monkeypatch.setattr(inotify, "_libc", lambda: limited)
    for number in range(8):
        (folders.laptop / f"dir{number}").mkdir()
    sync = folders.live()
    status = sync.status()
    assert "fs.inotify.max_user_watches" in status.laptop_watching + status.remote_watching
    (folders.host / "dir7" / "new").write_text("unseen by any watch")
    (folders.laptop / "dir6" / "new").write_text("unseen by any watch")
    eventually(equal(folders))
    assert (folders.laptop / "dir7" / "new").exists()


def test_instance_limit(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    from remotedl.sync.agent import follow

    monkeypatch.setattr(follow, "POLL_S", 0.2)

    class Refusing:
        def __init__(self, root: str, tell: object) -> None:
            raise inotify.Unwatchable(24, "fs.inotify.max_user_instances")

    monkeypatch.setattr(inotify, "Watcher", Refusing)
    sync = folders.live()
    assert sync.status().laptop_watching == "poll: fs.inotify.max_user_instances"
    assert sync.status().remote_watching == "poll: fs.inotify.max_user_instances"
    (folders.host / "new").write_text("host's")
    (folders.laptop / "new2").write_text("laptop's")
    eventually(equal(folders))


def test_ignored_dirs_are_not_watched(folders: Folders) -> None:
    for number in range(50):
        (folders.laptop / ".venv" / f"lib{number}").mkdir(parents=True)
    (folders.laptop / "src").mkdir()
    seen: list[str] = []
    sync = folders.make(watch=True)
    sync.open()
    follower = sync._pair.follower
    seen = list(follower._watch._watches)
    assert sorted(seen) == ["", ".remotedl", "src"]


def test_ignored_dir_made_later_is_neither_watched_nor_synced(folders: Folders, live: Sync) -> None:
    cache = folders.host / "src" / "__pycache__"
    cache.mkdir(parents=True)
    (cache / "a.pyc").write_text("compiled")
    eventually(lambda: (folders.laptop / "src").is_dir())
    live.flush(10)
    assert not (folders.laptop / "src" / "__pycache__").exists()
    assert (cache / "a.pyc").exists()


def test_reads_cause_no_events(folders: Folders, live: Sync) -> None:
    for number in range(20):
        (folders.laptop / f"f{number}").write_text("x" * 1000)
    settled(live)
    follower = live._pair.follower
    heard: list[str] = []
    real = follower._watch._tell
    follower._watch._tell = lambda path, hint: (heard.append(path), real(path, hint))
    for side in (folders.laptop, folders.host):
        for path in side.iterdir():
            if path.is_file():
                path.read_text()
    live.cycle()
    live.cycle()
    assert heard == []


def test_an_idle_cycle_costs_nothing(folders: Folders) -> None:
    """No writes, no events, next to no CPU, on either side."""
    for number in range(200):
        path = folders.laptop / f"d{number % 20}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    old = time.time() - 100
    sync = folders.live()
    settled(sync)
    eventually(lambda: not sync._pair.replica.scanner.again, 10)
    agent_rests = threading.Event()
    threading.Timer(2.5, agent_rests.set).start()
    agent_rests.wait()
    before = _stamps(folders)
    used = resource.getrusage(resource.RUSAGE_SELF)
    threading.Event().wait(2)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert _stamps(folders) == before, "something was written"
    spent = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    assert spent < 0.04, "both sides together, in this one process, over 2 s"
    assert old < time.time()


def _stamps(folders: Folders) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns)
        for path in folders.base.rglob("*")
    }


def test_while_paused_nothing_moves_and_what_waits_is_said(folders: Folders, live: Sync) -> None:
    for number in range(4):
        (folders.laptop / f"f{number}").write_text("one")
    settled(live)
    before = tree(folders.host)
    live.pause()
    assert len(live.plan().to_remote) == 0
    (folders.laptop / "f0").write_text("edited")
    (folders.host / "f2").write_text("edited")
    plan = live.plan()
    assert [op.key for op in plan.to_remote] == ["f0"], "a plan is made of what is there now"
    assert [op.key for op in plan.to_laptop] == ["f2"]
    (folders.laptop / "f1").unlink()
    eventually(lambda: live.status().pending == 3)
    for refused in (live.flush, live.cycle, live.undo):
        with pytest.raises(SyncPaused) as paused:
            refused()
        assert paused.value.hint == "remotedl sync resume"
    assert tree(folders.host) == {**before, "f2": "- b'edited'"}
    assert (folders.laptop / "f2").read_text() == "one"
    live.resume()
    assert live.flush(10).clean
    assert live.status().pending == 0
    folders.assert_equal()


def test_deletes_while_paused_are_seen_on_resume(folders: Folders, live: Sync) -> None:
    (folders.laptop / "a").write_text("one")
    (folders.laptop / "b").write_text("two")
    settled(live)
    live.pause()
    (folders.laptop / "a").unlink()
    (folders.host / "b").write_text("edited")
    threading.Event().wait(0.4)
    assert (folders.host / "a").exists()
    assert (folders.laptop / "b").read_text() == "two"
    live.resume()
    eventually(equal(folders))
    assert not (folders.host / "a").exists()


def test_flush_proves_that_what_was_removed_is_gone_too(folders: Folders) -> None:
    for side in (folders.laptop, folders.host):
        for number in range(10):
            (side / f"{side.name}-{number}").write_text("one")
    sync = folders.live()
    sync.flush()
    folders.assert_equal()
    for here, there in ((folders.laptop, folders.host), (folders.host, folders.laptop)):
        for number in range(10):
            (here / f"{here.name}-{number}").unlink()
            assert sync.flush().clean
            assert not (there / f"{here.name}-{number}").exists()
