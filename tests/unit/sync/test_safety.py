"""The three halts, by name, and the proof that nothing unsound passes."""

from __future__ import annotations

import pytest

from remotedl.errors import SyncHalted
from remotedl.sync.agent.tree import DIR, Entry, Issue, Side, Tree
from remotedl.sync.lanes import Policy
from remotedl.sync.losses import Losses
from remotedl.sync.reconcile import reconcile
from remotedl.sync.safety import Cleared, Halt, HaltKind, Root, check_roots, clear
from remotedl.sync.verdict import Operation, Phase, Reason, Verdict, Where
from tests.unit.sync.worlds import file, side, tree

GOOD = Root(True, "id", "id")
FRESH = Root(True, None, None)


def files(number: int) -> Tree:
    return {f"f{n:03}": file(str(n)) for n in range(number)}


def judged(
    ancestor: Tree,
    laptop: Tree,
    remote: Tree,
    allowed: frozenset[HaltKind] = frozenset(),
    lost: frozenset[str] = frozenset(),
) -> Cleared | Halt:
    sides = side(laptop), side(remote)
    verdict = reconcile(ancestor, *sides, Policy())
    return clear(verdict, ancestor, *sides, allowed, lost)


def halted(found: Cleared | Halt | None) -> Halt:
    assert isinstance(found, Halt)
    return found


# --- roots


def test_halt_not_on_a_first_sync() -> None:
    assert check_roots(FRESH, FRESH) is None
    assert check_roots(GOOD, GOOD) is None


def test_halt_not_when_the_database_was_lost() -> None:
    assert check_roots(Root(True, "id", None), Root(True, "id", None)) is None


@pytest.mark.parametrize("where", list(Where))
@pytest.mark.parametrize(
    "root, kind",
    [
        (Root(False, None, "id"), HaltKind.ROOT_MISSING),
        (Root(False, None, None), HaltKind.ROOT_MISSING),
        (Root(True, None, "id"), HaltKind.ROOT_REPLACED),
        (Root(True, "other", "id"), HaltKind.ROOT_REPLACED),
    ],
)
def test_halt_root_missing_or_replaced(where: Where, root: Root, kind: HaltKind) -> None:
    roots = (root, GOOD) if where is Where.LAPTOP else (GOOD, root)
    halt = halted(check_roots(*roots))
    assert (halt.kind, halt.where) == (kind, where)
    assert f"--allow {kind}" in halt.hint
    assert check_roots(*roots, allowed=frozenset([kind])) is None


def test_a_halt_is_an_error_with_its_way_on() -> None:
    halt = halted(check_roots(GOOD, Root(True, None, "id")))
    error = halt.error()
    assert isinstance(error, SyncHalted) and error.exit_code == 61
    assert "host" in error.message and error.hint == halt.hint


# --- emptied


@pytest.mark.parametrize("where", list(Where))
def test_halt_root_emptied(where: Where) -> None:
    old = files(3)
    trees = ({}, old) if where is Where.LAPTOP else (old, {})
    halt = halted(judged(old, *trees))
    assert (halt.kind, halt.where) == (HaltKind.ROOT_EMPTIED, where)
    allowed = judged(old, *trees, allowed=frozenset([HaltKind.ROOT_EMPTIED]))
    assert isinstance(allowed, Cleared) and len(allowed.to_laptop + allowed.to_remote) == 3


def test_halt_not_when_the_only_file_was_deleted() -> None:
    assert isinstance(judged(files(1), {}, files(1)), Cleared)


def test_halt_not_when_both_are_empty() -> None:
    assert isinstance(judged(files(9), {}, {}), Cleared)


def test_halt_not_when_the_emptied_side_is_only_refilled() -> None:
    old = files(3)
    edited = {key: file("edited") for key in old}
    assert isinstance(judged(old, edited, {}), Cleared)


# --- too many deletes


def test_halt_mass_delete_on_the_laptop() -> None:
    old = files(100)
    kept = {key: old[key] for key in sorted(old)[:49]}
    halt = halted(judged(old, old, kept))
    assert (halt.kind, halt.where) == (HaltKind.MASS_DELETE, Where.LAPTOP)
    assert "51 of the laptop's 100 files" in halt.message
    allowed = judged(old, old, kept, frozenset([HaltKind.MASS_DELETE]))
    assert isinstance(allowed, Cleared) and len(allowed.to_laptop) == 51


def test_halt_not_for_fifty_deletes() -> None:
    old = files(60)
    kept = {key: old[key] for key in sorted(old)[:10]}
    assert isinstance(judged(old, old, kept), Cleared)


@pytest.mark.parametrize("deleted, stops", [(100, False), (101, True)])
def test_halt_mass_delete_is_a_quarter_of_many(deleted: int, stops: bool) -> None:
    old = files(400)
    kept = {key: old[key] for key in sorted(old)[deleted:]}
    assert isinstance(judged(old, old, kept), Halt) is stops


def test_halt_mass_delete_is_a_quarter_of_the_files_not_of_the_dirs() -> None:
    old: Tree = files(100) | {f"d{n}": DIR for n in range(500)}
    kept = {key: old[key] for key in sorted(old)[:540]}
    assert isinstance(judged(old, old, kept), Halt)


@pytest.mark.parametrize(
    "root, what",
    [
        (Root(False, None, "id"), "is not there"),
        (Root(True, None, "id"), "has lost its marker"),
        (Root(True, "other", "id"), "is not the one of the last sync"),
    ],
)
def test_a_halt_says_which_folder_and_what(root: Root, what: str) -> None:
    assert halted(check_roots(root, GOOD)).message.startswith(f"the laptop's folder {what}")
    assert halted(check_roots(GOOD, root)).message.startswith(f"the host's folder {what}")


def test_halt_mass_delete_counts_what_makes_room() -> None:
    old: Tree = {"d": DIR, **{f"d/{key}": entry for key, entry in files(60).items()}, "z": file("")}
    halt = halted(judged(old, old, tree(d="now a file", z="")))
    assert halt.kind is HaltKind.MASS_DELETE


@pytest.mark.parametrize("number, stops", [(49, False), (50, True)])
def test_halt_mass_delete_that_comes_in_pieces(number: int, stops: bool) -> None:
    now = files(100)
    kept = {key: entry for key, entry in now.items() if key != "f000"}
    lost = frozenset(f"gone{n}" for n in range(number))
    found = judged(now, now, kept, lost=lost)
    assert isinstance(found, Halt) is stops
    if isinstance(found, Halt):
        assert "1 of the laptop's 100 files" in found.message
        assert found.message.endswith("50 went within the last 10 minutes")
    assert isinstance(judged(now, now, now, lost=lost), Cleared)  # nothing would be deleted


def test_losses_are_those_of_the_last_minutes() -> None:
    losses = Losses()
    for n in range(600):
        losses.note(float(n), f"f{n}", file("1"), None)
    losses.note(600.0, "d", DIR, None)
    losses.note(600.0, "e", file("1"), file("2"))
    assert len(losses.lately(600.0, {})) == 600
    assert losses.lately(1190.0, {"f599": file("1")}) == {f"f{n}" for n in range(590, 599)}
    losses.forgive()
    assert not losses.lately(1190.0, {})


@pytest.mark.parametrize("lived, lost", [(60.0, False), (61.0, True)])
def test_a_scratch_file_of_the_host_is_no_loss(lived: float, lost: bool) -> None:
    losses = Losses()
    losses.note(5.0, "scratch", None, file("1"))
    losses.note(5.0 + lived, "scratch", file("1"), None)
    assert bool(losses.lately(5.0 + lived, {})) is lost


def test_halt_not_for_many_dirs() -> None:
    old: Tree = {f"d{n}": DIR for n in range(200)} | files(2)
    assert isinstance(judged(old, old, files(2)), Cleared)


def test_a_branch_switch_on_the_laptop_goes_through_with_a_notice() -> None:
    old = files(100)
    kept = {key: old[key] for key in sorted(old)[:10]}
    found = judged(old, kept, old)
    assert isinstance(found, Cleared) and len(found.to_remote) == 90
    assert "90 files" in found.notices[0] and "sync undo" in found.notices[0]


def test_a_few_deletes_are_not_worth_a_notice() -> None:
    old = files(9)
    found = judged(old, {key: old[key] for key in sorted(old)[1:]}, old)
    assert isinstance(found, Cleared) and not found.notices


# --- what a defect of ours would look like


def made_up(where: Where, *operations: Operation) -> Verdict:
    laptop = operations if where is Where.LAPTOP else ()
    remote = operations if where is Where.REMOTE else ()
    return Verdict(laptop, remote, {}, (), (), (), (), frozenset())


def delete(key: str, expected: Entry, reason: Reason = Reason.DELETED) -> Operation:
    return Operation(key, key, key, expected, None, reason, Phase.DELETE)


def replace(key: str, expected: Entry, new: Entry) -> Operation:
    return Operation(key, key, key, expected, new, Reason.EDITED, Phase.WRITE)


OLD = tree(a="1", d=DIR, d__b="1")


@pytest.mark.parametrize("where", list(Where))
@pytest.mark.parametrize(
    "operation, changed, other",
    [
        pytest.param(delete("a", file("1")), OLD, side(OLD), id="still-there"),
        pytest.param(delete("a", file("2")), OLD, side({}), id="another-version"),
        pytest.param(delete("a", file("2")), tree(a="2"), side({}), id="never-agreed"),
        pytest.param(
            delete("a", file("2"), Reason.MADE_ROOM), OLD, side({}), id="room-of-another-version"
        ),
        pytest.param(replace("a", file("2"), file("3")), tree(a="2"), side(OLD), id="edited"),
        pytest.param(
            delete("d/b", file("1")),
            OLD,
            side(tree(d=DIR), issues={"d": Issue.UNREADABLE}),
            id="not-listed",
        ),
        pytest.param(
            delete("a", file("1"), Reason.MADE_ROOM),
            OLD,
            side({}, issues={"": Issue.UNREADABLE}),
            id="root-not-listed",
        ),
    ],
)
def test_an_unsound_verdict_is_stopped(
    where: Where, operation: Operation, changed: Tree, other: Side
) -> None:
    sides = (side(changed), other) if where is Where.LAPTOP else (other, side(changed))
    halt = halted(
        clear(made_up(where, operation), OLD, *sides, frozenset(HaltKind) - {HaltKind.UNSOUND})
    )
    assert (halt.kind, halt.where) == (HaltKind.UNSOUND, where)


def test_an_unsound_verdict_cannot_be_let_pass() -> None:
    verdict = made_up(Where.LAPTOP, delete("a", file("1")))
    assert isinstance(clear(verdict, OLD, side(OLD), side(OLD), frozenset(HaltKind)), Halt)


def test_what_could_not_be_read_is_not_replaced() -> None:
    verdict = made_up(Where.LAPTOP, replace("a", file("1"), file("2")))
    here = side(OLD, issues={"a": Issue.UNSTABLE})
    assert isinstance(clear(verdict, OLD, here, side(tree(a="2"))), Halt)


@pytest.mark.parametrize("where", list(Where))
def test_work_that_stays_of_a_deleted_folder_is_listed(where: Where) -> None:
    old = tree(d=DIR, d__a="1", z="9")
    new = {f"d/n{number}": file("7") for number in range(7)}
    gone, there = tree(z="9"), {**old, **new}
    laptop, remote = (there, gone) if where is Where.REMOTE else (gone, there)
    cleared = judged(old, laptop, remote)
    assert isinstance(cleared, Cleared)
    sides = ["the laptop's folder", "the host's folder"]
    if where is Where.REMOTE:
        sides.reverse()
    assert cleared.notices == (
        f"deleted in {sides[0]}, but new or edited in {sides[1]}: 'd/n0', 'd/n1', 'd/n2', 'd/n3', "
        "'d/n4' and 2 more; kept, with the folders that lead there",
    )


@pytest.mark.parametrize("reason", [Reason.NEW, Reason.EDITED, Reason.RESTORED, Reason.MERGED])
def test_unsound_what_would_bring_an_instruction_unasked(reason: Reason) -> None:
    there = {".gitattributes": file("evil")}
    op = Operation(
        ".gitattributes", *[".gitattributes"] * 2, None, file("evil"), reason, Phase.WRITE
    )
    verdict = Verdict((op,), (), {}, (), (), (), (), frozenset())
    found = halted(clear(verdict, {}, side({}), side(there)))
    assert found.kind is HaltKind.UNSOUND and "unasked" in found.message
    decided = verdict._replace(to_laptop=(op._replace(reason=Reason.RESOLVED),))
    assert isinstance(clear(decided, {}, side({}), side(there)), Cleared)
