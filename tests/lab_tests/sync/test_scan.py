"""What a scan must see, must not see, and must not be fooled by. On real files."""

from __future__ import annotations

import errno
import os
import socket
import time
from io import BufferedReader
from pathlib import Path, PurePath

import pytest

from remotedl.config.below import Below
from remotedl.errors import FolderUnusable
from remotedl.sync.agent.disk import Disk
from remotedl.sync.agent.tree import Issue
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import AgentInThread, Folders, eventually, tree
from tests.lab_tests.sync.test_roots import Warnings


def test_same_size_and_mtime_other_content(folders: Folders) -> None:
    path = folders.laptop / "a"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    folders.once()
    path.write_text("two")
    os.utime(path, ns=(10**18, 10**18))
    folders.once()
    assert (folders.host / "a").read_text() == "two"


def test_same_size_and_mtime_by_another_inode(folders: Folders) -> None:
    path = folders.laptop / "a"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    folders.once()
    other = folders.base / "other"
    other.write_text("two")
    os.utime(other, ns=(10**18, 10**18))
    other.rename(path)
    folders.once()
    assert (folders.host / "a").read_text() == "two"


def test_many_writes_within_one_tick_of_the_clock(folders: Folders) -> None:
    path = folders.laptop / "a"
    sync = folders.open()
    for number in range(60):
        path.write_text(f"{number:03}")
        sync.cycle()
        assert (folders.host / "a").read_text() == f"{number:03}"


@pytest.mark.parametrize("shift", [-10 * 365 * 86400, 10 * 365 * 86400])
def test_clock_skew(make_folders: MakeFolders, shift: float) -> None:
    """The host's clock is years off: what is new there is still seen, and nothing is read twice."""

    class Skewed(Disk):
        def now(self) -> float:
            return time.time() + shift

    folders = make_folders(remote=AgentInThread(Skewed()))
    (folders.laptop / "a").write_text("one")
    folders.once()
    (folders.host / "a").write_text("two")
    os.utime(folders.host / "a", (time.time() + shift, time.time() + shift))
    folders.once()
    assert (folders.laptop / "a").read_text() == "two"
    assert folders.once().idle


def test_mtime_going_back(folders: Folders) -> None:
    (folders.laptop / "a").write_text("one")
    folders.once()
    (folders.laptop / "a").write_text("older")
    os.utime(folders.laptop / "a", (0, 0))
    folders.once()
    assert (folders.host / "a").read_text() == "older"


@pytest.mark.parametrize("side", ["laptop", "host"])
@pytest.mark.parametrize("year", [-5000, 1500, 2300, 100_000_000])
def test_any_mtime_passes(folders: Folders, side: str, year: int) -> None:
    """64 bits of nanoseconds end in 2262; those of seconds do not."""
    path = getattr(folders, side) / "odd"
    sync = folders.live()
    path.write_text("1")
    os.utime(path, ns=(0, (year - 1970) * 31_556_952 * 10**9))
    assert sync.flush(10).clean
    folders.close()
    path.write_text("2")
    os.utime(path, ns=(0, (year - 1970) * 31_556_952 * 10**9))
    folders.once()
    folders.assert_equal()
    assert folders.once().idle and not folders.run_errors


def test_a_sparse_file_of_any_size_is_listed(folders: Folders) -> None:
    with open(folders.host / "huge", "wb") as file:
        try:
            file.truncate(1 << 60)
        except OSError as exc:
            pytest.skip(f"no such file here: {exc}")
    (folders.host / "small").write_text("1")
    outcome = folders.once()
    assert [left.key for left in outcome.left_out] == ["huge"]
    assert tree(folders.laptop) == {"small": "- b'1'"}


def test_mtimes_are_not_synced(folders: Folders) -> None:
    (folders.laptop / "a").write_text("one")
    os.utime(folders.laptop / "a", (1000, 1000))
    folders.once()
    assert (folders.host / "a").stat().st_mtime > time.time() - 100


def test_fifos_and_sockets_are_left_out(folders: Folders) -> None:
    for side in (folders.laptop, folders.host):
        (side / "dir").mkdir()
        os.mkfifo(side / "dir" / f"fifo-{side.name}")
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(side / "dir" / f"socket-{side.name}"))
        (side / "dir" / f"file-{side.name}").write_text("file")
    outcome = folders.once()
    assert {item.issue for item in outcome.frozen} == {Issue.UNSUPPORTED}
    assert len(outcome.frozen) == 4
    for side in (folders.laptop, folders.host):
        assert (side / "dir" / "file-laptop").read_text() == "file"
        assert (side / "dir" / "file-host").read_text() == "file"
    assert not (folders.laptop / "dir" / "fifo-host").exists()


@pytest.mark.lab
def test_device_nodes_are_left_out(folders: Folders) -> None:
    try:
        os.mknod(folders.host / "null", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this machine lets nobody make device nodes")
    (folders.host / "file").write_text("file")
    assert {item.key: item.issue for item in folders.once().frozen} == {"null": Issue.UNSUPPORTED}
    assert sorted(tree(folders.laptop)) == ["file"]


def test_a_fifo_in_place_of_a_file_does_not_block(folders: Folders) -> None:
    (folders.laptop / "a").write_text("one")
    folders.once()
    (folders.host / "a").unlink()
    os.mkfifo(folders.host / "a")
    outcome = folders.once()
    assert {item.key: item.issue for item in outcome.frozen} == {"a": Issue.UNSUPPORTED}
    assert (folders.laptop / "a").read_text() == "one"


def test_hard_links_become_files_of_their_own(folders: Folders) -> None:
    (folders.laptop / "a").write_text("one")
    os.link(folders.laptop / "a", folders.laptop / "b")
    folders.once()
    assert (folders.host / "a").read_text() == (folders.host / "b").read_text() == "one"
    (folders.laptop / "b").write_text("two")
    folders.once()
    assert (folders.host / "a").read_text() == (folders.host / "b").read_text() == "two"
    (folders.host / "a").write_text("three")
    folders.once()
    assert (folders.laptop / "a").read_text() == "three"
    assert (folders.laptop / "b").read_text() == "two"


def test_sparse_files_arrive_whole(folders: Folders) -> None:
    with (folders.laptop / "sparse").open("wb") as file:
        file.truncate(6 << 20)
        file.seek(3 << 20)
        file.write(b"data")
    folders.once()
    assert (folders.host / "sparse").read_bytes() == (folders.laptop / "sparse").read_bytes()


def test_depth_100(folders: Folders) -> None:
    deep = folders.laptop.joinpath(*["d"] * 100)
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    folders.once()
    copy = folders.host.joinpath(*["d"] * 100) / "file"
    assert copy.read_text() == "deep"
    copy.write_text("edited")
    folders.once()
    assert (deep / "file").read_text() == "edited"


@pytest.mark.timeout(120)
def test_100_000_files(folders: Folders) -> None:
    """They are scanned, agreed on and told; content is the same on both sides already."""
    for side in (folders.laptop, folders.host):
        for folder in range(400):
            place = side / f"dir{folder:03}"
            place.mkdir()
            for number in range(250):
                os.close(os.open(place / f"f{number}", os.O_CREAT | os.O_WRONLY))
    (folders.laptop / "dir000" / "f0").write_text("edited")
    (folders.host / "dir399" / "new").write_text("new")
    outcome = folders.once()
    assert [conflict.key for conflict in outcome.conflicts] == ["dir000/f0"]
    assert (folders.laptop / "dir399" / "new").read_text() == "new"
    sync = folders.open()
    assert sync.cycle().pending == 0
    assert sync.status().files >= 100_000


def test_a_live_session_holds_equal_trees_once(folders: Folders) -> None:
    """Entries and keys of both sides and of what they agreed on are the same objects."""
    for number in range(50):
        (folders.laptop / f"f{number}").write_text(str(number))
    folders.once()
    (folders.laptop / "f0").write_text("edited meanwhile")
    sync = folders.live()
    eventually(lambda: sync._pair.replica.scanner.tree["f7"] is sync._pair.ancestor["f7"])
    pair = sync._pair
    here, there = pair.replica.scanner.tree, pair.picture.tree
    keys = {key: key for key in pair.ancestor}
    assert all(keys[key] is key and here[key] is pair.ancestor[key] for key in here)
    assert all(there[key] is pair.ancestor[key] for key in there if key != "f0")
    (folders.host / "f1").write_text("edited")
    eventually(lambda: (folders.laptop / "f1").read_text() == "edited")
    assert folders.base and sync.flush(10).clean
    folders.assert_equal()


def test_ignore_rules_added_and_removed(folders: Folders) -> None:
    for name in ("a.log", "b.txt", "build/x", "build/y.log"):
        (folders.laptop / name).parent.mkdir(exist_ok=True)
        (folders.laptop / name).write_text(name)
    folders.once()
    folders.assert_equal()
    (folders.laptop / ".remotedlignore").write_text("*.log\nbuild/\n")
    folders.once()
    assert (folders.host / "a.log").exists(), "newly ignored is forgotten, not deleted"
    assert (folders.host / "build" / "x").exists()
    (folders.laptop / "a.log").write_text("edited")
    (folders.host / "build" / "x").unlink()
    folders.once()
    assert (folders.host / "a.log").read_text() == "a.log"
    assert (folders.laptop / "build" / "x").exists()
    (folders.laptop / ".remotedlignore").unlink()
    outcome = folders.once()
    assert [conflict.key for conflict in outcome.conflicts] == ["a.log"]
    assert (folders.host / "build" / "x").read_text() == "build/x"


def test_ignore_rules_change_while_live(folders: Folders) -> None:
    (folders.laptop / "a.log").write_text("one")
    sync = folders.live()
    (folders.laptop / ".remotedlignore").write_text("*.log\n")
    sync.flush(10)
    (folders.laptop / "a.log").write_text("two")
    (folders.laptop / "b.log").write_text("two")
    (folders.laptop / "c").write_text("three")
    sync.flush(10)
    assert (folders.host / "a.log").read_text() == "one"
    assert not (folders.host / "b.log").exists()
    assert (folders.host / "c").read_text() == "three"
    (folders.laptop / ".remotedlignore").write_text("# nothing\n")
    sync.flush(10)
    assert (folders.host / "b.log").read_text() == "two"


class Unreadable:
    """The disk fails where one file is read (for root, modes forbid nothing)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
        self.now = True
        read = Below.read

        def read_or_fail(below: Below, relative: PurePath | str) -> BufferedReader:
            if self.now and PurePath(relative).name == PurePath(name).name:
                raise OSError(number, os.strerror(number))
            return read(below, relative)

        monkeypatch.setattr(Below, "read", read_or_fail)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("name", [".remotedlignore", "sub/.gitignore"])
def test_ignore_rules_that_cannot_be_read_are_not_no_rules(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    (folders.laptop / "sub").mkdir()
    (folders.laptop / name).write_text("secret\n")
    (folders.laptop / "sub" / "secret").write_text("not to be sent")
    config = folders.config.model_copy(update={"use_gitignore": True})
    broken = Unreadable(monkeypatch, Path(name).name, number)
    with pytest.raises(FolderUnusable, match="cannot be read") as refused:
        folders.once(config=config)
    assert refused.value.hint == f"chmod u+r {folders.laptop / name}"
    assert tree(folders.host) == {}
    broken.now = False
    folders.once(config=config)
    assert "sub/secret" not in tree(folders.host)


def test_ignore_rules_that_cannot_be_read_any_more_still_hold(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = folders.laptop / ".remotedlignore"
    rules.write_text("secret\n")
    told = Warnings()
    sync = folders.live(report=told)
    broken = Unreadable(monkeypatch, ".remotedlignore", errno.EIO)
    rules.write_text("secret\nmore\n")
    (folders.laptop / "secret").write_text("not to be sent")
    sync.flush()
    rules.write_text("secret\nmore\n\n")
    (folders.laptop / "more").touch()
    sync.flush()
    assert tree(folders.host).keys() == {".remotedlignore", "more"}
    assert len(told.told) == 1 and "the last rules hold" in told.told[0][0]
    broken.now = False
    (folders.laptop / "any").touch()
    sync.flush()
    (folders.laptop / "more").write_text("ignored by now")
    sync.flush()
    assert (folders.host / "more").read_text() == ""


def test_gitignore_is_honoured_when_asked_for(folders: Folders) -> None:
    (folders.laptop / "sub").mkdir()
    (folders.laptop / ".gitignore").write_text("*.bin\n")
    (folders.laptop / "sub" / ".gitignore").write_text("data/\n!keep.bin\n")
    (folders.laptop / "sub" / "data").mkdir()
    for name in ("a.bin", "sub/keep.bin", "sub/data/x", "c"):
        (folders.laptop / name).write_text(name)
    config = folders.config.model_copy(update={"use_gitignore": True})
    folders.once(config=config)
    assert sorted(tree(folders.host)) == [
        ".gitignore",
        "c",
        "sub",
        "sub/.gitignore",
        "sub/keep.bin",
    ]


def test_ignored_data_is_never_read(make_folders: MakeFolders) -> None:
    class Watchful(Disk):
        touched: list[str] = []  # noqa: RUF012

        def open(self, name: str, flags: int, at: object, mode: int = 0o600) -> int:
            self.touched.append(name)
            return super().open(name, flags, at, mode)  # type: ignore[arg-type]

        def open_dir(self, name: str, at: object) -> object:
            self.touched.append(name)
            return super().open_dir(name, at)  # type: ignore[arg-type]

    disk = Watchful()
    folders = make_folders()
    for name in (".venv/lib/a.py", "src/__pycache__/a.pyc", "src/a.py", ".git/config"):
        (folders.laptop / name).parent.mkdir(parents=True, exist_ok=True)
        (folders.laptop / name).write_text(name)
    folders.once(disk=disk)
    assert not {".venv", "__pycache__", "a.pyc", ".git"} & set(disk.touched)
    assert "a.py" in disk.touched
    assert sorted(tree(folders.host)) == ["src", "src/a.py"]


def test_files_above_the_limit_stay_on_the_host_and_are_listed(folders: Folders) -> None:
    (folders.host / "model.pt").write_bytes(bytes(200_000))
    (folders.host / "small").write_bytes(b"small")
    config = folders.config.model_copy(update={"max_file_size_down": 100_000})
    outcome = folders.once(config=config)
    assert [item.key for item in outcome.left_out] == ["model.pt"]
    assert sorted(tree(folders.laptop)) == ["small"]


def test_a_big_file_that_both_sides_hold_is_adopted(folders: Folders) -> None:
    """Above the limit nothing is read on the host, unless the laptop has the same path."""
    for side in (folders.laptop, folders.host):
        (side / "model.pt").write_bytes(bytes(200_000))
    config = folders.config.model_copy(update={"max_file_size_down": 100_000})
    assert folders.once(config=config).conflicts == ()
    (folders.laptop / "model.pt").write_bytes(bytes(200_001))
    folders.once(config=config)
    assert (folders.host / "model.pt").stat().st_size == 200_001
    (folders.host / ".remotedl" / "cache").unlink()
    (folders.laptop / "model.pt").write_bytes(bytes(200_002))
    folders.once(config=config)
    assert (folders.host / "model.pt").stat().st_size == 200_002


@pytest.mark.lab
def test_another_filesystem_inside_is_left_alone(folders: Folders) -> None:
    import subprocess

    (folders.host / "mnt").mkdir()
    (folders.laptop / "a").write_text("one")
    folders.once()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folders.host / "mnt")], check=True)
    try:
        (folders.host / "mnt" / "file").write_text("elsewhere")
        outcome = folders.once()
    finally:
        subprocess.run(["umount", str(folders.host / "mnt")], check=True)
    assert {item.key: item.issue for item in outcome.frozen} == {"mnt": Issue.MOUNTPOINT}
    assert sorted(tree(folders.laptop)) == ["a", "mnt"]


def test_what_the_users_crash_zeroed_is_not_passed_on(folders: Folders) -> None:
    """An edit that never reached the laptop's disk must not destroy the host's good copy."""
    from tests.lab_tests.sync.disks import RebootedDisk

    thesis = folders.laptop / "thesis.tex"
    thesis.write_text("a hundred pages")
    (folders.laptop / "other").write_text("one")
    folders.once()
    thesis.write_bytes(bytes(15))
    (folders.laptop / "other").write_text("two")
    long_ago = time.time() - 3600
    os.utime(thesis, (long_ago, long_ago))
    outcome = folders.once(disk=RebootedDisk())
    assert (folders.host / "thesis.tex").read_text() == "a hundred pages"
    assert (folders.host / "other").read_text() == "two"
    assert [item.key for item in outcome.frozen] == ["thesis.tex"]
    thesis.write_text("written anew")
    folders.once()
    assert (folders.host / "thesis.tex").read_text() == "written anew"


@pytest.mark.parametrize("content", [b"", bytes(15)], ids=["empty", "zeros"])
@pytest.mark.parametrize("side", ["laptop", "host"])
def test_what_a_crash_zeroed_is_known_without_any_cache(
    make_folders: MakeFolders, side: str, content: bytes
) -> None:
    """A crash comes before the picture is saved: what both sides agreed on says enough."""
    from tests.lab_tests.sync.disks import RebootedDisk

    folders = make_folders()
    here, there = folders.laptop, folders.host
    disk: Disk | None = RebootedDisk()
    if side == "host":
        here, there = there, here
    (here / "thesis.tex").write_text("a hundred pages")
    (here / "empty").touch()
    folders.once()
    (here / ".remotedl" / "cache").unlink()
    (here / "thesis.tex").write_bytes(content)
    long_ago = time.time() - 3600
    os.utime(here / "thesis.tex", (long_ago, long_ago))
    (there / "other").write_text("goes on")
    for _ in range(2):
        if side == "host":
            folders.remote, disk = AgentInThread(RebootedDisk()), None
        outcome = folders.once(disk=disk)
        assert {item.key: item.issue for item in outcome.frozen} == {"thesis.tex": Issue.ZEROED}
        assert (there / "thesis.tex").read_text() == "a hundred pages"
        assert (here / "other").read_text() == "goes on"
    (here / "thesis.tex").write_text("written anew")
    assert not folders.once(disk=disk).frozen
    assert (there / "thesis.tex").read_text() == "written anew"
    (here / "thesis.tex").write_bytes(content)
    os.utime(here / "thesis.tex", (time.time() - 10, time.time() - 10))
    assert not folders.once(disk=disk).frozen, "in the same run of the machine it is an edit"
    assert (there / "thesis.tex").read_bytes() == content


def test_same_size_and_mtime_above_the_limit_is_no_proof(folders: Folders) -> None:
    """Nothing was ever agreed on, and both sides hold a big file that looks the same."""
    for side, byte in ((folders.laptop, b"1"), (folders.host, b"2")):
        (side / "model.pt").write_bytes(byte * 200_000)
        os.utime(side / "model.pt", ns=(10**18, 10**18))
    config = folders.config.model_copy(update={"max_file_size_down": 100_000})
    for _ in range(2):
        outcome = folders.once(config=config)
        assert [conflict.key for conflict in outcome.conflicts] == ["model.pt"]
    assert (folders.laptop / "model.pt").read_bytes() == b"1" * 200_000
    assert (folders.host / "model.pt").read_bytes() == b"2" * 200_000


def test_env_is_left_out_only_where_it_holds_a_python_environment(folders: Folders) -> None:
    (folders.laptop / "env").mkdir()
    (folders.laptop / "env" / "gym.py").write_text("an environment of another kind")
    (folders.laptop / "node_modules").mkdir()
    (folders.laptop / "node_modules" / "x.js").touch()
    sync = folders.live()
    assert tree(folders.host).keys() == {"env", "env/gym.py"}
    (folders.laptop / "env" / "pyvenv.cfg").touch()
    (folders.laptop / "env" / "python").touch()
    sync.flush()
    assert "env/python" not in tree(folders.host)
    assert (folders.host / "env" / "gym.py").exists(), "newly ignored: forgotten, not deleted"
