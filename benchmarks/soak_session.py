"""A day of a bad link in minutes: cuts at random while everything that a session does goes on.

A download that is retried, a websocket client, a job and edits on both sides run through them all.
At the end both folders must be equal, no byte of a download wrong, every line of the job there
once, the ports and the token the same; and the session's process must hold no more threads,
descriptors, children and memory than after the first tenth of the cuts.
`python -m benchmarks.soak_session --cuts 1000`; exit status 1 if not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from remotedl.session.status import Phase
from tests.lab.sessions import eventually
from tests.lab_tests.session.traffic import Counted, count, settled, traffic
from tests.lab_tests.session.trip import Trip, whole_trip

TICKS = "i=0; while [ $i -lt 360000 ]; do i=$((i+1)); echo $i; sleep 0.1; done"
BACK_S = 60.0
MORE_MEMORY = 8_000_000
"""Bytes that a session may have taken since the first tenth: what grows, grows with the cuts."""


SAID_EACH = 50


@dataclass
class Told:
    """What happened, and what was wrong with it."""

    cuts: Counter[str] = field(default_factory=Counter)
    backs_s: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Of the session's process after each cut, bytes."""
    files: int = 0
    echoes: int = 0
    edits: int = 0
    lines: int = 0
    first: Counted | None = None
    last: Counted | None = None
    wrong: list[str] = field(default_factory=list)


def soak(cuts: int, seed: int, folder: Path) -> Told:
    """Run it all in `folder`; what came of it."""
    told, chance = Told(), random.Random(seed)
    with whole_trip(folder) as trip:
        pid = trip.up_in_background()
        job = trip.laptop.run("run", "-d", "--no-after-sync", "--", "sh", "-c", TICKS)
        urls = [tunnel.url for tunnel in trip.look().tunnels]
        jupyter, files = trip.look().tunnels[0].port, urls[1]
        assert files is not None, "TensorBoard's link lets its holder in"
        with traffic(files, jupyter) as (download, chat):
            for number in range(cuts):
                if number == max(cuts // 10, 3):
                    told.first = _quiet(trip, pid)
                _edit(trip, number, chance, told)
                began = time.monotonic()
                _break(trip, chance, told)
                trip.await_phase(Phase.LIVE, BACK_S)
                told.backs_s.append(time.monotonic() - began)
                told.memory.append(count(pid).memory)
                _say(told)
                time.sleep(chance.choice((0, 0.1, 0.5)))
            eventually(lambda: download.whole and chat.echoes, BACK_S)
        told.files, told.echoes = download.whole, chat.echoes
        told.last = _quiet(trip, pid)
        _check(trip, told, urls, job.stdout.strip())
    return told


def _say(told: Told) -> None:
    """Who breaks it off early knows how far it came."""
    done = len(told.backs_s)
    if done % SAID_EACH == 0:
        print(f"{done} cuts, {told.memory[-1] / 1e6:.1f} MB", file=sys.stderr, flush=True)


def _edit(trip: Trip, number: int, chance: random.Random, told: Told) -> None:
    for side, root in (("laptop", trip.laptop.folder), ("host", trip.workdir)):
        if chance.random() < 0.5:
            (root / f"{side}-{number % 20}.txt").write_text(f"{side} {number}\n")
            told.edits += 1


def _break(trip: Trip, chance: random.Random, told: Told) -> None:
    kind = chance.choice(("reset", "reset", "cut", "killed", "frozen"))
    told.cuts[kind] += 1
    before = _lost_at(trip)
    if kind == "reset":
        trip.link.reset()
    elif kind == "killed":
        trip.sshd.kill_connections()
    else:
        (trip.link.cut if kind == "cut" else trip.link.freeze)()
        time.sleep(chance.uniform(0, 0.5))
        trip.link.resume()
    if kind != "frozen":
        eventually(lambda: _lost_at(trip) > before, BACK_S)


def _lost_at(trip: Trip) -> float:
    """When the session last said that its link is gone."""
    events = trip.look().events
    return max((when for when, text in events if text.startswith("link lost")), default=0.0)


def _quiet(trip: Trip, pid: int) -> Counted:
    trip.await_phase(Phase.LIVE, BACK_S)
    return settled(pid)


def _check(trip: Trip, told: Told, urls: list[str | None], job: str) -> None:
    here, there = trip.laptop.folder, trip.workdir
    try:
        eventually(lambda: _contents(here) == _contents(there), BACK_S)
    except AssertionError:
        told.wrong.append("the folders differ")
    if [tunnel.url for tunnel in trip.look().tunnels] != urls:
        told.wrong.append("other ports, or another token")
    trip.laptop.run("stop", job)
    lines = trip.laptop.run("logs", job).stdout.split()
    told.lines = len(lines)
    if lines != [str(number) for number in range(1, len(lines) + 1)]:
        told.wrong.append("lines of the job are missing, or came twice")
    assert told.first is not None and told.last is not None
    if not told.last.fits(told.first):
        told.wrong.append(f"left behind: {told.last}, where there was {told.first}")
    if told.last.memory > told.first.memory + MORE_MEMORY:
        told.wrong.append(f"{(told.last.memory - told.first.memory) / 1e6:.1f} MB more memory")


def _contents(root: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in root.glob("*.txt")}


def _print(told: Told) -> None:
    backs = sorted(told.backs_s)
    kinds = ", ".join(f"{number} {kind}" for kind, number in told.cuts.most_common())
    print(f"{len(backs)} cuts ({kinds}); {told.edits} edits; {told.lines} lines of the job")
    print(f"{told.files} whole downloads, {told.echoes} echoes")
    median, worst = backs[len(backs) // 2], backs[-1]
    print(f"back after {median:.2f} s (median), {worst:.2f} s (longest)")
    tenths = [told.memory[len(told.memory) * tenth // 10] / 1e6 for tenth in range(10)]
    print("memory at each tenth: " + ", ".join(f"{one:.1f}" for one in tenths) + " MB")
    print(f"held after a tenth: {told.first}")
    print(f"held at the end:    {told.last}")
    for line in told.wrong:
        print(f"WRONG: {line}")


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak_session", description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args(argv)
    print(f"seed {asked.seed}")
    with tempfile.TemporaryDirectory(prefix="remotedl-soak-") as folder:
        told = soak(asked.cuts, asked.seed, Path(folder))
    _print(told)
    return 1 if told.wrong else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
