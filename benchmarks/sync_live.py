"""How soon a save is on the other side, in a tree of 20,000 files; bursts; a branch switch.

lsyncd is the peer where it is at hand: rsync over a multiplexed ssh, its shortest delay. The branch
switch is beside rsync and unison.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.sync_once import log_in
from benchmarks.sync_place import Place, has, make_tree, place, settle, timed
from benchmarks.table import Row
from remotedl.config.models import SyncConfig
from remotedl.sync.engine import Sync

SAVES = 40
STORM = 3000


def main() -> list[Row]:
    with place() as at:
        make_tree(at.laptop)
        settle()
        rows = []
        with _live(at) as sync:
            for name, here, there in (
                ("laptop to host", at.laptop, at.host),
                ("host to laptop", at.host, at.laptop),
            ):
                p50, p95 = _latencies(here, there)
                work = f"one saved file, seen on the other side, {name}"
                rows.append(Row(f"{work}, p50", p50 * 1000, "ms", 30, "at most"))
                rows.append(Row(f"{work}, p95", p95 * 1000, "ms", 50, "at most"))
            burst = _burst(at.laptop, at.host)
            storms = _storm(at, sync)
        peer_p50, peer_burst = _lsyncd(at) if has("lsyncd") else (None, None)
        beside = f"{rows[0].work}, beside lsyncd"
        rows.append(Row(beside, rows[0].ours, "ms", 1, "at most", peer_p50, "lsyncd (mux)"))
        work = "100 saves in a second, all there"
        rows.append(Row(work, burst, "s", 0.3, "at most", peer_burst, "lsyncd"))
        rows += storms
        return [row for row in rows if row.ours == row.ours]


@contextmanager
def _live(at: Place) -> Iterator[Sync]:
    connection = log_in(at.sshd.login)
    sync = Sync(at.laptop, connection, "~/project", SyncConfig(), state_dir=at.state)
    stop = threading.Event()
    thread = threading.Thread(target=sync.run, args=(stop,))
    try:
        sync.open()
        sync.cycle(scan=False)
        settle()
        thread.start()
        sync.flush()
        yield sync
    finally:
        stop.set()
        thread.join()
        sync.close()
        connection.close()


def _latencies(here: Path, there: Path) -> tuple[float, float]:
    """Seconds from the save to the moment when the other side has it: p50, p95."""
    name = sorted(path.relative_to(here) for path in here.rglob("module1*.py"))[0]
    taken = []
    for number in range(SAVES):
        # Each of another size: rsync takes a save of equal size in the same second for none.
        text = f"version {number} of {here.name}\n" + "." * number
        began = time.perf_counter()
        (here / name).write_text(text)
        _wait(lambda text=text: (there / name).read_text() == text)
        taken.append(time.perf_counter() - began)
        time.sleep(0.15)
    ordered = sorted(taken)
    return statistics.median(taken), ordered[int(len(ordered) * 0.95)]


def _burst(here: Path, there: Path) -> float:
    """100 files saved within a second: seconds from the last save until all are there."""
    for number in range(100):
        (here / f"burst{number}").write_text(f"{time.perf_counter()}")
        time.sleep(0.009)
    began = time.perf_counter()
    last = (here / "burst99").read_text()
    _wait(
        lambda: (
            all((there / f"burst{number}").exists() for number in range(100))
            and (there / "burst99").read_text() == last
        )
    )
    return time.perf_counter() - began


def _storm(at: Place, sync: Sync) -> list[Row]:
    """3,000 files change at once, as a branch switch does it; the peers copy the same change."""
    files = sorted(at.laptop.rglob("module*.py"))[:STORM]
    peers = {name: _peer(at, name) for name in ("rsync -a", "unison") if has(name.split()[0])}
    if "unison" in peers:
        timed(peers["unison"])  # it remembers, as ours does, what both sides had
    began = time.perf_counter()
    for number, path in enumerate(files):
        if number % 3 == 2:
            path.unlink()
        else:
            path.write_text(f"another branch {number}\n" * 40)
    sync.flush(120)
    ours = time.perf_counter() - began
    work = f"git checkout storm, {STORM:,} files"
    if not peers:
        return [Row(work, ours, "s", 0.7, "at most")]
    return [Row(work, ours, "s", 0.7, "at most", timed(argv), name) for name, argv in peers.items()]


def _peer(at: Place, name: str) -> list[str]:
    """What brings the laptop's changes to a copy of the host's folder as it is now."""
    copy = at.base / f"before-{name.split()[0]}"
    shutil.copytree(at.host, copy, symlinks=True, ignore=shutil.ignore_patterns(".remotedl"))
    ssh, options = " ".join(at.ssh()), " ".join(at.ssh()[1:])
    if name == "rsync -a":
        argv = ["rsync", "-a", "--delete", "--exclude=.remotedl", "-e", ssh]
        return [*argv, f"{at.laptop}/", f"{at.sshd.address}:{copy}/"]
    argv = ["env", f"UNISON={at.base / 'unison'}", "unison", "-batch", "-silent"]
    argv += ["-ignore", "Name .remotedl", "-sshargs", options]
    return [*argv, str(at.laptop), f"ssh://{at.sshd.address}/{copy}"]


def _lsyncd(at: Place) -> tuple[float, float]:
    """The same saves with lsyncd in our place."""
    target = at.sshd.home / "lsynced"
    shell = " ".join(at.ssh())
    mux = at.base / "mux"
    settings = f"""
settings {{ nodaemon = true, statusInterval = 1 }}
sync {{ default.rsync, source = "{at.laptop}", target = "{at.sshd.address}:{target}", delay = 0,
  exclude = {{ ".remotedl" }},
  rsync = {{ archive = true,
    rsh = "{shell} -o ControlMaster=auto -o ControlPath={mux} -o ControlPersist=60" }} }}
"""
    config = at.base / "lsyncd.lua"
    config.write_text(settings)
    process = subprocess.Popen(
        ["lsyncd", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        count = sum(1 for _ in at.laptop.rglob("module*.py"))
        _wait(lambda: sum(1 for _ in target.rglob("module*.py")) >= count, 60)
        time.sleep(1)
        p50, _ = _latencies(at.laptop, target)
        return p50 * 1000, _burst(at.laptop, target)
    finally:
        process.terminate()
        process.wait()


def _wait(check: Callable[[], bool], limit_s: float = 30) -> None:
    deadline = time.perf_counter() + limit_s
    while True:
        try:
            if check():
                return
        except OSError:
            pass
        if time.perf_counter() > deadline:
            raise TimeoutError
        time.sleep(0.0005)
