"""History and undo on real folders: any step, on the side whose trash holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remotedl.errors import UsageError
from remotedl.sync.engine import Sync
from remotedl.sync.history import PastStep
from remotedl.sync.verdict import Where
from tests.lab_tests.sync.folders import Folders, eventually, settled, trash, tree

SIDES = pytest.mark.parametrize("where", list(Where), ids=lambda where: where.value)


def sides(folders: Folders, where: Where) -> tuple[Path, Path]:
    """The side that was changed by the sync, and the one whose user did it."""
    both = folders.laptop, folders.host
    return both if where is Where.LAPTOP else (both[1], both[0])


def last(sync: Sync, where: Where) -> PastStep:
    return next(step for step in sync.history() if step.where is where)


def agreed(folders: Folders) -> Sync:
    (folders.laptop / "a").write_text("one")
    (folders.laptop / "d").mkdir()
    (folders.laptop / "d" / "x").write_text("x")
    (folders.laptop / "d" / "y").write_text("y")
    (folders.laptop / "link").symlink_to("a")
    sync = folders.open()
    sync.cycle()
    return sync


@SIDES
def test_undo_of_a_delete_brings_all_of_a_dir_back_on_both_sides(
    folders: Folders, where: Where
) -> None:
    sync = agreed(folders)
    changed, other = sides(folders, where)
    before = tree(changed)
    for name in ("d/x", "d/y", "link"):
        (other / name).unlink()
    (other / "d").rmdir()
    sync.cycle()
    assert not (changed / "d").exists()
    undone = sync.undo()
    assert undone.where is where and {one.path for one in undone.paths} == {
        "d",
        "d/x",
        "d/y",
        "link",
    }
    assert tree(changed) == before
    sync.cycle()
    assert tree(other) == before and sync.cycle().idle


@SIDES
def test_undo_of_an_edit_and_undo_of_the_undo(folders: Folders, where: Where) -> None:
    sync = agreed(folders)
    changed, other = sides(folders, where)
    (other / "a").write_text("two")
    sync.cycle()
    sync.undo(last(sync, where).id, where)
    assert (changed / "a").read_text() == "one" and b"two" in trash(changed)
    sync.cycle()
    assert (other / "a").read_text() == "one"
    again = next(step for step in sync.history() if step.changes[0].reason == "undo")
    assert again.where is where
    sync.undo(again.id, where)
    sync.cycle()
    assert (other / "a").read_text() == (changed / "a").read_text() == "two"


@SIDES
def test_undo_leaves_what_was_edited_since(folders: Folders, where: Where) -> None:
    sync = agreed(folders)
    changed, other = sides(folders, where)
    (other / "a").write_text("two")
    (other / "d" / "x").unlink()
    sync.cycle()
    (changed / "a").write_text("three")
    sync.cycle()
    step = next(step for step in sync.history() if any(c.new is None for c in step.changes))
    undone = sync.undo(step.id, where)
    assert {(one.path, one.why) for one in undone.paths} == {
        ("a", "it was edited since"),
        ("d/x", ""),
    }
    sync.cycle()
    assert (other / "a").read_text() == "three" and (other / "d" / "x").read_text() == "x"


@SIDES
def test_undo_of_one_path_of_a_step(folders: Folders, where: Where) -> None:
    sync = agreed(folders)
    changed, other = sides(folders, where)
    (other / "d" / "x").unlink()
    (other / "d" / "y").unlink()
    sync.cycle()
    sync.undo(last(sync, where).id, where, ["d/y"])
    assert not (changed / "d" / "x").exists() and (changed / "d" / "y").read_text() == "y"


@SIDES
def test_undo_when_a_file_took_the_place_of_a_dir(folders: Folders, where: Where) -> None:
    sync = agreed(folders)
    changed, other = sides(folders, where)
    for name in ("d/x", "d/y"):
        (other / name).unlink()
    (other / "d").rmdir()
    (other / "d").write_text("a file now")
    sync.cycle()
    sync.undo(last(sync, where).id, where)
    sync.cycle()
    assert tree(changed) == tree(other)
    assert (changed / "d" / "x").read_text() == "x" and b"a file now" in trash(changed)


@SIDES
def test_undo_again_and_again_takes_a_delete_back_and_forth(folders: Folders, where: Where) -> None:
    sync = agreed(folders)
    changed, other = sides(folders, where)
    before = tree(changed)
    for name in ("d/x", "d/y"):
        (other / name).unlink()
    (other / "d").rmdir()
    sync.cycle()
    after = tree(changed)
    for expected in (before, after, before, after, before):
        assert all(one.why == "" for one in sync.undo().paths)
        sync.cycle()
        assert tree(changed) == tree(other) == expected


@SIDES
def test_undo_again_and_again_takes_a_change_of_kind_back_and_forth(
    folders: Folders, where: Where
) -> None:
    sync = agreed(folders)
    changed, other = sides(folders, where)
    before = tree(changed)
    for name in ("d/x", "d/y"):
        (other / name).unlink()
    (other / "d").rmdir()
    (other / "d").write_text("a file now")
    sync.cycle()
    after = tree(changed)
    for expected in (before, after, before):
        step = last(sync, where)
        assert all(one.why == "" for one in sync.undo(step.id, where).paths)
        assert tree(changed) == expected


@SIDES
def test_undo_of_an_undo_leaves_what_was_edited_since(folders: Folders, where: Where) -> None:
    sync = agreed(folders)
    changed, other = sides(folders, where)
    (other / "a").unlink()
    (other / "d" / "x").unlink()
    (other / "d" / "y").unlink()
    (other / "d").rmdir()
    sync.cycle()
    sync.undo()
    undo = last(sync, where)
    (changed / "a").write_text("edited")
    (changed / "d" / "new").write_text("new")
    sync.cycle()
    left = {one.path: one.why for one in sync.undo(undo.id, where).paths}
    assert left == {
        "a": "it was edited since",
        "d": "it holds something else by now",
        "d/x": "",
        "d/y": "",
    }
    assert (changed / "a").read_text() == "edited" and (changed / "d" / "new").exists()


def test_undo_takes_the_last_step_whatever_the_clock_said(folders: Folders) -> None:
    """A session whose clock is ten years ahead, then one whose clock is right again."""
    (folders.laptop / "a").write_text("one")
    (folders.laptop / "b").write_text("one")
    now = 1_000_000_000.0
    folders.once(now=lambda: now)
    (folders.laptop / "a").write_text("two")
    folders.once(now=lambda: now + 315e6)
    (folders.laptop / "b").write_text("two")
    folders.once(now=lambda: now + 60)
    sync = folders.open(now=lambda: now + 120)
    assert [one.path for one in sync.undo().paths] == ["b"]


def test_undo_of_a_path_that_no_step_has_says_so(folders: Folders) -> None:
    sync = agreed(folders)
    (folders.laptop / "a").write_text("two")
    sync.cycle()
    (folders.laptop / "d" / "x").write_text("two")
    sync.cycle()
    with pytest.raises(UsageError, match="nothing to undo at nope"):
        sync.undo(paths=["nope"])
    step = last(sync, Where.REMOTE)
    with pytest.raises(UsageError, match=f"{step.id} has nothing to bring back at nope"):
        sync.undo(step.id, paths=["nope"])
    assert [one.path for one in sync.undo(paths=["a"]).paths] == ["a"], "its own last step"
    with pytest.raises(UsageError, match="nothing to bring back"):
        sync.undo(next(s.id for s in sync.history() if s.changes[0].old is None))


def test_history_tells_what_happened_newest_first(folders: Folders) -> None:
    sync = agreed(folders)
    (folders.laptop / "a").write_text("two")
    (folders.host / "d" / "x").unlink()
    sync.cycle()
    *latest, first = sync.history()
    found = {step.where: step.changes for step in latest}
    assert [(c.path, c.reason, c.can_return) for c in found[Where.LAPTOP]] == [
        ("d/x", "deleted", True)
    ]
    assert [(c.path, c.reason, c.can_return) for c in found[Where.REMOTE]] == [
        ("a", "edited", True)
    ]
    assert all(change.old is None and not change.can_return for change in first.changes)
    assert min(step.at for step in latest) >= first.at
    assert last(sync, Where.LAPTOP).bytes_in_trash == 1


def test_history_survives_the_loss_of_the_database(folders: Folders) -> None:
    sync = agreed(folders)
    (folders.host / "d" / "x").unlink()
    sync.cycle()
    sync.close()
    for path in folders.state.iterdir():
        path.unlink()
    sync = folders.open()
    sync.cycle()
    step = last(sync, Where.LAPTOP)
    assert [change.path for change in step.changes] == ["d/x"]
    sync.undo(step.id)
    assert (folders.laptop / "d" / "x").read_text() == "x"


def test_undo_of_a_big_file_goes_through_the_disk(folders: Folders) -> None:
    big = os.urandom(3_000_000)
    (folders.laptop / "big").write_bytes(big)
    sync = folders.open()
    sync.cycle()
    (folders.laptop / "big").unlink()
    sync.cycle()
    assert not (folders.host / "big").exists()
    sync.undo()
    sync.cycle()
    assert (folders.laptop / "big").read_bytes() == (folders.host / "big").read_bytes() == big


def test_the_trash_is_kept_to_its_limits_on_both_sides(folders: Folders) -> None:
    """By size the oldest versions go; by age all do; the journal forgets them too."""
    clock = [1_000_000.0]

    def at(hours: float) -> float:
        clock[0] += hours * 3600
        return clock[0]

    config = folders.config.model_copy(update={"trash_size": 2500})
    for number in range(6):
        for side in (folders.laptop, folders.host):
            (side / f"from-{side.name}").write_bytes(b"%d" % number * 1000)
        at(2)
        folders.once(config=config, now=lambda: clock[0])
    for side in (folders.laptop, folders.host):
        assert trash(side) <= {b"%d" % number * 1000 for number in (2, 3, 4)}
        assert b"4" * 1000 in trash(side)
        assert b"0" * 1000 not in trash(side)
    at(2)
    none = config.model_copy(update={"trash_days": 0})
    folders.once(config=none, now=lambda: clock[0])
    assert trash(folders.laptop) == trash(folders.host) == set()
    sync = folders.open()
    assert not any(change.can_return for step in sync.history() for change in step.changes)


@pytest.mark.parametrize("writer", ["laptop", "host"])
def test_the_trash_is_within_its_limit_at_every_displacement(folders: Folders, writer: str) -> None:
    """A live session, its first one, and a checkpoint that is written again and again."""
    written, displaced = folders.laptop, folders.host
    if writer == "host":
        written, displaced = displaced, written
    sync = folders.live(config=folders.config.model_copy(update={"trash_size": 2500}))
    for number in range(12):
        (written / "ckpt.tmp").write_bytes(b"%x" % number * 1000)
        (written / "ckpt.tmp").rename(written / "ckpt.pt")
        settled(sync)
        eventually(lambda: sum(map(len, trash(displaced))) <= 2500)
    assert b"a" * 1000 in trash(displaced)


def test_one_cycle_that_displaces_more_than_the_limit(folders: Folders) -> None:
    config = folders.config.model_copy(update={"trash_size": 2500})
    for number in range(20):
        for side in (folders.laptop, folders.host):
            (side / f"{side.name}{number}").write_bytes(bytes([65 + number]) * 1000)
    folders.once(config=config)
    for number in range(20):
        for side in (folders.laptop, folders.host):
            (side / f"{side.name}{number}").unlink()
    folders.once(config=config)
    for side in (folders.laptop, folders.host):
        assert 0 < sum(map(len, trash(side))) <= 2500


def test_a_version_larger_than_the_limit_is_kept_until_the_next_and_said(folders: Folders) -> None:
    config = folders.config.model_copy(update={"trash_size": 2500})
    (folders.laptop / "big").write_bytes(b"x" * 5000)
    (folders.laptop / "small").write_bytes(b"s")
    folders.once(config=config)
    (folders.laptop / "big").unlink()
    outcome = folders.once(config=config)
    assert [notice for notice in outcome.notices if "big was on the host" in notice]
    assert trash(folders.host) == {b"x" * 5000}
    (folders.laptop / "small").unlink()
    assert not folders.once(config=config).notices
    assert trash(folders.host) == {b"s"}


def test_undo_says_when_there_is_nothing_and_when_a_step_is_not_known(folders: Folders) -> None:
    sync = folders.open()
    sync.cycle()
    with pytest.raises(UsageError, match="nothing to undo"):
        sync.undo()
    with pytest.raises(UsageError, match="no step abc"):
        sync.undo("abc")
