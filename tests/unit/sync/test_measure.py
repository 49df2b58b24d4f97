"""The measured rate, on links that are made of arithmetic."""

from __future__ import annotations

import pytest

from remotedl.sync.measure import LARGEST, measure_rate


class Link:
    """So many bytes a second, and so long for the shortest answer."""

    def __init__(self, rate: float, round_trip_s: float) -> None:
        self.rate, self.round_trip_s = rate, round_trip_s
        self.now = 0.0
        self.asked: list[int] = []

    def ask(self, size: int) -> None:
        self.asked.append(size)
        self.now += self.round_trip_s + 2 * size / self.rate


@pytest.mark.parametrize("rate", [100e3, 12.5e6, 400e6])
@pytest.mark.parametrize("round_trip_s", [0.0, 0.04])
def test_the_rate_is_found_whatever_the_delay(rate: float, round_trip_s: float) -> None:
    link = Link(rate, round_trip_s)
    assert measure_rate(link.ask, lambda: link.now) == pytest.approx(rate)


def test_a_slow_link_is_not_kept_busy() -> None:
    link = Link(100e3, 0.04)
    measure_rate(link.ask, lambda: link.now)
    assert link.now < 2


def test_a_fast_link_is_asked_little() -> None:
    link = Link(10e9, 0.0)
    measure_rate(link.ask, lambda: link.now)
    assert max(link.asked) == LARGEST and len(link.asked) <= 5


def test_a_clock_that_stands_still_is_no_division_by_zero() -> None:
    assert measure_rate(lambda size: None, lambda: 0.0) > 0
