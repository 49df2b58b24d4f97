"""A time by which something has to be done, passed along through all that it takes."""

from __future__ import annotations

import time


class Limit:
    """`timeout_s` from now on; None: no limit."""

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s
        """As time.monotonic()."""

    @property
    def left(self) -> float | None:
        """Seconds, 0 where it is over."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def over(self) -> bool:
        return self.left == 0.0

    def at_most(self, seconds: float) -> float:
        left = self.left
        return seconds if left is None else min(seconds, left)
