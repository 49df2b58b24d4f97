"""What a benchmark says: rows of a table, and how they are written down.

A measurement says little without another one of the same minute: peers run in turn with ours
(`in_turn`), and targets are ratios wherever a peer exists.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Target = tuple[float, Literal["at least", "at most"]]
HEAD = "| work | ours | peer | ratio | target | reached |\n|---|---|---|---|---|---|"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was done, how we did, how the peer did, and what was wanted."""

    work: str
    ours: float
    unit: str
    target: float
    bound: Literal["at least", "at most"]
    peer: float | None = None
    """None: no peer was at hand, or there is none; the target then is one of `ours`."""
    peer_name: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer

    @property
    def reached(self) -> bool:
        value = self.ours if self.ratio is None else self.ratio
        return value >= self.target if self.bound == "at least" else value <= self.target

    def line(self) -> str:
        """As one line of a Markdown table."""
        peer = "–" if self.peer is None else f"{self.peer_name} {_number(self.peer)} {self.unit}"
        target = f"{self.bound} {_number(self.target)}"
        if self.ratio is None:
            target += f" {self.unit}"
        cells = [
            f"{self.work} ({self.note})" if self.note else self.work,
            f"{_number(self.ours)} {self.unit}",
            peer,
            "–" if self.ratio is None else f"{self.ratio:.2f}",
            target,
            "yes" if self.reached else "**no**",
        ]
        return f"| {' | '.join(cells)} |"


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The median of each measure, taken in turn, so that all meet the same disturbances."""
    taken: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for measure, values in zip(measures, taken, strict=True):
            values.append(measure())
    return [statistics.median(values) for values in taken]


def table(rows: Sequence[Row]) -> str:
    return "\n".join([HEAD, *(row.line() for row in rows)])


def machine() -> str:
    """What the numbers were taken on, in one line."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()}, "
        f"Python {platform.python_version()}, load {load:.1f} before the start"
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
