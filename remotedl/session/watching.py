"""What a live session keeps an eye on: jobs, GPUs and disks of the host. Looks, never acts.

A claim on GPUs is renewed by looking; it is a note for others and changes nothing.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from remotedl.container.autostop import Autostop, Idleness
from remotedl.container.jobs import Job, JobState
from remotedl.errors import LinkLost, RemotedlError
from remotedl.provision.facts import HostFacts
from remotedl.provision.findings import Grade
from remotedl.provision.guardian import Readings, judge, watch
from remotedl.session.container_watch import ContainerWatch
from remotedl.session.gpu_claims import Claim
from remotedl.session.gpu_watch import GpuWatch
from remotedl.session.workplace import Workplace

EVERY_S = 10.0
GUARD_EVERY_S = 60.0
DUE_S = 0.5
"""How often it is asked whether a look is due."""
TROUBLE_HINT = "remotedl doctor"


class HostWatch:
    """The latest look; read from any thread, renewed by the session's own."""

    def __init__(
        self,
        place: Workplace,
        run_folder: str,
        facts: HostFacts | None,
        host_name: str,
        container: str,
        clock: Callable[[], float] = time.monotonic,
        on_end: Callable[[Job], None] = lambda job: None,
        autostop: bool = False,
        claim: Claim | None = None,
        on_change: Callable[[str], None] = lambda what: None,
    ) -> None:
        """`on_end` is told of each job that ends while somebody watches, once; `on_change`, in
        words, of a container that ends or is started again.

        `claim`: what is held of the host's GPUs, where no container's label says so.
        """
        self._place, self._run_folder, self._clock = place, run_folder, clock
        self._host_name, self._container = host_name, container
        self._stands = ContainerWatch(place.runtime, on_change)
        self._gpus = GpuWatch(place.remote, facts.driver.smi if facts is not None else None)
        self._next = self._next_guard = 0.0
        self._readings: Readings | None = None
        self._on_end = on_end
        self._autostop = autostop
        self._claim = claim
        self._ended: set[str] | None = None
        self._stop = threading.Event()
        self._lost: list[LinkLost] = []
        self.jobs: tuple[dict[str, Any], ...] = ()
        self._guarded: tuple[tuple[str, str], ...] = ()
        self._failed: Mapping[str, tuple[str, str]] = {}
        """What could not be looked at, by what it is, and why. Replaced, never changed."""
        self.idleness: Idleness | None = None
        """None: autostop is off."""

    def start(self) -> None:
        """From now on it looks by itself, in threads of its own: a look can take a minute."""
        self._stop, self._lost = threading.Event(), []
        args = (self._stop, self._lost)
        threading.Thread(target=self._run, args=args, name="host watch", daemon=True).start()
        self._gpus.start()

    def close(self) -> None:
        """No further look; one that is under way ends with its link. Idempotent."""
        self._stop.set()
        self._gpus.stop()

    def move(self, place: Workplace) -> None:
        """A new link, for `start`."""
        self.close()
        self._place, self._next, self._next_guard = place, 0.0, 0.0
        self._gpus.move(place.remote)
        self._stands.move(place.runtime)

    def lost(self) -> LinkLost | None:
        """Why it looks no more, if that ended by itself."""
        return self._lost[0] if self._lost else None

    def _run(self, stop: threading.Event, lost: list[LinkLost]) -> None:
        while not stop.wait(DUE_S):
            try:
                self.look()
            except LinkLost as exc:
                lost.append(exc)
                return

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """What is wrong, and the next command: what was found, and what could not be looked at."""
        return (*self._guarded, *dict.fromkeys(self._failed.values()))

    def gpu_lines(self, wait_s: float = 0.0) -> tuple[str, ...]:
        """One line a GPU. `wait_s`: how long a newer sample is worth."""
        return self._gpus.look(wait_s)

    @property
    def down(self) -> str:
        """What became of the container, where it does not run; "" where it does."""
        return self._stands.down

    def look_at_container(self) -> None:
        """At once. Raises LinkLost, RemotedlError."""
        self._stands.look(now=True)

    def look(self) -> None:
        """Look again if it is time. Raises LinkLost; other failures are told as a warning.

        One thing that cannot be looked at keeps nobody from the others.
        """
        looks: dict[str, Callable[[], None]] = {"the container": self._stands.look}
        if self._clock() >= self._next:
            self._next = self._clock() + EVERY_S
            looks |= {"the jobs": self._look_at_jobs, "autostop": self._look_at_autostop}
        if self._clock() >= self._next_guard and not self.down:
            self._next_guard = self._clock() + GUARD_EVERY_S
            looks["GPUs and disks"] = self._guard
        for what, look in looks.items():
            rest = {name: why for name, why in self._failed.items() if name != what}
            try:
                look()
                self._failed = rest
            except LinkLost:
                raise
            except RemotedlError as exc:
                said = f"{what} cannot be looked at: {exc.message}"
                self._failed = {**rest, what: (said, exc.hint)}
            except Exception as exc:  # noqa: BLE001 - told; a look must not end the session
                said = f"{what} cannot be looked at: internal error: {type(exc).__name__}: {exc}"
                self._failed = {**rest, what: (said, TROUBLE_HINT)}

    def _look_at_jobs(self) -> None:
        jobs = self._place.jobs(self._run_folder).all()
        self.jobs = tuple(job_row(job) for job in jobs)
        self._tell_ends(jobs)
        if self._claim is not None:
            self._claim.renew(self._place.remote, jobs)

    def _look_at_autostop(self) -> None:
        if self._autostop:
            self.idleness = Autostop(self._place.remote, self._run_folder).status()

    def _tell_ends(self, jobs: list[Job]) -> None:
        over = {job.id: job for job in jobs if job.state in (JobState.EXITED, JobState.LOST)}
        fresh = over.keys() - (over.keys() if self._ended is None else self._ended)
        self._ended = set(over)
        for job_id in sorted(fresh):
            self._on_end(over[job_id])

    def _guard(self) -> None:
        """GPUs lost by the container, a driver that changed under it, a disk nearly full."""
        access = self._place.access
        container = self._container if access is not None else ""
        now = watch(self._place.remote, container, sudo=access is not None and access.sudo)
        # What is wrong now, and what only the comparison shows (a GPU that was there before).
        standing = judge(None, now, self._host_name)
        fresh = judge(self._readings, now, self._host_name)
        self._readings = now
        found = {one.name: one for one in (*standing, *fresh)}.values()
        troubles = (one for one in found if one.grade in (Grade.BAD, Grade.WARN))
        self._guarded = tuple((one.what, one.mend) for one in troubles)


def job_row(job: Job) -> dict[str, Any]:
    """A job as `status` and `--json` show it."""
    return {
        "id": job.id,
        "command": shlex.join(job.argv).replace("\n", "\\n"),
        "state": job.state.value,
        "code": job.code,
        "started": job.started,
        "ended": job.ended,
        "note": dict(job.note),
        "output_left_out": job.left_out,
        "output_dropped": job.dropped,
    }


def idleness_row(found: Idleness) -> dict[str, Any]:
    """How autostop stands, for `status` and `--json`. Seconds."""
    return {
        "watching": found.watching,
        "busy": list(found.busy),
        "idle_s": found.idle_s,
        "limit_s": found.limit_s,
        "left_s": found.left_s,
        "ended": found.ended,
        "kept_on": found.kept_on,
    }
