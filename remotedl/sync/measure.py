"""How fast the link is, measured before anything is sent. Knows no link: it is handed a question.

A dry run says how long a sync would take; what a link is called (Wi-Fi, VPN) says nothing.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST = 1 << 16
LARGEST = 1 << 20
"""Bytes each way in one question: a slow link must not be kept busy by a measurement."""
ENOUGH_S = 0.1
"""A question that takes so long longer than an empty one says enough."""


def measure_rate(ask: Callable[[int], None], clock: Callable[[], float]) -> float:
    """Bytes a second. `ask(size)` sends so many bytes, gets as many back, and returns then.

    Raises what `ask` raises.
    """

    def seconds(size: int) -> float:
        start = clock()
        ask(size)
        return clock() - start

    idle = min(seconds(0), seconds(0))
    size = FIRST
    taken = seconds(size) - idle
    while taken < ENOUGH_S and size < LARGEST:
        size *= 4
        taken = seconds(size) - idle
    return 2 * size / max(taken, 1e-6)
