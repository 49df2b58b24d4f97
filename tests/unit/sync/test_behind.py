"""What a job would run with the host's older version."""

from __future__ import annotations

import pytest

from remotedl.config.models import SyncConfig
from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import DIR, Issue, Side, Traits, Tree
from remotedl.sync.behind import behind
from remotedl.sync.lanes import Policy, policy_of
from remotedl.sync.remedies import troubles_behind
from remotedl.sync.status import Barrier, Failure
from remotedl.sync.verdict import Frozen, LeftOut, LeftOutWhy, Where
from tests.unit.sync.worlds import file, side, tree


def keys(
    ancestor: Tree,
    laptop: Tree | Side,
    remote: Tree,
    policy: Policy | None = None,
    frozen: tuple[Frozen, ...] = (),
    left_out: tuple[LeftOut, ...] = (),
) -> tuple[str, ...]:
    here = laptop if isinstance(laptop, Side) else side(laptop)
    return behind(ancestor, here, side(remote), policy or Policy(), frozen, left_out)


@pytest.mark.parametrize(
    "ancestor, laptop, remote, expected",
    [
        ("1", "2", "2", False),
        ("1", "2", "1", True),
        ("1", "2", "3", True),
        ("1", "1", "2", False),
        (None, "1", None, True),
        ("1", None, "1", True),
        ("1", None, None, False),
        (None, "1", "2", True),
    ],
    ids=["same", "refused", "conflict", "host is newer", "new", "deleted", "gone", "both new"],
)
def test_what_the_laptop_changed_and_the_host_has_not(
    ancestor: str | None, laptop: str | None, remote: str | None, expected: bool
) -> None:
    known, here, there = (
        {} if text is None else tree(a=text) for text in (ancestor, laptop, remote)
    )
    assert keys(known, here, there) == (("a",) if expected else ())


def test_what_stays_on_its_side_on_purpose_is_not_behind() -> None:
    results = policy_of(SyncConfig(outputs=("runs/**",)), Ignore([Source("secret")]))
    assert keys({}, tree(runs__x="1", secret="1", a="1"), {}, results) == ("a",)
    too_big = (LeftOut("a", file("1"), LeftOutWhy.NO_LINKS),)
    assert keys({}, tree(a="1"), {}, left_out=too_big) == ()
    assert keys(tree(d=DIR), {}, tree(d=DIR)) == ()  # ignored data keeps it there
    without_x = side(tree(a="1"), traits=Traits(executable=False))
    assert keys({"a": file("1", x=True)}, without_x, {"a": file("1", x=True)}) == ()


@pytest.mark.parametrize(
    "issue, where, known, expected",
    [
        (Issue.UNSTABLE, Where.LAPTOP, False, True),
        (Issue.UNSTABLE, Where.REMOTE, True, False),
        (Issue.UNREADABLE, Where.LAPTOP, True, True),
        (Issue.UNREADABLE, Where.LAPTOP, False, False),
        (Issue.MOUNTPOINT, Where.LAPTOP, True, False),
    ],
)
def test_what_cannot_be_seen_on_the_laptop_may_have_been_saved(
    issue: Issue, where: Where, known: bool, expected: bool
) -> None:
    world = tree(d__a="1") if known else {}
    got = keys(world, world, world, frozen=(Frozen("d", where, issue),))
    assert got == (("d",) if expected else ())


def test_each_is_told_with_its_reason() -> None:
    refused = Failure("d", Where.REMOTE, "Permission denied")
    barrier = Barrier(1, (refused,), (), (), ("d/a", "e"))
    told = [(one.kind, one.path) for one in troubles_behind(barrier)]
    assert told == [("refused", "d/a"), ("pending", "e")]
