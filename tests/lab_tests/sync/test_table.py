"""The reconciliation table on real files: what each side ends with, and what is in its trash."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from remotedl.config.models import SyncMode
from remotedl.sync.lanes import Choice
from tests.lab_tests.sync.folders import Folders, trash, tree

Way = tuple[Path, Path]


@pytest.fixture(params=["from the laptop", "from the host"])
def way(request: pytest.FixtureRequest, folders: Folders) -> Way:
    """The side that is edited, and the other one."""
    if request.param == "from the laptop":
        return folders.laptop, folders.host
    return folders.host, folders.laptop


def agree(folders: Folders, files: dict[str, str]) -> None:
    """Both sides hold these files, and know it of each other."""
    for name, text in files.items():
        path = folders.laptop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert folders.once().pending == 0
    folders.assert_equal()


def test_new_file_is_copied(folders: Folders, way: Way) -> None:
    here, there = way
    (here / "dir").mkdir()
    (here / "dir" / "new").write_text("text")
    (here / "empty").write_text("")
    (here / "hollow").mkdir()
    folders.once()
    assert (there / "dir" / "new").read_text() == "text"
    folders.assert_equal()


def test_edit_is_copied_and_the_old_version_is_in_the_trash(folders: Folders, way: Way) -> None:
    agree(folders, {"a": "one"})
    here, there = way
    (here / "a").write_text("two")
    folders.once()
    assert (there / "a").read_text() == "two"
    assert trash(there) == {b"one"}
    assert trash(here) == set()


@pytest.mark.parametrize("kinds", [400, 2], ids=["all different", "many twins"])
def test_first_copy_of_files_that_fill_the_memory(folders: Folders, kinds: int) -> None:
    for number in range(400):
        text = bytes([number % kinds % 256, number % kinds // 256]) * 50_000
        (folders.laptop / f"f{number}").write_bytes(text)
    folders.once()
    folders.assert_equal()


def test_identical_edits_are_adopted(folders: Folders) -> None:
    agree(folders, {"a": "one"})
    (folders.laptop / "a").write_text("two")
    (folders.host / "a").write_text("two")
    outcome = folders.once()
    assert outcome.idle
    assert not outcome.conflicts
    assert trash(folders.laptop) == trash(folders.host) == set()


def test_edit_on_both_sides_is_a_conflict_and_both_versions_stay(folders: Folders) -> None:
    agree(folders, {"a": "one"})
    (folders.laptop / "a").write_text("laptop's")
    (folders.host / "a").write_text("host's")
    outcome = folders.once()
    assert [conflict.key for conflict in outcome.conflicts] == ["a"]
    assert (folders.laptop / "a").read_text() == "laptop's"
    assert (folders.host / "a").read_text() == "host's"


@pytest.mark.parametrize("choice", list(Choice))
def test_conflict_is_resolved_and_no_version_is_lost(folders: Folders, choice: Choice) -> None:
    agree(folders, {"a": "one"})
    (folders.laptop / "a").write_text("laptop's")
    (folders.host / "a").write_text("host's")
    sync = folders.open()
    sync.cycle()
    sync.resolve("a", choice)
    sync.cycle()
    assert sync.status().conflicts == ()
    folders.assert_equal()
    kept = {text.partition(" ")[2] for text in tree(folders.laptop).values()}
    thrown = trash(folders.laptop) | trash(folders.host)
    assert {'b"laptop\'s"', 'b"host\'s"'} <= kept | {repr(data) for data in thrown}
    expected = {Choice.LAPTOP: "laptop's", Choice.REMOTE: "host's", Choice.BOTH: "laptop's"}
    assert (folders.laptop / "a").read_text() == expected[choice]


def test_conflict_is_resolved_by_deleting_the_loser(folders: Folders) -> None:
    agree(folders, {"a": "one"})
    (folders.laptop / "a").write_text("laptop's")
    (folders.host / "a").write_text("host's")
    folders.once()
    (folders.host / "a").unlink()
    assert folders.once().conflicts == ()
    assert (folders.host / "a").read_text() == "laptop's"


def test_delete_goes_to_the_trash_of_the_other_side(folders: Folders, way: Way) -> None:
    agree(folders, {"a": "one", "b": "two"})
    here, there = way
    (here / "a").unlink()
    folders.once()
    assert not (there / "a").exists()
    assert trash(there) == {b"one"}


def test_edit_against_delete_the_edit_wins(folders: Folders, way: Way) -> None:
    agree(folders, {"a": "one", "b": ""})
    here, there = way
    (here / "a").unlink()
    (there / "a").write_text("edited")
    folders.once()
    assert (here / "a").read_text() == "edited"
    folders.assert_equal()


def test_delete_of_a_dir_bottom_up(folders: Folders, way: Way) -> None:
    agree(folders, {"d/e/f/a": "1", "d/e/b": "2", "d/c": "3", "keep": ""})
    here, there = way
    shutil.rmtree(here / "d")
    folders.once()
    assert sorted(tree(there)) == ["keep"]
    assert trash(there) == {b"1", b"2", b"3"}


def test_delete_of_a_dir_against_work_inside_keeps_the_work_alone(
    folders: Folders, way: Way
) -> None:
    agree(folders, {"d/e/a": "1", "d/b": "2", "d/f/c": "3", "d/e/g": "4", "keep": ""})
    here, there = way
    shutil.rmtree(here / "d")
    (there / "d" / "e" / "new").write_text("5")
    (there / "d" / "e" / "g").write_text("6")
    told = folders.once().notices
    folders.assert_equal()
    assert sorted(tree(here)) == ["d", "d/e", "d/e/g", "d/e/new", "keep"]
    assert trash(there) == {b"1", b"2", b"3"}
    assert len(told) == 1 and "'d/e/g', 'd/e/new'" in told[0]
    assert folders.once().notices == ()


def test_deleted_dir_with_ignored_content_keeps_that(folders: Folders, way: Way) -> None:
    agree(folders, {"d/e/a": "1", "d/b": "2", "keep": ""})
    here, there = way
    (there / "d" / "__pycache__").mkdir()
    (there / "d" / "__pycache__" / "x.pyc").write_text("compiled")
    shutil.rmtree(here / "d")
    folders.once()
    assert sorted(tree(there)) == ["d", "d/__pycache__", "d/__pycache__/x.pyc", "keep"]
    assert folders.once().idle
    assert not (here / "d").exists()


def _file(path: Path) -> None:
    path.write_text("a file")


def _dir(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("inside")


def _link(path: Path) -> None:
    path.symlink_to("somewhere")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


KINDS: dict[str, Callable[[Path], None]] = {"file": _file, "dir": _dir, "link": _link}


@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("old", KINDS)
def test_file_dir_link_swaps(folders: Folders, way: Way, old: str, new: str) -> None:
    if old == new:
        return
    here, there = way
    KINDS[old](here / "x")
    folders.once()
    folders.assert_equal()
    _remove(here / "x")
    KINDS[new](here / "x")
    assert folders.once().pending == 0
    folders.assert_equal()
    assert sorted(tree(there)) == (["x", "x/inside"] if new == "dir" else ["x"])


def test_kind_changed_against_an_edit_is_a_conflict(folders: Folders, way: Way) -> None:
    agree(folders, {"x": "one"})
    here, there = way
    (here / "x").unlink()
    _dir(here / "x")
    (there / "x").write_text("edited")
    assert [conflict.key for conflict in folders.once().conflicts] == ["x"]
    assert (there / "x").read_text() == "edited"
    assert (here / "x" / "inside").read_text() == "inside"


def test_chmod_only(folders: Folders, way: Way) -> None:
    agree(folders, {"run.sh": "#!/bin/sh"})
    here, there = way
    (here / "run.sh").chmod(0o755)
    before = (there / "run.sh").stat()
    folders.once()
    after = (there / "run.sh").stat()
    assert after.st_mode & 0o111 == 0o111
    assert after.st_ino == before.st_ino, "the content was not written again"
    (here / "run.sh").chmod(0o644)
    folders.once()
    assert (there / "run.sh").stat().st_mode & 0o111 == 0


def test_chmod_here_and_edit_there_are_merged(folders: Folders, way: Way) -> None:
    agree(folders, {"run.sh": "one"})
    here, there = way
    (here / "run.sh").chmod(0o755)
    (there / "run.sh").write_text("two")
    assert folders.once().conflicts == ()
    folders.assert_equal()
    assert tree(here)["run.sh"] == "x b'two'"


def test_a_replaced_file_keeps_its_mode(folders: Folders, way: Way) -> None:
    agree(folders, {"a": "one"})
    here, there = way
    (there / "a").chmod(0o640)
    (here / "a").write_text("two")
    folders.once()
    assert (there / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.lab
def test_a_replaced_file_keeps_its_owner(folders: Folders, way: Way) -> None:
    agree(folders, {"a": "one"})
    here, there = way
    os.chown(there / "a", 12345, 23456)
    (here / "a").write_text("two")
    folders.once()
    found = (there / "a").stat()
    assert ((there / "a").read_text(), found.st_uid, found.st_gid) == ("two", 12345, 23456)


def test_new_files_obey_the_umask(folders: Folders, way: Way) -> None:
    here, there = way
    (here / "a").write_text("one")
    (here / "b").write_text("two")
    (here / "b").chmod(0o700)
    old = os.umask(0o027)
    try:
        folders.once()
    finally:
        os.umask(old)
    assert (there / "a").stat().st_mode & 0o777 == 0o640
    assert (there / "b").stat().st_mode & 0o777 == 0o750


def test_a_second_cycle_does_nothing(folders: Folders) -> None:
    agree(folders, {"a/b/c": "1", "d": "2"})
    sync = folders.open()
    assert sync.cycle().idle
    assert sync.cycle().idle
    stamps = {path: path.stat().st_mtime_ns for path in folders.base.rglob("*")}
    assert sync.cycle().idle
    assert {path: path.stat().st_mtime_ns for path in folders.base.rglob("*")} == stamps


def test_laptop_wins_puts_the_loser_into_the_trash(folders: Folders) -> None:
    agree(folders, {"a": "one"})
    (folders.laptop / "a").write_text("laptop's")
    (folders.host / "a").write_text("host's")
    config = folders.config.model_copy(update={"mode": SyncMode.LAPTOP_WINS})
    assert folders.once(config=config).conflicts == ()
    assert (folders.host / "a").read_text() == "laptop's"
    assert trash(folders.host) == {b"host's"}


def test_upload_only_sends_and_brings_nothing_back(folders: Folders) -> None:
    folders.config = folders.config.model_copy(update={"mode": SyncMode.UPLOAD_ONLY})
    agree(folders, {"edited": "one", "deleted": "two", "both": "three", "gone": "four"})
    (folders.laptop / "edited").write_text("edited here")
    (folders.laptop / "deleted").unlink()
    (folders.laptop / "both").write_text("laptop's")
    (folders.host / "both").write_text("host's")
    (folders.host / "made").write_text("made there")
    (folders.host / "gone").unlink()
    before = tree(folders.laptop)
    outcome = folders.once()
    assert tree(folders.laptop) == before
    assert tree(folders.host) == {
        "edited": "- b'edited here'",
        "both": '- b"host\'s"',
        "made": "- b'made there'",
        "gone": "- b'four'",
    }
    assert [item.key for item in outcome.left_out] == ["made"]
    assert [conflict.key for conflict in outcome.conflicts] == ["both"]
    assert trash(folders.host) == {b"one", b"two"}
    assert trash(folders.laptop) == set()


def test_outputs_that_are_none_any_more_do_not_let_old_deletes_cross(folders: Folders) -> None:
    results = folders.config.model_copy(update={"outputs": ("runs/**",), "trash_size": 0})
    (folders.host / "runs").mkdir()
    for name in ("a", "b"):
        (folders.host / "runs" / name).write_text(name)
    folders.once(config=results)
    (folders.host / "runs" / "a").unlink()
    (folders.laptop / "runs" / "b").unlink()
    assert folders.once(config=results).idle
    other = folders.config.model_copy(update={"outputs": ("results/**",)})
    folders.once(config=other)
    folders.assert_equal()
    assert tree(folders.host) == {"runs": "dir", "runs/a": "- b'a'", "runs/b": "- b'b'"}
    (folders.laptop / "runs" / "a").unlink()
    folders.once(config=other)
    assert not (folders.host / "runs" / "a").exists(), "from now on deletes cross"


def test_outputs_come_down_and_nothing_is_deleted_on_the_laptop(folders: Folders) -> None:
    """Results: append-only, up to the size cap, in a folder whose code is mirrored."""
    folders.config = folders.config.model_copy(
        update={"outputs": ("runs/**", "checkpoints/**"), "max_file_size_down": 10_000}
    )
    (folders.laptop / "train.py").write_text("code")
    folders.once()
    (folders.host / "runs" / "a").mkdir(parents=True)
    (folders.host / "checkpoints").mkdir()
    (folders.host / "runs" / "a" / "log").write_text("epoch 1")
    (folders.host / "runs" / "old").write_text("old")
    (folders.host / "checkpoints" / "small.pt").write_bytes(b"s" * 10_000)
    (folders.host / "checkpoints" / "big.pt").write_bytes(b"b" * 10_001)
    assert [item.key for item in folders.once().left_out] == ["checkpoints/big.pt"]
    assert (folders.laptop / "checkpoints" / "small.pt").exists()
    assert not (folders.laptop / "checkpoints" / "big.pt").exists()
    (folders.host / "runs" / "a" / "log").write_text("epoch 1, epoch 2")
    (folders.host / "runs" / "old").unlink()
    (folders.laptop / "checkpoints" / "small.pt").unlink()
    (folders.laptop / "runs" / "mine").write_text("stays here")
    (folders.laptop / "train.py").unlink()
    folders.once()
    assert (folders.laptop / "runs" / "a" / "log").read_text() == "epoch 1, epoch 2"
    assert (folders.laptop / "runs" / "old").read_text() == "old"
    assert not (folders.laptop / "checkpoints" / "small.pt").exists(), "it does not come back"
    assert (folders.host / "checkpoints" / "small.pt").exists()
    assert not (folders.host / "runs" / "mine").exists()
    assert not (folders.host / "train.py").exists(), "code is mirrored"
    shutil.rmtree(folders.host / "runs")
    folders.once()
    assert sorted(os.listdir(folders.laptop / "runs")) == ["a", "mine", "old"]
    assert (folders.laptop / "runs" / "a" / "log").exists()
