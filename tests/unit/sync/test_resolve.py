"""How a conflict ends: by a decision, or by itself."""

from __future__ import annotations

import pytest

from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import DIR, Issue, Tree
from remotedl.sync.lanes import Choice, Decision, Policy
from remotedl.sync.verdict import Reason, conflict_copy, settle
from tests.unit.sync.worlds import Outcome, World, brief, file, side, tree, world

OLD, MINE, THEIRS = tree(a="1"), tree(a="2"), tree(a="3")
COPY = conflict_copy("a", file("3").digest or b"")


def deciding(state: World, choice: Choice, key: str = "a", policy: Policy | None = None) -> Policy:
    (found,) = state.decide(policy).verdict.conflicts
    return (policy or Policy())._replace(decisions={key: Decision(choice, found.version)})


def rest(state: World, policy: Policy) -> tuple[World, list[Outcome]]:
    """Cycles until nothing happens; the decision stays until it is said to be spent."""
    outcomes = []
    for _ in range(6):
        outcome = state.decide(policy)
        outcomes.append(outcome)
        if outcome.untouched:
            return outcome.world, outcomes
        state = outcome.after()
    raise AssertionError("never at rest")


def both(state: World) -> Tree:
    assert state.here.tree == state.there.tree
    return state.here.tree


@pytest.mark.parametrize("old", [OLD, {}])
def test_resolve_laptop(old: Tree) -> None:
    state = world(old, MINE, THEIRS)
    got = state.decide(deciding(state, Choice.LAPTOP))
    assert brief(got.to_there) == ["~a"] and not got.to_here
    assert got.to_there[0].reason is Reason.RESOLVED
    assert both(got.after()) == MINE


@pytest.mark.parametrize("old", [OLD, {}])
def test_resolve_remote(old: Tree) -> None:
    state = world(old, MINE, THEIRS)
    got = state.decide(deciding(state, Choice.REMOTE))
    assert brief(got.to_here) == ["~a"] and not got.to_there
    assert both(got.after()) == THEIRS


def test_resolve_remote_brings_down_even_what_is_too_big() -> None:
    state = world(OLD, MINE, tree(a=file("3", size=10**12)))
    assert brief(state.decide(deciding(state, Choice.REMOTE)).to_here) == ["~a"]


def test_resolve_both_writes_one_named_copy_before_it_takes_the_place() -> None:
    state = world(OLD, MINE, THEIRS)
    policy = deciding(state, Choice.BOTH)
    first = state.decide(policy)
    assert [(op.path, op.source, op.new) for op in first.to_here] == [(COPY, "a", file("3"))]
    assert not first.to_there and not first.verdict.conflicts and not first.verdict.spent
    assert settle(first.verdict, {COPY}, set()) == {}
    second = first.after().decide(policy)
    assert brief(second.to_there) == ["~a", "+" + COPY] and not second.to_here
    assert both(second.after()) == {"a": file("2"), COPY: file("3")}
    assert second.after().decide(policy).verdict.spent == ("a",)


def test_resolve_both_for_a_dir_against_a_file() -> None:
    state = world({}, tree(a="2"), tree(a=DIR, a__x="3", a__y=DIR, a__y__z="4"))
    end, _ = rest(state, deciding(state, Choice.BOTH))
    assert len(both(end)) == 5 and both(end)["a"] == file("2")
    (copy,) = [path for path, entry in both(end).items() if entry == DIR and "/" not in path]
    assert both(end)[f"{copy}/y/z"] == file("4")


def test_resolve_both_for_a_file_against_a_dir() -> None:
    state = world({}, tree(a=DIR, a__x="3"), tree(a="2"))
    end, _ = rest(state, deciding(state, Choice.BOTH))
    copy = conflict_copy("a", file("2").digest or b"")
    assert both(end) == {"a": DIR, "a/x": file("3"), copy: file("2")}


def test_resolve_both_copies_nothing_but_what_is_in_conflict() -> None:
    around = {"a-": file("5"), "ab": DIR, "ab/c": file("6"), "z": file("7")}
    state = world({}, tree(a="2"), {**tree(a=DIR, a__x="3"), **around})
    end, _ = rest(state, deciding(state, Choice.BOTH))
    assert len(both(end)) == 1 + len(around) + 2


def test_resolve_both_spells_the_copy_as_its_folder_is_spelled() -> None:
    nfc, nfd = "\u00e9", "e\u0301"
    mine = {nfc: DIR, nfc + "/a": file("2")}
    laptop = side(mine, spelling={nfc: nfd, nfc + "/a": nfd + "/a"})
    state = world({}, laptop, {nfc: DIR, nfc + "/a": DIR, nfc + "/a/x": file("3")})
    copies = state.decide(deciding(state, Choice.BOTH, nfc + "/a")).to_here
    assert len(copies) == 2 and all(op.path.startswith(nfd + "/a.conflict") for op in copies)
    assert [op.source for op in copies] == [nfc + "/a", nfc + "/a/x"]


def test_resolve_both_does_not_touch_a_file_that_has_the_copys_name() -> None:
    state = world({}, {**MINE, COPY: file("mine")}, THEIRS)
    end, _ = rest(state, deciding(state, Choice.BOTH))
    other = conflict_copy("a", file("3").digest or b"", 2)
    assert both(end) == {"a": file("2"), COPY: file("mine"), other: file("3")}


def test_resolve_both_finishes_an_interrupted_copy_of_a_dir() -> None:
    state = world({}, tree(a="2"), tree(a=DIR, a__x="3", a__y="4"))
    policy = deciding(state, Choice.BOTH)
    after = state.decide(policy).after()
    half = {path: entry for path, entry in after.here.tree.items() if not path.endswith("/y")}
    end, _ = rest(after._replace(here=side(half)), policy)
    assert len(both(end)) == 4


def test_resolve_both_stays_a_conflict_where_the_copys_name_is_ignored() -> None:
    state = world(OLD, MINE, THEIRS)
    ignoring = Policy(ignore=Ignore([Source("*.conflict-*")]))
    got = state.decide(deciding(state, Choice.BOTH, policy=ignoring))
    assert got.untouched and got.verdict.conflicts


def test_resolve_waits_while_the_loser_is_not_well_seen() -> None:
    state = world({}, tree(a="2"), side(tree(a=DIR, a__x="3"), issues={"a/x": Issue.UNSTABLE}))
    for choice in (Choice.LAPTOP, Choice.BOTH):
        got = state.decide(deciding(state, choice))
        assert got.untouched and got.verdict.conflicts and not got.verdict.spent


def test_a_copy_of_a_copy_is_named_after_the_original() -> None:
    digest = bytes(range(32))
    assert conflict_copy("d/a.py", digest) == "d/a.conflict-host-00010203.py"
    assert conflict_copy("d/a.conflict-host-aabbccdd.py", digest) == "d/a.conflict-host-00010203.py"
    assert conflict_copy("a.conflict-host-aabbccdd-2.py", digest) == "a.conflict-host-00010203.py"
    assert conflict_copy("a.conflict-host-aabbccdd", digest) == "a.conflict-host-00010203"


@pytest.mark.parametrize(
    "key, copy",
    [
        ("Makefile", "Makefile.conflict-host-00010203"),
        (".bashrc", ".bashrc.conflict-host-00010203"),
        (".a.b", ".a.conflict-host-00010203.b"),
        ("x.tar.gz", "x.tar.conflict-host-00010203.gz"),
        ("...", "....conflict-host-00010203"),
    ],
)
def test_a_copys_name_keeps_the_ending(key: str, copy: str) -> None:
    assert conflict_copy(key, bytes(range(32))) == copy


@pytest.mark.parametrize("stem", ["n" * 252, "é" * 125])
def test_a_copys_name_fits(stem: str) -> None:
    copy = conflict_copy(f"d/{stem}.py", bytes(range(32)))
    assert len(copy[2:].encode()) <= 255 and copy.endswith(".conflict-host-00010203.py")


# --- by itself


@pytest.mark.parametrize("old", [OLD, {}])
def test_deleting_the_loser_resolves(old: Tree) -> None:
    got = world(old, MINE, {}).decide()
    assert brief(got.to_there) == ["+a"] and both(got.after()) == MINE


def test_making_both_equal_resolves() -> None:
    assert world(OLD, MINE, MINE).decide().verdict.ancestor == MINE


def test_going_back_to_the_old_version_resolves() -> None:
    got = world(OLD, OLD, THEIRS).decide()
    assert both(got.after()) == THEIRS


def test_a_standing_conflict_is_listed_again_and_again() -> None:
    first = world(OLD, MINE, THEIRS).decide()
    second = first.after().decide()
    assert first.verdict.conflicts == second.verdict.conflicts != ()
    assert "a" in first.verdict.candidates


def test_a_decision_is_void_when_something_changes_in_a_dir_that_would_go() -> None:
    state = world({}, tree(a=DIR, a__x="2"), tree(a="3"))
    policy = deciding(state, Choice.REMOTE)
    later = state._replace(here=side(tree(a=DIR, a__x="2", a__new="4")))
    got = later.decide(policy)
    assert got.untouched and got.verdict.conflicts and got.verdict.spent == ("a",)


def test_a_decision_for_what_is_no_conflict_any_more_is_spent() -> None:
    state = world(OLD, MINE, THEIRS)
    policy = deciding(state, Choice.LAPTOP)
    assert world(MINE, MINE, MINE).decide(policy).verdict.spent == ("a",)
