"""What a live session costs while nothing happens: CPU and memory with 100,000 files on each side,
and a start beside an ignored folder of as many.

The laptop's session is a process of its own; the agent is one anyway.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil

from benchmarks.sync_place import Place, make_tree, place, settle
from benchmarks.table import Row, in_turn

FILES = 100_000
WATCHED_S = 20.0


def main() -> list[Row]:
    with place() as at:
        rows = [_beside_ignored(at)]
    with place() as at:
        return [*_idle(at), *rows]


def _idle(at: Place) -> list[Row]:
    for side in (at.laptop, at.host):
        _many(side, FILES)
    at.once()
    settle()
    at.once()
    argv = [
        "benchmarks.sync_stay" if part == "benchmarks.sync_once" else part
        for part in at.once_argv()
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as session:
        assert session.stdout is not None
        session.stdout.readline()
        time.sleep(5)  # what was racy at the start has been looked at again
        laptop = psutil.Process(session.pid)
        (agent,) = (p for p in at.sshd.processes() if any("agent-" in a for a in p.cmdline()))
        before = [sum(process.cpu_times()[:2]) for process in (laptop, agent)]
        time.sleep(WATCHED_S)
        after = [sum(process.cpu_times()[:2]) for process in (laptop, agent)]
        rows = []
        for name, process, began, ended in zip(
            ("laptop", "host"), (laptop, agent), before, after, strict=True
        ):
            share = (ended - began) / WATCHED_S * 100
            rows.append(Row(f"idle, {FILES:,} files, {name}: CPU", share, "%", 1, "at most"))
            memory = process.memory_info().rss / 1e6
            rows.append(Row(f"idle, {FILES:,} files, {name}: memory", memory, "MB", 80, "at most"))
        session.terminate()
    return rows


def _beside_ignored(at: Place) -> Row:
    """A start with a `.venv` of 100,000 files, and the same start without it."""
    make_tree(at.laptop)
    settle()
    at.once()
    settle()
    at.once()
    venv, away = at.laptop / ".venv", at.base / "away"
    _many(away, FILES)

    def without() -> float:
        return at.once()

    def beside() -> float:
        away.rename(venv)
        try:
            return at.once()
        finally:
            venv.rename(away)

    ours, theirs = in_turn(7, beside, without)
    work = "start beside an ignored folder of 100,000 files"
    return Row(work, ours, "s", 1.05, "at most", theirs, "without it")


def _many(root: Path, count: int) -> None:
    for folder in range(count // 200):
        place = root / f"dir{folder:04}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(200):
            fd = os.open(place / f"file{number}", os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"%d %d" % (folder, number))
            os.close(fd)
