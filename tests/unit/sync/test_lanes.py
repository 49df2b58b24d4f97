"""Modes and lanes: what changes in the table when the user wants less than everything."""

from __future__ import annotations

import pytest

from remotedl.config.models import SyncConfig, SyncMode
from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import DIR, Traits, Tree
from remotedl.sync.lanes import Lane, Policy, left_lane, policy_of
from remotedl.sync.verdict import LeftOut, LeftOutWhy, Reason
from tests.unit.sync.worlds import (
    LAPTOP_WINS,
    UPLOAD_ONLY,
    Outcome,
    brief,
    file,
    link,
    side,
    tree,
    world,
)

EMPTY: Tree = {}
BIG = file("huge", size=200_000_000)
OUTPUTS = policy_of(SyncConfig(outputs=("runs/**", "*.ckpt")), Ignore())


def settled(outcome: Outcome, policy: Policy) -> Outcome:
    again = outcome.after().decide(policy)
    assert again.untouched, again.verdict
    return again


# --- laptop-wins


def test_laptop_wins_only_where_both_changed() -> None:
    got = world(tree(a="1", b="1"), tree(a="1", b="2"), tree(a="3", b="1")).decide(LAPTOP_WINS)
    assert brief(got.to_here) == ["~a"] and brief(got.to_there) == ["~b"]


def test_laptop_wins_does_not_delete_an_edit_of_the_host() -> None:
    got = world(tree(a="1"), EMPTY, tree(a="2")).decide(LAPTOP_WINS)
    assert brief(got.to_here) == ["+a"] and not got.to_there


def test_laptop_wins_a_file_over_a_dir_clears_the_dir_into_the_trash() -> None:
    old = tree(d=DIR, d__a="1")
    got = world(old, tree(d="9"), tree(d=DIR, d__a="2", d__n="3")).decide(LAPTOP_WINS)
    assert brief(got.to_there) == ["-d/n", "-d/a", "~d"]
    assert [op.expected for op in got.to_there[:2]] == [file("3"), file("2")]
    settled(got, LAPTOP_WINS)


def test_laptop_wins_a_dir_over_a_file_brings_all_of_the_dir() -> None:
    old = tree(d=DIR, d__a="1", d__gone="1")
    got = world(old, tree(d=DIR, d__a="2", d__n="3"), tree(d="9")).decide(LAPTOP_WINS)
    assert brief(got.to_there) == ["~d", "+d/a", "+d/n"]
    assert settled(got, LAPTOP_WINS).world.there.tree == tree(d=DIR, d__a="2", d__n="3")


def test_laptop_wins_stays_a_conflict_where_ignored_data_is_in_the_way() -> None:
    there = side(tree(d=DIR, d__a="2"), holding=["d"])
    got = world(tree(d=DIR, d__a="1"), tree(d="9"), there).decide(LAPTOP_WINS)
    assert got.untouched and got.verdict.conflicts and got.verdict.frozen


# --- upload-only

OPENED = Policy(opened=frozenset({"a", "d"}))


def test_what_both_edited_goes_to_the_jupyter_that_has_it_open() -> None:
    got = world(tree(a="1", b="1"), tree(a="2", b="2"), tree(a="3", b="3")).decide(OPENED)
    assert brief(got.to_there) == ["~a"] and not got.to_here
    assert got.to_there[0].reason is Reason.MERGED_LIVE
    assert [conflict.key for conflict in got.verdict.conflicts] == ["b"]


@pytest.mark.parametrize(
    ("old", "here", "there"),
    [(EMPTY, tree(a="2"), tree(a="3")), (tree(d=DIR), tree(d="1"), tree(d=DIR, d__x="1"))],
    ids=["both new", "kinds"],
)
def test_without_a_version_in_common_it_stays_a_conflict(
    old: Tree, here: Tree, there: Tree
) -> None:
    got = world(old, here, there).decide(OPENED)
    assert len(got.verdict.conflicts) == 1 and not got.to_there and not got.to_here


def test_upload_only_hands_nothing_to_jupyter() -> None:
    policy = UPLOAD_ONLY._replace(opened=frozenset({"a"}))
    got = world(tree(a="1"), tree(a="2"), tree(a="3")).decide(policy)
    assert len(got.verdict.conflicts) == 1 and not got.to_there


def test_upload_only_sends_edits_and_deletes_up() -> None:
    old = tree(a="1", b="1", d=DIR, d__c="1")
    got = world(old, tree(a="2", n="5"), old).decide(UPLOAD_ONLY)
    assert brief(got.to_there) == ["~a", "+n", "-d/c", "-d", "-b"]
    settled(got, UPLOAD_ONLY)


def test_upload_only_brings_nothing_back() -> None:
    there = tree(a="2", n="5", d=DIR, d__x="6")
    got = world(tree(a="1"), tree(a="1"), there).decide(UPLOAD_ONLY)
    assert got.untouched
    assert [item.key for item in got.verdict.left_out] == ["a", "d", "n"]
    assert {item.why for item in got.verdict.left_out} == {LeftOutWhy.UPLOAD_ONLY}


def test_upload_only_puts_back_what_the_host_deleted() -> None:
    old = tree(a="1", d=DIR, d__b="1")
    got = world(old, old, EMPTY).decide(UPLOAD_ONLY)
    assert brief(got.to_there) == ["+a", "+d", "+d/b"]
    assert {op.reason for op in got.to_there} == {Reason.RESTORED}
    settled(got, UPLOAD_ONLY)


def test_upload_only_does_not_overwrite_an_edit_of_the_host() -> None:
    got = world(tree(a="1"), tree(a="2"), tree(a="3")).decide(UPLOAD_ONLY)
    assert got.untouched and got.verdict.conflicts


def test_upload_only_leaves_what_the_host_made_in_a_deleted_dir() -> None:
    old = tree(d=DIR, d__a="1", d__b="1", d__e=DIR)
    got = world(old, EMPTY, {**old, **tree(d__a="2", d__n="3")}).decide(UPLOAD_ONLY)
    assert brief(got.to_there) == ["-d/e", "-d/b"] and not got.to_here
    assert got.verdict.ancestor == {"d/a": None}
    settled(got, UPLOAD_ONLY)


def test_upload_only_forgets_a_file_deleted_here_and_edited_there() -> None:
    got = world(tree(a="1"), EMPTY, tree(a="2")).decide(UPLOAD_ONLY)
    assert not got.to_here and not got.to_there and got.verdict.ancestor == {"a": None}
    settled(got, UPLOAD_ONLY)


def test_upload_only_leaves_a_dir_that_became_a_file_on_the_host() -> None:
    old = tree(d=DIR, d__a="1")
    got = world(old, old, tree(d="2")).decide(UPLOAD_ONLY)
    assert got.untouched and [item.key for item in got.verdict.left_out] == ["d"]


# --- outputs


def test_outputs_are_told_apart_by_pattern() -> None:
    kinds = {key: OUTPUTS.lane(key, file("").kind) for key in ("runs/1/x", "a.ckpt", "train.py")}
    assert kinds == {"runs/1/x": Lane.OUTPUT, "a.ckpt": Lane.OUTPUT, "train.py": Lane.MIRROR}
    assert OUTPUTS.lane("runs", DIR.kind) is Lane.MIRROR


def test_outputs_come_down_new_and_grown() -> None:
    old = tree(runs=DIR, runs__log="1")
    there = tree(runs=DIR, runs__log="12", runs__two=DIR, runs__two__log="1")
    got = world(old, old, there).decide(OUTPUTS)
    assert brief(got.to_here) == ["~runs/log", "+runs/two", "+runs/two/log"]
    settled(got, OUTPUTS)


@pytest.mark.parametrize("here", [tree(runs=DIR, runs__log="2"), tree(runs=DIR, runs__mine="2")])
def test_outputs_never_go_up(here: Tree) -> None:
    old = tree(runs=DIR, runs__log="1")
    got = world(old, {**old, **here}, old).decide(OUTPUTS)
    assert got.untouched and not got.verdict.conflicts


@pytest.mark.parametrize("there", [EMPTY, tree(runs=DIR)])
def test_outputs_deleted_on_the_host_stay_on_the_laptop(there: Tree) -> None:
    old = tree(runs=DIR, runs__one=DIR, runs__one__log="1")
    got = world(old, old, there).decide(OUTPUTS)
    assert got.untouched


@pytest.mark.parametrize("here", [EMPTY, tree(runs=DIR)])
def test_outputs_deleted_on_the_laptop_stay_on_the_host(here: Tree) -> None:
    old = tree(runs=DIR, runs__one=DIR, runs__one__log="1")
    got = world(old, here, old).decide(OUTPUTS)
    assert got.untouched


@pytest.mark.parametrize("here", [EMPTY, tree(runs=DIR)])
def test_outputs_deleted_on_the_laptop_do_not_return_with_their_new_siblings(here: Tree) -> None:
    old = tree(runs=DIR, runs__one=DIR, runs__one__log="1", runs__old=DIR, runs__old__log="1")
    got = world(old, here, {**old, **tree(runs__one__new="2")}).decide(OUTPUTS)
    down = settled(got, OUTPUTS).world.here.tree
    assert down == tree(runs=DIR, runs__one=DIR, runs__one__new="2")


def test_outputs_deleted_on_the_laptop_come_again_when_they_grow() -> None:
    old = tree(runs=DIR, runs__log="1")
    got = world(old, tree(runs=DIR), tree(runs=DIR, runs__log="12")).decide(OUTPUTS)
    assert brief(got.to_here) == ["+runs/log"]
    settled(got, OUTPUTS)


def test_outputs_edited_on_both_sides_are_a_conflict_even_where_the_laptop_wins() -> None:
    old = tree(runs=DIR, runs__log="1")
    policy = OUTPUTS._replace(mode=SyncMode.LAPTOP_WINS)
    got = world(old, {**old, **tree(runs__log="2")}, {**old, **tree(runs__log="3")})
    assert [c.key for c in got.decide(policy).verdict.conflicts] == ["runs/log"]


def test_outputs_get_no_x_bit_from_the_laptop() -> None:
    old = tree(runs=DIR, runs__log="1")
    here = {**old, **tree(runs__log=file("1", x=True))}
    got = world(old, here, {**old, **tree(runs__log="2")}).decide(OUTPUTS)
    assert got.untouched and got.verdict.conflicts


def test_outputs_edited_on_both_sides_are_a_conflict() -> None:
    old = tree(runs=DIR, runs__log="1")
    got = world(old, {**old, **tree(runs__log="2")}, {**old, **tree(runs__log="3")})
    assert [c.key for c in got.decide(OUTPUTS).verdict.conflicts] == ["runs/log"]


def test_outputs_of_another_kind_never_clear_a_dir_of_the_laptop() -> None:
    old = tree(runs=DIR, runs__one=DIR, runs__one__log="1")
    got = world(old, old, tree(runs=DIR, runs__one="x")).decide(OUTPUTS)
    assert got.untouched and [c.key for c in got.verdict.conflicts] == ["runs/one"]


def test_outputs_do_not_come_down_into_a_file_of_the_laptop() -> None:
    old = tree(runs=DIR, runs__one=DIR, runs__one__log="1")
    here = tree(runs=DIR, runs__one="mine")
    quiet = world(old, here, old).decide(OUTPUTS)
    assert quiet.untouched and not quiet.verdict.conflicts
    got = world(old, here, {**old, **tree(runs__one__new="2")}).decide(OUTPUTS)
    assert got.untouched and [c.key for c in got.verdict.conflicts] == ["runs/one"]


def test_outputs_dropped_when_both_deleted_them() -> None:
    got = world(tree(runs=DIR, runs__log="1"), tree(runs=DIR), tree(runs=DIR)).decide(OUTPUTS)
    assert got.verdict.ancestor == {"runs/log": None}


def test_outputs_outlive_a_dir_that_the_host_replaced_by_a_file() -> None:
    old = tree(runs=DIR, runs__log="1")
    got = world(old, old, tree(runs="now a file")).decide(OUTPUTS)
    assert got.untouched and [c.key for c in got.verdict.conflicts] == ["runs"]


def test_outputs_no_more_forgets_what_was_kept_apart() -> None:
    """A delete that stayed one-sided in the lane must not cross when the lane goes."""
    old = tree(runs=DIR, runs__a="1", runs__b="1", runs__c="1", runs__d="1", e="1")
    here = tree(runs=DIR, runs__a="1", runs__c="mine", runs__d="1")
    there = tree(runs=DIR, runs__b="1", runs__c="1", runs__d="grown", e="1")
    gone = left_lane(old, here, there, ["runs/**"], [])
    assert gone == {"runs/a", "runs/b", "runs/c"}
    got = world({key: old[key] for key in old.keys() - gone}, here, there).decide()
    assert brief(got.to_here) == ["+runs/b", "~runs/d"]
    assert brief(got.to_there) == ["+runs/a", "-e"], "what was no result follows the table"
    assert [one.key for one in got.verdict.conflicts] == ["runs/c"]


def test_outputs_that_stay_are_not_forgotten() -> None:
    old = tree(runs=DIR, runs__a=DIR, runs__a__x="1", runs__b="1")
    assert left_lane(old, EMPTY, old, ["runs/**"], ["runs/a"]) == {"runs/b"}
    assert left_lane(old, EMPTY, old, ["runs/**"], ["runs/**", "x"]) == set()
    assert left_lane(old, EMPTY, old, [], ["runs/**"]) == set()


# --- size


def test_too_big_stays_on_the_host_and_is_listed() -> None:
    got = world(EMPTY, EMPTY, tree(a=BIG, b="1")).decide()
    assert brief(got.to_here) == ["+b"]
    assert got.verdict.left_out == (LeftOut("a", BIG, LeftOutWhy.TOO_BIG),)


def test_too_big_goes_up_all_the_same() -> None:
    assert brief(world(EMPTY, tree(a=BIG), EMPTY).decide().to_there) == ["+a"]


def test_too_big_after_growing_leaves_the_laptops_version() -> None:
    got = world(tree(a="1"), tree(a="1"), tree(a=BIG)).decide()
    assert got.untouched and [item.key for item in got.verdict.left_out] == ["a"]


def test_too_big_does_not_come_down_when_the_laptop_deleted_it() -> None:
    got = world(tree(a="1"), EMPTY, tree(a=BIG)).decide()
    assert got.untouched and [item.key for item in got.verdict.left_out] == ["a"]


def test_too_big_in_the_place_of_a_dir_leaves_the_laptops_dir() -> None:
    old = tree(a=DIR, a__b="1")
    got = world(old, old, tree(a=BIG)).decide()
    assert got.untouched


def test_too_big_inside_a_dir_deleted_on_the_laptop_keeps_the_rest() -> None:
    old = tree(d=DIR, d__a="1")
    got = world(old, EMPTY, {**old, **tree(d__big=BIG)}).decide()
    assert brief(got.to_there) == ["-d/a"] and not got.to_here
    assert [item.key for item in got.verdict.left_out] == ["d/big"]
    settled(got, Policy())


def test_too_big_after_growing_in_a_dir_deleted_on_the_laptop_stays_known() -> None:
    old = tree(d=DIR, d__a="1", d__b="1")
    got = world(old, EMPTY, {**old, **tree(d__a=BIG)}).decide()
    assert brief(got.to_there) == ["-d/b"] and not got.verdict.ancestor
    assert got.verdict.left_out == (LeftOut("d/a", BIG, LeftOutWhy.TOO_BIG),)


def test_too_big_is_no_obstacle_to_an_x_bit() -> None:
    got = world(tree(a=BIG), tree(a=BIG), tree(a=BIG._replace(executable=True))).decide()
    assert brief(got.to_here) == ["xa"]


def test_no_links_on_the_laptop_leaves_its_file_when_the_host_makes_it_a_link() -> None:
    windows = side(tree(a="1"), traits=Traits(links=False))
    got = world(tree(a="1"), windows, tree(a=link("b"))).decide()
    assert got.untouched and [item.why for item in got.verdict.left_out] == [LeftOutWhy.NO_LINKS]


def test_a_policy_takes_all_of_its_table() -> None:
    ignore = Ignore([Source("x")])
    config = SyncConfig(mode=SyncMode.UPLOAD_ONLY, outputs=("runs/**",), max_file_size_down=7)
    policy = policy_of(config, ignore)
    assert (policy.mode, policy.ignore, policy.max_file_size_down) == (config.mode, ignore, 7)
    assert policy.lane("runs/x", DIR.kind) is Lane.OUTPUT
    assert policy.lane("src", DIR.kind) is Lane.UPLOAD
