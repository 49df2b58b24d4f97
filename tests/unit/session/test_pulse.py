"""A frozen link is noticed by our own ping, and whoever was blocked on it is set free."""

from __future__ import annotations

import threading

from remotedl.errors import LinkLost
from remotedl.session.pulse import DOUBT_DEADLINE_S, Pulse


class FrozenLink:
    """A double of a Remote that answers `good` pings and then no more."""

    def __init__(self, good: int) -> None:
        self.good, self.deadlines = good, []  # type: int, list[float]
        self.closed = threading.Event()
        self.pinged = threading.Event()

    stranded = False

    def ping(self, deadline_s: float) -> float:
        self.deadlines.append(deadline_s)
        if len(self.deadlines) > self.good:
            raise LinkLost("no answer")
        self.pinged.set()
        return 0.001

    def close(self) -> None:
        self.closed.set()


def test_a_link_that_does_not_answer_is_closed_and_told() -> None:
    link, lost = FrozenLink(good=3), threading.Event()
    pulse = Pulse(link, lost, every_s=0.001)  # type: ignore[arg-type]
    pulse.start()
    assert lost.wait(10)
    assert link.closed.is_set()
    assert len(link.deadlines) == 4
    assert pulse.why is not None
    assert "no answer" in pulse.why.message
    pulse.stop()


def test_a_stopped_pulse_pings_no_more_and_closes_nothing() -> None:
    link, lost = FrozenLink(good=10**9), threading.Event()
    pulse = Pulse(link, lost, every_s=0.001)  # type: ignore[arg-type]
    pulse.start()
    assert link.pinged.wait(10)
    pulse.stop()
    count = len(link.deadlines)
    assert not lost.wait(0.02)
    assert len(link.deadlines) == count
    assert not link.closed.is_set()


def test_after_a_sleep_of_the_laptop_the_deadline_is_short() -> None:
    clock = iter([0.0, 3600.0, 3600.0])
    link, lost = FrozenLink(good=0), threading.Event()
    pulse = Pulse(link, lost, every_s=0.001, now=lambda: next(clock))  # type: ignore[arg-type]
    pulse.start()
    assert lost.wait(10)
    assert link.deadlines == [DOUBT_DEADLINE_S]


def test_after_a_change_of_network_the_deadline_is_short() -> None:
    link, lost = FrozenLink(good=0), threading.Event()
    link.stranded = True
    pulse = Pulse(link, lost, every_s=0.001)  # type: ignore[arg-type]
    pulse.start()
    assert lost.wait(10)
    assert link.deadlines == [DOUBT_DEADLINE_S]
