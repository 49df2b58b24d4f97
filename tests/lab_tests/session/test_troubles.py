"""A session through everything that happens to a link in a day; one session goes through it all.

Through each trouble the tunnels are under load, both sides are edited and a job runs. Afterwards
the ports and the token are the same, no byte was lost, the edits are on both sides, the job never
noticed, and nothing was left behind in the session's process. REMOTEDL_REAL_TIME=1 freezes for five
real minutes and sleeps for a real one; CI does not wait for that.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from remotedl.session.status import Phase
from tests.lab.sessions import eventually
from tests.lab.sshd import _free_port
from tests.lab_tests.session.traffic import Counted, answers, count, settled, traffic
from tests.lab_tests.session.trip import ASLEEP_S, BACK_S, FROZEN_S, Trip, whole_trip

pytestmark = pytest.mark.timeout(180 + FROZEN_S + ASLEEP_S)

NOTICED_S = 12.0
"""Two seconds between pings and six of patience, and what a busy machine adds."""
TICKS = "i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo $i; sleep 0.1; done"


@dataclass
class Day:
    """The session that goes through it all."""

    trip: Trip
    pid: int
    job: str
    before: Counted
    told: dict[str, float] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.trip.laptop.folder


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with whole_trip(tmp_path_factory.mktemp("day")) as trip:
        pid = trip.up_in_background()
        job = trip.laptop.run("run", "-d", "--no-after-sync", "--", "sh", "-c", TICKS)
        # What the first reconnect loads once is no leak.
        trip.link.reset()
        eventually(lambda: "back after" in str(trip.look().events), BACK_S)
        with traffic(link(trip, "TensorBoard"), port(trip, "Jupyter")) as (download, chat):
            eventually(lambda: download.whole and chat.echoes)
        yield Day(trip, pid, job.stdout.strip(), settled(pid))


def link(trip: Trip, name: str) -> str:
    return next(tunnel.url or "" for tunnel in trip.look().tunnels if tunnel.name == name)


def port(trip: Trip, name: str) -> int:
    return next(tunnel.port for tunnel in trip.look().tunnels if tunnel.name == name)


def survives(
    day: Day,
    trouble: Callable[[], None],
    mend: Callable[[], None],
    *,
    gone: bool = True,
    noticed_s: float = NOTICED_S,
    lasts_s: float = 0,
) -> None:
    """Under load: the trouble, edits on both sides meanwhile, its end; then all is as before.

    `gone`: the trouble lasts until the session has noticed it, which may take `noticed_s`, and then
    until `lasts_s` are over.
    """
    trip = day.trip
    before = trip.look()
    workdir, name = Path(before.workdir), uuid.uuid4().hex[:8]
    here, there = f"laptop-{name}", f"host-{name}"
    with traffic(link(trip, "TensorBoard"), port(trip, "Jupyter")) as (download, chat):
        eventually(lambda: download.whole and chat.echoes)
        began = time.monotonic()
        trouble()
        struck = time.monotonic()
        if gone:
            trip.await_phase(Phase.RECONNECTING, noticed_s)
        noticed = time.monotonic()
        (day.root / here).write_text("written here\n")
        (workdir / there).write_text("written there\n")
        assert all(answers(tunnel.port) for tunnel in before.tunnels), "a port was let go"
        time.sleep(max(began + lasts_s - time.monotonic(), 0))
        mend()
        mended = time.monotonic()
        trip.await_phase(Phase.LIVE)
        back = time.monotonic()
        files, echoes = download.whole, chat.echoes
        eventually(lambda: download.whole > files and chat.echoes > echoes, BACK_S)
    print(
        f"noticed after {noticed - struck:.1f} s, lasted {mended - began:.1f} s, "
        f"back {back - mended:.1f} s after its end; {download.broken} broken downloads retried"
    )
    eventually(lambda: (workdir / here).exists() and (day.root / there).exists(), BACK_S)
    after = trip.look()
    assert [tunnel.url for tunnel in after.tunnels] == [tunnel.url for tunnel in before.tunnels]
    assert after.pid == day.pid
    assert any(job["id"] == day.job and job["state"] == "running" for job in jobs(trip))
    eventually(lambda: left_nothing(day))
    print(f"held before: {day.before}; now: {count(day.pid)}")


def left_nothing(day: Day) -> bool:
    now = count(day.pid)
    assert now.fits(day.before), f"left behind: {now}, where there was {day.before}"
    return True


def jobs(trip: Trip) -> list[dict[str, str]]:
    return list(json.loads(trip.laptop.run("jobs", "--json").stdout))


def nothing() -> None: ...


def test_the_link_frozen_for_five_seconds(day: Day) -> None:
    """Shorter than the ping is patient: nobody is cut off."""

    def freeze() -> None:
        day.trip.link.freeze()
        time.sleep(5)

    survives(day, freeze, day.trip.link.resume, gone=False)


def test_the_link_frozen_for_long(day: Day) -> None:
    """Half-open: neither side is told, and only the ping can know."""
    survives(day, day.trip.link.freeze, day.trip.link.resume, lasts_s=FROZEN_S)


def test_the_link_cut(day: Day) -> None:
    survives(day, day.trip.link.cut, day.trip.link.resume)
    told = [text for _, text in day.trip.look().events if text.startswith("back after")]
    assert told[-1].endswith("1 file came from the host; 1 went there")


def test_the_sshd_restarted(day: Day) -> None:
    survives(day, day.trip.sshd.kill, day.trip.sshd.start)


def test_the_address_of_the_host_changed(day: Day) -> None:
    """As after a new DHCP lease: the same host and key, elsewhere."""
    trip = day.trip

    def move() -> None:
        trip.sshd.kill()
        trip.sshd.port = _free_port()
        trip.sshd.start()

    def follow() -> None:
        trip.link.target = (trip.sshd.address, trip.sshd.port)

    survives(day, move, follow)


def test_the_laptop_asleep_while_the_link_dies(day: Day) -> None:
    """SIGSTOP as the lid is closed; the connections are dead when it opens, and nobody says so."""
    trip = day.trip

    def sleep() -> None:
        os.kill(day.pid, signal.SIGSTOP)
        time.sleep(ASLEEP_S)
        trip.link.freeze()
        os.kill(day.pid, signal.SIGCONT)

    # The clock has jumped: no need to be as patient as with a link that was well a moment ago.
    survives(day, sleep, trip.link.resume, noticed_s=10)


def test_the_laptop_asleep_while_the_link_lives(day: Day) -> None:
    def sleep() -> None:
        os.kill(day.pid, signal.SIGSTOP)
        time.sleep(ASLEEP_S)
        os.kill(day.pid, signal.SIGCONT)

    survives(day, sleep, nothing, gone=False)


def test_the_job_never_noticed(day: Day) -> None:
    """Runs after the troubles above: every line is there, once, in order."""
    stopped = day.trip.laptop.run("stop", day.job)
    assert "exited" in stopped.text
    lines = day.trip.laptop.run("logs", day.job).stdout.split()
    assert lines == [str(number) for number in range(1, len(lines) + 1)]
    assert len(lines) > 100


def test_the_host_rebooted(day: Day) -> None:
    """Everything on it ends; the services are started again, on the same ports of the laptop."""
    trip = day.trip
    job = trip.laptop.run("run", "-d", "--no-after-sync", "--", "sleep", "600").stdout.strip()

    def reboot() -> None:
        trip.sshd.kill()
        for run in trip.sshd.home.glob(".remotedl/run/*"):
            for program, words in (("job.py", ["stop-all", run, "0"]), ("keep.py", ["stop"])):
                subprocess.run([sys.executable, run / program, *words], check=False)

    before = trip.look()
    reboot()
    trip.await_phase(Phase.RECONNECTING, NOTICED_S)
    trip.sshd.start()
    trip.await_phase(Phase.LIVE)
    after = trip.look()
    assert [tunnel.url for tunnel in after.tunnels] == [tunnel.url for tunnel in before.tunnels]
    assert trip.page("Jupyter").get("/api").text == "{}"
    told = f"back after.*job {job}"
    eventually(lambda: any(re.search(told, text) for _, text in trip.look().events))
