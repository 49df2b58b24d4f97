"""The first try is at once; later ones grow, are capped and spread."""

from __future__ import annotations

from itertools import islice

from remotedl.session.backoff import LONGEST_S, delays


def test_first_try_is_at_once_then_waits_grow_to_the_cap() -> None:
    waits = list(islice(delays(lambda: 0.5), 20))
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[1] == 0.5
    assert waits[-1] <= LONGEST_S


def test_jitter_stays_within_a_quarter() -> None:
    low = list(islice(delays(lambda: 0.0), 30))
    high = list(islice(delays(lambda: 0.999), 30))
    for a, b in zip(low[1:], high[1:], strict=True):
        assert 1.6 < b / a < 1.7
    assert max(high) <= LONGEST_S
