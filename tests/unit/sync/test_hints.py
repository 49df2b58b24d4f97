"""When a path is looked at after an event: bursts, writers, and names that went away."""

from __future__ import annotations

import pytest

from remotedl.sync.agent.hints import (
    BURST_S,
    FEW,
    GONE_CAP_S,
    GONE_S,
    MANY,
    MANY_CAP_S,
    QUIET_S,
    ROOT,
    SETTLE_S,
    WRITER_S,
    Hint,
    Hints,
)

EPS = 1e-6


def test_a_change_is_looked_at_after_a_moment_of_quiet() -> None:
    hints = Hints()
    hints.add("a", Hint.CHANGED, 1.0)
    assert hints.ripe(1.0 + QUIET_S - EPS) == []
    assert hints.next_ripe(1.0) == pytest.approx(QUIET_S)
    assert hints.ripe(1.0 + QUIET_S) == ["a"]
    assert len(hints) == 0 and hints.next_ripe(2.0) is None


def test_a_burst_that_does_not_end_is_looked_at_anyway() -> None:
    hints = Hints()
    for number in range(25):
        hints.add(f"f{number}", Hint.CHANGED, number * QUIET_S / 2)
        assert hints.ripe(number * QUIET_S / 2) == []
    assert len(hints.ripe(BURST_S)) == 25


def test_a_writer_that_does_not_close_is_waited_for() -> None:
    hints = Hints()
    hints.add("log", Hint.WRITTEN, 0.0)
    hints.add("log", Hint.WRITTEN, WRITER_S / 2)
    assert hints.ripe(WRITER_S - EPS) == []
    assert hints.ripe(WRITER_S) == ["log"]
    hints.add("log", Hint.WRITTEN, 10.0)
    hints.add("log", Hint.CHANGED, 10.5)
    assert hints.ripe(10.5 + QUIET_S) == ["log"]


def test_a_name_that_went_away_and_came_back_is_a_change() -> None:
    hints = Hints()
    hints.add("a", Hint.GONE, 0.0)
    assert hints.ripe(GONE_S - EPS) == []
    hints.add("a", Hint.CHANGED, 0.05)
    assert hints.ripe(0.05 + QUIET_S) == ["a"]


def test_names_that_go_one_after_the_other_are_looked_at_together() -> None:
    hints = Hints()
    hints.add("a", Hint.GONE, 0.0)
    hints.add("b", Hint.GONE, GONE_S / 2)
    assert hints.ripe(GONE_S) == []
    assert hints.ripe(1.5 * GONE_S) == ["a", "b"]


def test_a_few_that_keep_going_away_do_not_hold_each_other_back_for_ever() -> None:
    hints = Hints()
    now, seen = 0.0, 0
    while now < 2 * GONE_CAP_S:
        hints.add(f"temporary-{now}", Hint.GONE, now)
        now += GONE_S / 1.5
        seen += len(hints.ripe(now))
        hints.add("module.py", Hint.CHANGED, now)
    assert seen > 1


def test_a_removal_that_is_held_up_for_a_moment_is_waited_for() -> None:
    hints = Hints()
    for number in range(FEW + 1):
        hints.add(f"f{number}", Hint.GONE, 0.0)
    assert hints.next_ripe(QUIET_S) == pytest.approx(SETTLE_S - QUIET_S)
    assert hints.ripe(4 * GONE_S) == []
    hints.add("another", Hint.GONE, 4 * GONE_S)
    assert hints.ripe(4 * GONE_S + SETTLE_S - EPS) == []
    assert len(hints.ripe(4 * GONE_S + SETTLE_S + EPS)) == FEW + 2


def test_an_rm_rf_is_taken_as_a_whole() -> None:
    """Not file by file: so a quarter of a folder is never deleted before anybody can count."""
    hints = Hints()
    now = 0.0
    hints_seen: list[str] = []
    while now < MANY_CAP_S - 1:
        for number in range(3):
            hints.add(f"{now:.2f}/{number}", Hint.GONE, now)
        now += GONE_S / 2
        hints_seen += hints.ripe(now)
    assert hints_seen == []
    count = len(hints)
    assert len(hints.ripe(now + SETTLE_S)) == count > MANY


def test_an_overflow_in_the_middle_of_an_rm_rf_waits_for_its_end() -> None:
    hints = Hints()
    for number in range(MANY + 1):
        hints.add(f"f{number}", Hint.GONE, number / 1000)
    hints.add(ROOT, Hint.CHANGED, 0.1)
    assert hints.ripe(0.1 + QUIET_S) == []
    assert hints.ripe(0.1 + SETTLE_S) == [ROOT]


def test_a_save_is_not_held_back_by_an_rm_rf() -> None:
    hints = Hints()
    for number in range(1000):
        hints.add(f"f{number}", Hint.GONE, 0.0)
    hints.add("thesis.tex", Hint.CHANGED, 0.01)
    assert hints.ripe(0.01 + QUIET_S) == ["thesis.tex"]


def test_the_root_stands_for_all() -> None:
    hints = Hints()
    hints.add("a", Hint.GONE, 0.0)
    hints.add(ROOT, Hint.CHANGED, 0.0)
    assert hints.ripe(QUIET_S) == [ROOT]
    assert len(hints) == 0


def test_all_are_taken_ripe_or_not() -> None:
    hints = Hints()
    hints.add("b", Hint.GONE, 0.0)
    hints.add("a", Hint.WRITTEN, 0.0)
    assert hints.all() == ["a", "b"]
    assert len(hints) == 0
