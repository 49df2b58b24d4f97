"""The dry run's figures."""

from __future__ import annotations

import pytest

from remotedl.sync.agent.tree import DIR, Entry, Tree
from remotedl.sync.estimate import LARGEST, PER_FILE_S, Way, estimate
from remotedl.sync.lanes import Policy
from remotedl.sync.reconcile import reconcile
from remotedl.sync.verdict import Verdict, Where
from tests.unit.sync.worlds import file, link, side, tree


def verdict(ancestor: Tree, laptop: Tree, remote: Tree) -> Verdict:
    return reconcile(ancestor, side(laptop), side(remote), Policy(max_file_size_down=100))


def sized(name: str, size: int) -> Entry:
    return file(name, size=size)


def test_what_goes_which_way() -> None:
    old = tree(gone="1", edited="1")
    laptop = {**tree(d=DIR, d__a="22", l=link("x")), "edited": file("333")}
    remote = {**old, "down": sized("x", 50)}
    found = estimate(verdict(old, laptop, remote))
    assert found.to_remote == Way(files=3, folders=1, deleted=1, bytes=5)
    assert found.to_laptop == Way(files=1, folders=0, deleted=0, bytes=50)
    assert found.seconds is None


def test_folders_are_not_counted_among_what_goes_to_the_trash() -> None:
    old = tree(d=DIR, d__a="1", d__b="22")
    found = estimate(verdict(old, {}, old))
    assert found.to_remote == Way(files=0, folders=0, deleted=2, bytes=0, removed=1)


def test_x_bits_and_contents_that_are_there_cost_nothing() -> None:
    old = tree(a="1", b="22")
    laptop = {
        "a": file("1", x=True),
        "renamed": file("22"),
        "again": file("333"),
        "twice": file("333"),
    }
    held = frozenset(entry.digest or b"" for entry in old.values())
    found = estimate(verdict(old, laptop, old), held_remote=held)
    assert found.to_remote.bytes == 3 and found.to_remote.files == 4
    assert {item.path for item in found.largest} == {"again", "twice"}


def test_the_ten_largest_of_both_ways_come_first() -> None:
    laptop = {f"up{n:02}": sized(f"up{n}", 5 * n) for n in range(20)}
    remote = {"down": sized("down", 93)}
    found = estimate(verdict({}, laptop, remote))
    assert len(found.largest) == LARGEST
    assert found.largest[0][:2] == ("up19", Where.REMOTE)
    assert ("down", Where.LAPTOP, 93) in found.largest
    assert sorted(found.largest, key=lambda item: -item.size) == list(found.largest)


def test_time_at_the_measured_rate() -> None:
    found = estimate(verdict({}, {"a": sized("a", 2000)}, {}), rate=1000.0)
    assert found.seconds == pytest.approx(2.0 + PER_FILE_S)


def test_what_will_not_move_is_counted() -> None:
    remote = {"big": sized("big", 1000), "both": file("2")}
    found = estimate(verdict({}, tree(both="1"), remote))
    assert (found.conflicts, found.left_out, found.left_out_bytes) == (1, 1, 1000)
