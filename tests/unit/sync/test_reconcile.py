"""The table of docs/sync.md, a test a row; each holds with the two users swapped."""

from __future__ import annotations

import pytest

from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import DIR, Entry, Folding, Issue, Side, Traits, Tree
from remotedl.sync.lanes import Choice, Decision, Policy
from remotedl.sync.reconcile import reconcile, settle
from remotedl.sync.verdict import ConflictKind, Frozen, LeftOutWhy, Phase, Reason, Where
from tests.unit.sync.worlds import (
    LAPTOP_WINS,
    Outcome,
    brief,
    file,
    link,
    side,
    tree,
    world,
)

both_ways = pytest.mark.parametrize("flipped", [False, True], ids=["laptop", "remote"])

EMPTY: Tree = {}


def settled(outcome: Outcome) -> Outcome:
    """The next cycle, which must find nothing to do."""
    again = outcome.after().decide()
    assert again.untouched, again.verdict
    return again


# --- one side created


@both_ways
@pytest.mark.parametrize("new", [file("1"), file("1", x=True), link("../out"), DIR])
def test_row_new_here_is_copied_there(flipped: bool, new: Entry) -> None:
    got = world(EMPTY, tree(a=new), EMPTY, flipped=flipped).decide()
    assert brief(got.to_there) == ["+a"] and not got.to_here
    assert got.to_there[0].reason is Reason.NEW
    assert settled(got).world.there.tree == tree(a=new)


@both_ways
def test_row_new_dir_goes_before_its_content(flipped: bool) -> None:
    here = tree(d=DIR, d__e=DIR, d__e__x="1", d__a="2")
    got = world(EMPTY, here, EMPTY, flipped=flipped).decide()
    assert brief(got.to_there) == ["+d", "+d/a", "+d/e", "+d/e/x"]
    settled(got)


@both_ways
def test_row_new_on_both_and_same_is_adopted(flipped: bool) -> None:
    got = world(EMPTY, tree(a="1", d=DIR), tree(a="1", d=DIR), flipped=flipped).decide()
    assert not got.to_here and not got.to_there
    assert got.verdict.ancestor == tree(a="1", d=DIR)


@both_ways
def test_row_new_on_both_and_different_is_a_conflict(flipped: bool) -> None:
    got = world(EMPTY, tree(a="1"), tree(a="2"), flipped=flipped).decide()
    assert got.untouched
    (conflict,) = got.verdict.conflicts
    assert (conflict.key, conflict.kind) == ("a", ConflictKind.BOTH_NEW)


@both_ways
def test_row_new_dirs_on_both_are_gone_through(flipped: bool) -> None:
    here, there = tree(d=DIR, d__a="1", d__c="3"), tree(d=DIR, d__b="2", d__c="4")
    got = world(EMPTY, here, there, flipped=flipped).decide()
    assert brief(got.to_there) == ["+d/a"] and brief(got.to_here) == ["+d/b"]
    assert [conflict.key for conflict in got.verdict.conflicts] == ["d/c"]


@both_ways
def test_row_new_dir_against_new_file_is_one_conflict(flipped: bool) -> None:
    got = world(EMPTY, tree(d=DIR, d__a="1"), tree(d="2"), flipped=flipped).decide()
    assert got.untouched
    assert [(c.key, c.kind) for c in got.verdict.conflicts] == [("d", ConflictKind.KINDS)]


@both_ways
def test_row_new_on_both_with_the_x_bit_on_one_gets_it_on_both(flipped: bool) -> None:
    got = world(EMPTY, tree(a=file("1", x=True)), tree(a="1"), flipped=flipped).decide()
    assert brief(got.to_there) == ["xa"] and not got.verdict.conflicts
    settled(got)


# --- edits


@both_ways
@pytest.mark.parametrize("new", [file("2"), file("1", x=True)])
def test_row_edited_here_is_copied_there(flipped: bool, new: Entry) -> None:
    got = world(tree(a="1"), tree(a=new), tree(a="1"), flipped=flipped).decide()
    assert [op.new for op in got.to_there] == [new] and not got.to_here
    assert got.to_there[0].expected == file("1")
    settled(got)


@both_ways
def test_row_link_pointed_elsewhere_is_copied(flipped: bool) -> None:
    old, new = tree(a=link("x")), tree(a=link("y"))
    assert brief(world(old, new, old, flipped=flipped).decide().to_there) == ["~a"]


@both_ways
def test_row_edited_on_both_and_same_is_adopted(flipped: bool) -> None:
    got = world(tree(a="1"), tree(a="2"), tree(a="2"), flipped=flipped).decide()
    assert not got.to_here and not got.to_there and got.verdict.ancestor == tree(a="2")


@both_ways
def test_row_edited_on_both_and_different_is_a_conflict(flipped: bool) -> None:
    got = world(tree(a="1"), tree(a="2"), tree(a="3"), flipped=flipped).decide()
    assert got.untouched
    (conflict,) = got.verdict.conflicts
    assert (conflict.key, conflict.kind) == ("a", ConflictKind.BOTH_EDITED)
    assert conflict.ancestor == file("1")


@both_ways
def test_row_x_bit_against_content_merges_both(flipped: bool) -> None:
    got = world(tree(a="1"), tree(a=file("1", x=True)), tree(a="2"), flipped=flipped).decide()
    assert [op.new for op in got.to_here] == [file("2", x=True)]
    assert brief(got.to_there) == ["xa"]
    assert settled(got).world.here.tree == tree(a=file("2", x=True))


@both_ways
def test_row_x_bit_taken_away_against_content_merges_both(flipped: bool) -> None:
    old = tree(a=file("1", x=True))
    got = world(old, tree(a="1"), tree(a=file("2", x=True)), flipped=flipped).decide()
    assert settled(got).world.there.tree == tree(a="2")


@both_ways
def test_row_same_content_and_an_x_bit_on_one_merges_both(flipped: bool) -> None:
    here, there = tree(a=file("2", x=True)), tree(a="2")
    got = world(tree(a="1"), here, there, flipped=flipped).decide()
    assert brief(got.to_there) == ["xa"] and not got.to_here
    settled(got)


def test_a_merge_advances_only_when_both_sides_are_done() -> None:
    got = world(tree(a="1"), tree(a=file("1", x=True)), tree(a="2")).decide()
    assert settle(got.verdict, {"a"}, set()) == {}
    assert settle(got.verdict, set(), {"a"}) == {}
    assert settle(got.verdict, {"a"}, {"a"}) == tree(a=file("2", x=True))


# --- deletes


@both_ways
@pytest.mark.parametrize("old", [file("1"), link("x")])
def test_row_deleted_here_is_deleted_there(flipped: bool, old: Entry) -> None:
    got = world(tree(a=old), EMPTY, tree(a=old), flipped=flipped).decide()
    assert [(op.expected, op.new) for op in got.to_there] == [(old, None)]
    assert got.to_there[0].phase is Phase.DELETE
    assert settle(got.verdict, {"a"}, {"a"}) == {"a": None}
    settled(got)


@both_ways
def test_row_deleted_on_both_is_dropped(flipped: bool) -> None:
    got = world(tree(a="1", d=DIR, d__b="2"), EMPTY, EMPTY, flipped=flipped).decide()
    assert not got.to_here and not got.to_there
    assert got.verdict.ancestor == {"a": None, "d": None, "d/b": None}


@both_ways
def test_row_deleted_here_edited_there_is_restored_here(flipped: bool) -> None:
    got = world(tree(a="1"), EMPTY, tree(a="2"), flipped=flipped).decide()
    assert brief(got.to_here) == ["+a"] and not got.to_there
    assert got.to_here[0].reason is Reason.RESTORED
    settled(got)


@both_ways
def test_row_deleted_here_another_kind_there_is_restored_here(flipped: bool) -> None:
    got = world(tree(a="1"), EMPTY, tree(a=DIR, a__b="2"), flipped=flipped).decide()
    assert brief(got.to_here) == ["+a", "+a/b"]
    settled(got)


@both_ways
def test_row_dir_deleted_here_another_kind_there_is_restored_here(flipped: bool) -> None:
    got = world(tree(a=DIR, a__b="1"), EMPTY, tree(a="2"), flipped=flipped).decide()
    assert brief(got.to_here) == ["+a"] and not got.to_there
    settled(got)


# --- kinds


@both_ways
@pytest.mark.parametrize(
    "old, new", [(file("1"), link("x")), (link("x"), file("1")), (file("1"), DIR), (link("x"), DIR)]
)
def test_row_kind_changed_here_is_replaced_there(flipped: bool, old: Entry, new: Entry) -> None:
    got = world(tree(a=old), tree(a=new), tree(a=old), flipped=flipped).decide()
    assert [(op.expected, op.new) for op in got.to_there] == [(old, new)]
    assert got.to_there[0].reason is Reason.KIND_CHANGED
    settled(got)


@both_ways
def test_row_file_became_a_dir_with_content(flipped: bool) -> None:
    got = world(tree(a="1"), tree(a=DIR, a__b="2"), tree(a="1"), flipped=flipped).decide()
    assert brief(got.to_there) == ["~a", "+a/b"]
    settled(got)


@both_ways
@pytest.mark.parametrize("new", [file("1"), link("x")])
def test_row_dir_became_something_else_makes_room_bottom_up(flipped: bool, new: Entry) -> None:
    old = tree(a=DIR, a__b=DIR, a__b__c="1", a__d="2")
    got = world(old, tree(a=new), old, flipped=flipped).decide()
    assert brief(got.to_there) == ["-a/d", "-a/b/c", "-a/b", "~a"]
    settled(got)


@both_ways
@pytest.mark.parametrize("other", [file("2"), link("x")])
def test_row_kind_changed_here_edited_there_is_a_conflict(flipped: bool, other: Entry) -> None:
    got = world(tree(a="1"), tree(a=DIR, a__b="3"), tree(a=other), flipped=flipped).decide()
    assert got.untouched
    assert [(c.key, c.kind) for c in got.verdict.conflicts] == [("a", ConflictKind.KINDS)]


@both_ways
@pytest.mark.parametrize("inside", ["edited", "new"])
def test_row_dir_became_a_file_here_edited_inside_there_is_a_conflict(
    flipped: bool, inside: str
) -> None:
    old = tree(a=DIR, a__b="1", a__c="1")
    there = {**old, **(tree(a__b="2") if inside == "edited" else tree(a__n="2"))}
    got = world(old, tree(a="3"), there, flipped=flipped).decide()
    assert got.untouched
    assert [conflict.key for conflict in got.verdict.conflicts] == ["a"]


@both_ways
def test_row_dir_became_a_file_where_ignored_data_is_in_the_way(flipped: bool) -> None:
    old = tree(a=DIR, a__b="1")
    got = world(old, tree(a="3"), side(old, holding=["a"]), flipped=flipped).decide()
    assert got.untouched
    assert got.verdict.frozen == (Frozen("a", got.where(False), Issue.HOLDS_IGNORED),)


@both_ways
def test_row_kinds_changed_to_the_same_are_adopted(flipped: bool) -> None:
    old = tree(a=DIR, a__b="1")
    got = world(old, tree(a="2"), tree(a="2"), flipped=flipped).decide()
    assert got.verdict.ancestor == {"a": file("2"), "a/b": None} and not got.to_there


# --- whole dirs

OLD = tree(d=DIR, d__a="1", d__e=DIR, d__e__f="2", z="9")


@both_ways
def test_row_dir_deleted_here_and_unchanged_there_is_deleted_bottom_up(flipped: bool) -> None:
    got = world(OLD, tree(z="9"), OLD, flipped=flipped).decide()
    assert brief(got.to_there) == ["-d/e/f", "-d/e", "-d/a", "-d"]
    assert [op.expected for op in got.to_there] == [file("2"), DIR, file("1"), DIR]
    settled(got)


@both_ways
@pytest.mark.parametrize(
    ("change", "deleted", "stays"),
    [
        (tree(d__a="7"), ["-d/e/f", "-d/e"], tree(d=DIR, d__a="7")),
        (tree(d__n="7"), ["-d/e/f", "-d/e", "-d/a"], tree(d=DIR, d__n="7")),
        (tree(d__e__n="7"), ["-d/e/f", "-d/a"], tree(d=DIR, d__e=DIR, d__e__n="7")),
        (tree(d__n=DIR), ["-d/e/f", "-d/e", "-d/a"], tree(d=DIR, d__n=DIR)),
        (
            tree(d__n=DIR, d__n__m="7"),
            ["-d/e/f", "-d/e", "-d/a"],
            tree(d=DIR, d__n=DIR, d__n__m="7"),
        ),
        (tree(d__a=link("x")), ["-d/e/f", "-d/e"], tree(d=DIR, d__a=link("x"))),
    ],
)
def test_row_dir_deleted_here_with_work_inside_there_keeps_the_work_alone(
    flipped: bool, change: Tree, deleted: list[str], stays: Tree
) -> None:
    got = world(OLD, tree(z="9"), {**OLD, **change}, flipped=flipped).decide()
    assert brief(got.to_there) == deleted
    assert {op.reason for op in got.to_there} == {Reason.DELETED}
    assert {op.reason for op in got.to_here} == {Reason.RESTORED}
    after = settled(got).world
    assert after.here.tree == after.there.tree == {**tree(z="9"), **stays}


@both_ways
def test_row_dir_deleted_here_with_work_beside_ignored_data_there(flipped: bool) -> None:
    there = side({**OLD, **tree(d__n="7")}, holding=["d/e"])
    got = world(OLD, tree(z="9"), there, flipped=flipped).decide()
    assert brief(got.to_there) == ["-d/e/f", "-d/a"] and brief(got.to_here) == ["+d", "+d/n"]
    settled(got)


@both_ways
def test_row_dir_deleted_here_keeps_no_more_than_what_still_stands_there(flipped: bool) -> None:
    there = {key: entry for key, entry in OLD.items() if key != "d/a"} | tree(d__n="7")
    got = world(OLD, tree(z="9"), there, flipped=flipped).decide()
    assert settled(got).world.here.tree == tree(d=DIR, d__n="7", z="9")


@both_ways
def test_row_subdir_deleted_here_leaves_its_neighbours(flipped: bool) -> None:
    here = {key: entry for key, entry in OLD.items() if not key.startswith("d/e")}
    there = {**OLD, **tree(d__a="7")}
    got = world(OLD, here, there, flipped=flipped).decide()
    assert brief(got.to_there) == ["-d/e/f", "-d/e"] and brief(got.to_here) == ["~d/a"]
    settled(got)


@both_ways
def test_row_dir_deleted_here_with_ignored_content_there_keeps_the_rest(flipped: bool) -> None:
    got = world(OLD, tree(z="9"), side(OLD, holding=["d/e"]), flipped=flipped).decide()
    assert brief(got.to_there) == ["-d/e/f", "-d/a"]
    after = settled(got)
    assert after.world.there.tree == tree(d=DIR, d__e=DIR, z="9")
    gone = after.world._replace(there=after.world.there._replace(holding=frozenset()))
    assert brief(gone.decide().to_there) == ["-d/e", "-d"]


@both_ways
def test_row_dir_deleted_on_both_but_kept_for_ignored_content(flipped: bool) -> None:
    got = world(OLD, tree(z="9"), side(tree(d=DIR, z="9"), holding=["d"]), flipped=flipped)
    assert not got.decide().to_there and not got.decide().to_here


@both_ways
def test_row_renamed_dir_here_with_an_edit_inside_there_keeps_both(flipped: bool) -> None:
    old = tree(d=DIR, d__a="1")
    got = world(old, tree(e=DIR, e__a="1"), tree(d=DIR, d__a="2"), flipped=flipped).decide()
    everything = tree(d=DIR, d__a="2", e=DIR, e__a="1")
    assert settled(got).world.here.tree == settled(got).world.there.tree == everything


# --- what a scan could not see


@both_ways
@pytest.mark.parametrize("issue", [Issue.UNREADABLE, Issue.UNSTABLE, Issue.COLLIDING])
@pytest.mark.parametrize("other", [EMPTY, tree(a="2"), tree(a=DIR, a__b="1")])
def test_row_not_well_seen_is_frozen(flipped: bool, issue: Issue, other: Tree) -> None:
    here = side(EMPTY, issues={"a": issue})
    got = world(tree(a="1"), here, other, flipped=flipped).decide()
    assert got.untouched
    assert got.verdict.frozen == (Frozen("a", got.where(True), issue),)


def test_row_settings_deleted_on_the_host_go_back_there() -> None:
    old = {"hosts.toml": file("1"), **tree(a="1")}
    got = world(old, old, EMPTY).decide()
    assert brief(got.to_there) == ["+hosts.toml"] and brief(got.to_here) == ["-a"]
    assert settled(got).world.there.tree == {"hosts.toml": file("1")}


def test_row_settings_deleted_on_the_laptop_are_deleted() -> None:
    old = {"hosts.toml": file("1")}
    got = world(old, EMPTY, old).decide()
    assert brief(got.to_there) == ["-hosts.toml"] and not got.to_here


@both_ways
def test_row_unlistable_dir_freezes_all_below_it(flipped: bool) -> None:
    here = side(tree(d=DIR, z="8"), issues={"d": Issue.UNREADABLE})
    there = {**OLD, **tree(d__a="7", d__n="7")}
    got = world(OLD, here, there, flipped=flipped).decide()
    assert brief(got.to_there) == ["~z"] and not got.to_here and not got.verdict.ancestor


@both_ways
def test_row_unlistable_root_freezes_everything(flipped: bool) -> None:
    got = world(OLD, side(EMPTY, issues={"": Issue.UNREADABLE}), OLD, flipped=flipped).decide()
    assert got.untouched


@both_ways
@pytest.mark.parametrize("key", ["d/a", "d/e", "d/e/f"])
def test_row_dir_deleted_here_with_something_unseen_there_waits(flipped: bool, key: str) -> None:
    there = {name: entry for name, entry in OLD.items() if not name.startswith(key)}
    unseen = side(there, issues={key: Issue.UNREADABLE})
    got = world(OLD, tree(z="9"), unseen, flipped=flipped).decide()
    assert got.untouched and got.verdict.frozen


@both_ways
@pytest.mark.parametrize("issue", [Issue.UNSTABLE, Issue.COLLIDING, Issue.ZEROED])
def test_row_dir_deleted_here_while_a_new_file_is_written_there_waits(
    flipped: bool, issue: Issue
) -> None:
    there = side(OLD, issues={"d/new": issue})
    assert world(OLD, tree(z="9"), there, flipped=flipped).decide().untouched


@both_ways
def test_row_dir_deleted_here_with_a_socket_there_keeps_the_rest(flipped: bool) -> None:
    there = side(OLD, issues={"d/e/sock": Issue.UNSUPPORTED}, holding=["d/e"])
    got = world(OLD, tree(z="9"), there, flipped=flipped).decide()
    assert brief(got.to_there) == ["-d/e/f", "-d/a"]


@both_ways
def test_row_dir_became_a_file_with_something_unseen_inside_there_waits(flipped: bool) -> None:
    there = side(OLD, issues={"d/a": Issue.UNSTABLE})
    got = world(OLD, tree(d="3", z="9"), there, flipped=flipped).decide()
    assert got.untouched and not got.verdict.conflicts


@both_ways
def test_row_fifo_in_the_place_of_a_file_freezes_it(flipped: bool) -> None:
    there = side(EMPTY, issues={"a": Issue.UNSUPPORTED}, holding=[""])
    assert world(tree(a="1"), tree(a="2"), there, flipped=flipped).decide().untouched


# --- names


MAC = Traits(Folding(case_insensitive=True, normalising=True))


def on_mac(entries: Tree) -> Side:
    return side(entries, traits=MAC)


def test_row_twins_by_case_on_one_side_are_frozen() -> None:
    got = world(EMPTY, on_mac(EMPTY), tree(a="1", A="2")).decide()
    assert got.untouched
    assert {item.key for item in got.verdict.frozen} == {"a", "A"}
    assert {item.issue for item in got.verdict.frozen} == {Issue.COLLIDING}


def test_row_twins_by_case_one_on_each_side_are_frozen() -> None:
    assert world(EMPTY, on_mac(tree(a="1")), tree(A="1")).decide().untouched


def test_row_a_twin_of_a_known_name_freezes_both() -> None:
    got = world(tree(a="1"), on_mac(tree(a="2")), tree(a="1", A="3")).decide()
    assert got.untouched and len(got.verdict.frozen) == 2


def test_row_twins_by_case_are_two_files_where_both_sides_tell_them_apart() -> None:
    got = world(EMPTY, EMPTY, tree(a="1", A="2")).decide()
    assert brief(got.to_here) == ["+A", "+a"]


def test_row_renamed_by_case_on_the_laptop_is_renamed_on_the_host() -> None:
    got = world(tree(a="1"), on_mac(tree(A="1")), tree(a="1")).decide()
    assert brief(got.to_there) == ["+A", "-a"]
    settled(got)


def test_row_renamed_by_case_on_the_host_makes_room_first_on_the_laptop() -> None:
    old, new = tree(d=DIR, d__a="1"), tree(D=DIR, D__a="1")
    got = world(old, on_mac(old), new).decide()
    assert brief(got.to_here) == ["-d/a", "-d", "+D", "+D/a"]
    settled(got)


def test_row_dir_renamed_by_case_with_an_edit_inside_is_frozen_whole() -> None:
    old = tree(d=DIR, d__a="1", d__b="1")
    got = world(old, on_mac(tree(D=DIR, D__a="1", D__b="1")), {**old, **tree(d__a="2")}).decide()
    assert got.untouched and {item.key for item in got.verdict.frozen} == {"d", "D"}


def test_row_dir_renamed_by_case_with_ignored_data_on_the_laptop_is_frozen() -> None:
    old = tree(d=DIR, d__a="1")
    laptop = side(old, traits=MAC, holding=["d"])
    assert world(old, laptop, tree(D=DIR, D__a="1")).decide().untouched


def test_row_twins_by_unicode_form_are_frozen_by_the_scan_and_stay_so() -> None:
    remote = side(tree(é="1"), issues={"é": Issue.COLLIDING})
    assert world(EMPTY, EMPTY, remote).decide().untouched


@both_ways
def test_row_a_name_is_spelled_as_on_each_side(flipped: bool) -> None:
    nfc, nfd = "\u00e9", "e\u0301"
    old = {nfc: DIR}
    here = side({nfc: DIR, nfc + "/a": file("1")}, spelling={nfc: nfd, nfc + "/a": nfd + "/a"})
    got = world(old, here, side(old), flipped=flipped).decide()
    assert [(op.key, op.path, op.source) for op in got.to_there] == [
        (nfc + "/a", nfc + "/a", nfd + "/a")
    ]


@both_ways
def test_row_a_new_name_is_spelled_as_where_it_comes_from(flipped: bool) -> None:
    nfc, nfd = "\u00e9", "e\u0301"
    here = side({nfc: file("1")}, spelling={nfc: nfd})
    got = world(EMPTY, here, EMPTY, flipped=flipped).decide()
    assert [op.path for op in got.to_there] == [nfd]


def test_row_a_name_that_windows_cannot_hold_stays_on_the_host() -> None:
    windows = side(EMPTY, traits=Traits(windows_names=True))
    remote = {"aux.py": file("1"), "a:b": DIR, "a:b/c": file("2"), "ok": file("3")}
    got = world(EMPTY, windows, remote).decide()
    assert brief(got.to_here) == ["+ok"]
    assert got.verdict.frozen == (
        Frozen("a:b", Where.REMOTE, Issue.UNNAMEABLE),
        Frozen("aux.py", Where.REMOTE, Issue.UNNAMEABLE),
    )


def test_row_a_laptop_without_x_bits_changes_none() -> None:
    windows = side(tree(a="1", b="2"), traits=Traits(executable=False))
    remote = tree(a=file("1", x=True), b=file("2", x=True))
    assert world(remote, windows, remote).decide().untouched
    adopted = world(EMPTY, windows, remote).decide()
    assert not adopted.to_there and adopted.verdict.ancestor == remote


def test_row_a_laptop_without_x_bits_keeps_those_of_an_edited_file() -> None:
    old = tree(a=file("1", x=True))
    got = world(old, side(tree(a="2"), traits=Traits(executable=False)), old).decide()
    assert [op.new for op in got.to_there] == [file("2", x=True)]


def test_row_a_laptop_without_x_bits_still_deletes_and_links() -> None:
    old = tree(a=file("1", x=True), d=DIR, l=link("x"))
    windows = side(tree(d=DIR, l=link("y")), traits=Traits(executable=False))
    got = world(old, windows, old).decide()
    assert brief(got.to_there) == ["~l", "-a"]


def test_row_a_host_without_x_bits_changes_none() -> None:
    old = tree(a=file("1", x=True))
    assert world(old, old, side(tree(a="1"), traits=Traits(executable=False))).decide().untouched


def test_row_same_content_after_another_kind_merges_the_x_bit() -> None:
    got = world(tree(a=link("x")), tree(a=file("2", x=True)), tree(a="2")).decide()
    assert brief(got.to_there) == ["xa"]


def test_row_a_link_is_left_out_where_the_laptop_can_make_none() -> None:
    windows = side(EMPTY, traits=Traits(links=False))
    got = world(EMPTY, windows, tree(a=link("x"))).decide()
    assert got.untouched
    assert [(item.key, item.why) for item in got.verdict.left_out] == [("a", LeftOutWhy.NO_LINKS)]


# --- ignores


@both_ways
def test_row_newly_ignored_is_forgotten_not_deleted(flipped: bool) -> None:
    old = tree(data=DIR, data__a="1", b="2")
    policy = Policy(ignore=Ignore([Source("data/")]))
    got = world(old, tree(b="2"), tree(b="2"), flipped=flipped).decide(policy)
    assert got.verdict.ancestor == {"data": None, "data/a": None}


@both_ways
def test_row_newly_ignored_is_not_deleted_when_one_scan_has_older_rules(flipped: bool) -> None:
    old = tree(data=DIR, data__a="1", b="2")
    policy = Policy(ignore=Ignore([Source("data/")]))
    got = world(old, tree(b="2"), old, flipped=flipped).decide(policy)
    assert not got.to_here and not got.to_there
    assert got.verdict.ancestor == {"data": None, "data/a": None}


def test_row_what_a_lying_agent_says_of_our_own_folder_is_dropped() -> None:
    remote = {".remotedl": DIR, ".remotedl/project.toml": file("evil")}
    assert world(EMPTY, EMPTY, remote).decide().untouched


# --- order, deltas, speed


def test_operations_are_sorted_whatever_the_order_of_the_trees() -> None:
    names = ["b", "a-", "a/b", "a", "a.b"]
    here = {name: DIR if name == "a" else file(name) for name in names}
    got = world(EMPTY, here, EMPTY).decide()
    assert brief(got.to_there) == ["+a", "+a/b", "+a-", "+a.b", "+b"]


def test_a_delta_gives_what_whole_trees_give() -> None:
    old = tree(**{f"f{number}": "1" for number in range(50)})
    here = {**old, **tree(f7="2")}
    del here["f9"]
    whole = reconcile(old, side(here), side(old), Policy())
    delta = reconcile(old, side(here), side(old), Policy(), changed=["f7", "f9", "f11"])
    assert delta == whole and whole.candidates == {"f7", "f9"}


def test_of_a_hundred_thousand_unchanged_entries_nothing_is_to_be_done() -> None:
    def made() -> Tree:
        return {f"d{n % 100}/f{n}": Entry(file("").kind, b"%032d" % n, n) for n in range(100_000)}

    ancestor, laptop, remote = made(), side(made()), side(made())
    assert reconcile(ancestor, laptop, remote, Policy()).idle


def test_depth_does_not_matter() -> None:
    keys = ["/".join(["d"] * depth) for depth in range(1, 2000)]
    deep = dict.fromkeys(keys, DIR)
    got = world(deep, EMPTY, deep).decide()
    assert [op.key for op in got.to_there] == keys[::-1]


# --- modes are in test_lanes.py; a conflict in laptop-wins stands here as the table's last line


def test_row_laptop_wins_puts_the_loser_into_the_trash() -> None:
    got = world(tree(a="1"), tree(a="2"), tree(a="3")).decide(LAPTOP_WINS)
    assert brief(got.to_there) == ["~a"] and not got.to_here and not got.verdict.conflicts
    assert got.to_there[0].expected == file("3")
    assert got.to_there[0].reason is Reason.LAPTOP_WINS


def test_a_decision_for_other_versions_is_void() -> None:
    (seen,) = world(tree(a="1"), tree(a="0"), tree(a="3")).decide().verdict.conflicts
    stale = Decision(Choice.LAPTOP, seen.version)
    got = world(tree(a="1"), tree(a="2"), tree(a="3")).decide(Policy(decisions={"a": stale}))
    assert got.untouched and got.verdict.conflicts and got.verdict.spent == ("a",)
