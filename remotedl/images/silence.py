"""A build that prints nothing for a minute says what it waits for.

Most of what hangs in a build hangs in the network: a mirror that is down, or packets that are
larger than the host's way out carries, which are lost without an error on either side.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from remotedl.images.wish import HostCapabilities
from remotedl.report import Report

SILENT_S = 60.0
STEP = re.compile(r"\[(?:\S+ +)?\d+/\d+\] ")


@contextmanager
def telling_silence(
    report: Report, host: HostCapabilities, silent_s: float = SILENT_S
) -> Iterator[Report]:
    """A Report that passes everything on to `report`, and tells it of each silence, once."""
    heard = Silence(report, host, time.monotonic)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(heard.check(silent_s)):
            pass

    thread = threading.Thread(target=watch, name="build-silence", daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()


class Silence:
    """Notes when something was last heard, and of what."""

    def __init__(self, report: Report, host: HostCapabilities, clock: Callable[[], float]) -> None:
        self._report = report
        self._host = host
        self._clock = clock
        self._at = clock()
        self._step = ""
        self._line = ""
        self._told = False

    def check(self, silent_s: float) -> float:
        """Tell of a silence that is `silent_s` long; returns the seconds until the next look."""
        silent = self._clock() - self._at
        if silent < silent_s:
            return silent_s - silent
        if not self._told:
            self._told = True
            step = self._step or "the build"
            last = f"; last line: {self._line}" if self._line else ""
            self._report.warn(
                f"no output for {silent:.0f} s: {step} is still at work{last}", self._hint()
            )
        return silent_s

    def _hint(self) -> str:
        if self._host.small_packets:
            return "remotedl provision (Docker's packets are too large for this host's network)"
        return ""

    def _hear(self) -> None:
        self._at = self._clock()
        self._told = False

    def stage(self, name: str, detail: str = "") -> None:
        self._hear()
        self._report.stage(name, detail)

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        self._hear()
        self._report.progress(what, done, total, unit)

    def note(self, text: str) -> None:
        self._hear()
        self._report.note(text)

    def warn(self, text: str, hint: str = "") -> None:
        self._hear()
        self._report.warn(text, hint)

    def output(self, line: str) -> None:
        self._hear()
        if STEP.match(line):
            self._step, self._line = line, ""
        else:
            self._line = line
        self._report.output(line)
