"""A whole session: what it costs while nothing happens, and the sync beside a saturated tunnel.

The host is a real sshd on loopback; the services behind the tunnels are doubles
(tests/lab_tests/session/host_double.py), so that what is measured is the session alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.table import Row
from tests.lab_tests.session.traffic import Download, settled
from tests.lab_tests.session.trip import Trip, whole_trip

WATCHED_S = 30.0
EDITS = 60
PATIENCE_S = 10.0


def main() -> list[Row]:
    with (
        tempfile.TemporaryDirectory(prefix="remotedl-bench-") as folder,
        whole_trip(Path(folder)) as trip,
    ):
        pid = trip.up_in_background()
        settled(pid)
        return [*_idle(pid), *_latency(trip)]


def _idle(pid: int) -> list[Row]:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    before = sum(sum(one.cpu_times()[:2]) for one in family)
    time.sleep(WATCHED_S)
    spent = sum(sum(one.cpu_times()[:2]) for one in family) - before
    memory = sum(one.memory_full_info().uss for one in family) / 1e6
    return [
        Row("idle session: CPU", spent / WATCHED_S * 100, "%", 0.5, "at most"),
        Row("idle session: memory of its own", memory, "MB", 60, "at most", note="with its ssh"),
    ]


def _latency(trip: Trip) -> list[Row]:
    quiet = _edits(trip, "quiet")
    url = next(t.url or "" for t in trip.look().tunnels if t.name == "TensorBoard")
    download = Download(url)
    download.start()
    busy = _edits(trip, "busy")
    download.stop()
    assert download.whole, "the tunnel was not saturated"
    row = "an edit is on the host{}: {}"
    rows = []
    for name, taken in (("", quiet), (", the tunnel saturated", busy)):
        cuts = statistics.quantiles(taken, n=20)
        rows.append(Row(row.format(name, "median"), cuts[9], "ms", 150, "at most"))
        rows.append(Row(row.format(name, "p95"), cuts[18], "ms", 150, "at most"))
    return rows


def _edits(trip: Trip, name: str) -> list[float]:
    """From the save on the laptop until the host has it, ms."""
    taken = []
    for number in range(EDITS):
        text = f"{name} {number}\n"
        there = trip.workdir / "edited.txt"
        began = time.perf_counter()
        (trip.laptop.folder / "edited.txt").write_text(text)
        while not (there.exists() and there.read_text() == text):
            assert time.perf_counter() - began < PATIENCE_S, "the edit never came"
            time.sleep(0.002)
        taken.append((time.perf_counter() - began) * 1000)
        time.sleep(0.15)
    return taken
