"""How long to wait before the next try. Pure: chance is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from remotedl.errors import AuthFailed, ConfigError, HostKeyChanged, HostKeyUnknown

FIRST_S = 0.5
FACTOR = 1.7
LONGEST_S = 20.0
FINAL = (AuthFailed, HostKeyChanged, HostKeyUnknown, ConfigError)
"""Trying again cannot mend these while a session reconnects."""


def delays(chance: Callable[[], float]) -> Iterator[float]:
    """Seconds to wait before try 1, 2, …: 0 at first, then growing, with jitter of ±25 %.

    `chance` gives numbers in [0, 1). The wait is capped so that a laptop that wakes up after a
    night is back within LONGEST_S, and spread so that a lab's laptops do not knock together.
    """
    yield 0.0
    wait = FIRST_S
    while True:
        yield wait * (0.75 + 0.5 * chance())
        wait = min(wait * FACTOR, LONGEST_S / 1.25)
