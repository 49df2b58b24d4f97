"""First copies and cold starts of 20,000 files: beside rsync, on loopback and on a slow link.

Ours runs as a command of its own: interpreter, imports, login, agent, both scans, one cycle.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.sync_place import FILES, Place, has, make_tree, place, settle
from benchmarks.table import Row, in_turn

ROUNDS = 3


def main() -> list[Row]:
    with place() as at:
        make_tree(at.laptop)
        settle()
        return [*_first_copy(at), *_slow_copy(at), *_nothing_changed(at), *_in_session(at)]


def _first_copy(at: Place) -> list[Row]:
    def anew(copy: Callable[[], float]) -> Callable[[], float]:
        def run() -> float:
            at.clear_host()
            at.forget()
            return copy()

        return run

    at.once()  # the agent is on the host, and compiled, as it is after the first minute
    peer = _peer(at, lambda: at.rsync())
    ours, theirs = in_turn(ROUNDS, anew(at.once), anew(peer))
    return [_row("first copy, 20,000 files / 134 MB", ours, theirs, 0.8, "rsync -a")]


def _slow_copy(at: Place) -> list[Row]:
    at.clear_host()
    at.forget()
    ours = at.once(at.slow)
    at.clear_host()
    at.forget()
    theirs = _peer(at, lambda: at.rsync("-z", login=at.slow))()
    return [_row("the same through 40 ms, 100 Mbit/s", ours, theirs, 0.9, "rsync -az")]


def _nothing_changed(at: Place) -> list[Row]:
    at.clear_host()
    at.forget()
    at.once()
    settle()
    at.once()
    ours, theirs = in_turn(ROUNDS + 2, at.once, _peer(at, lambda: at.rsync()))
    return [_row("nothing changed, 20,000 files, cold start", ours, theirs, 0.7, "rsync -a")]


def _in_session(at: Place) -> list[Row]:
    """Proved by a flush, as `remotedl run` does it; and with every file looked at anew."""
    import statistics
    import time

    from benchmarks.sync_once import log_in
    from remotedl.config.models import SyncConfig
    from remotedl.sync.engine import Sync

    connection = log_in(at.sshd.login)
    sync = Sync(at.laptop, connection, "~/project", SyncConfig(), state_dir=at.state)

    def timed(run: Callable[[], object]) -> float:
        taken = []
        for _ in range(9):
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    try:
        sync.open()
        sync.cycle(scan=False)
        flushed, scanned = timed(sync.flush), timed(sync.cycle)
    finally:
        sync.close()
        connection.close()
    work = f"nothing changed, {FILES:,} files, in a session"
    return [
        Row(f"{work}: proved by a flush", flushed, "s", 0.1, "at most"),
        Row(f"{work}: both sides scanned", scanned, "s", 0.1, "at most"),
    ]


def _peer(at: Place, run: Callable[[], float]) -> Callable[[], float]:
    return run if has("rsync") else lambda: float("nan")


def _row(work: str, ours: float, theirs: float, target: float, name: str) -> Row:
    peer = None if theirs != theirs else theirs
    return Row(work, ours, "s", target, "at most", peer, name)
