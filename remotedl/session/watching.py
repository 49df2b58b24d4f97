"""What a live session keeps an eye on: jobs, GPUs and disks of the host. Looks, never acts.

A claim on GPUs is renewed by looking; it is a note for others and changes nothing.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remotedl.container.autostop import Autostop, Idleness
from remotedl.container.jobs import Job, JobState
from remotedl.errors import LinkLost, RemotedlError
from remotedl.provision.facts import HostFacts
from remotedl.provision.findings import Grade
from remotedl.provision.gpus import find_smi
from remotedl.provision.guardian import Readings, judge, watch
from remotedl.session.gpu_claims import Claim
from remotedl.session.workplace import Workplace

EVERY_S = 10.0
GUARD_EVERY_S = 60.0
SMI_FIELDS = "index,name,utilization.gpu,memory.used,memory.total"
_GIB = 1024
LOADS_KEPT = 30
"""Looks: five minutes."""
BARS = "▁▂▃▄▅▆▇█"


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
    ) -> None:
        """`on_end` is told of each job that ends while somebody watches, once.

        `claim`: what is held of the host's GPUs, where no container's label says so.
        """
        self._place, self._run_folder, self._clock = place, run_folder, clock
        self._host_name, self._container = host_name, container
        self._smi = facts.driver.smi if facts is not None else None
        self._next = self._next_guard = 0.0
        self._readings: Readings | None = None
        self._loads: Mapping[str, tuple[int, ...]] = {}
        self._on_end = on_end
        self._autostop = autostop
        self._claim = claim
        self._ended: set[str] | None = None
        self.jobs: tuple[dict[str, Any], ...] = ()
        self.gpu_lines: tuple[str, ...] = ()
        self.warnings: tuple[tuple[str, str], ...] = ()
        self.idleness: Idleness | None = None
        """None: autostop is off."""

    def move(self, place: Workplace) -> None:
        """A new link."""
        self._place, self._next, self._next_guard = place, 0.0, 0.0

    def look(self) -> None:
        """Look again if it is time. Raises LinkLost; other failures are told as a warning."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + EVERY_S
        try:
            jobs = self._place.jobs(self._run_folder).all()
            self.jobs = tuple(job_row(job) for job in jobs)
            self._tell_ends(jobs)
            if self._claim is not None:
                self._claim.renew(self._place.remote, jobs)
            self.gpu_lines = self._gpus()
            if self._autostop:
                self.idleness = Autostop(self._place.remote, self._run_folder).status()
            self._guard()
        except LinkLost:
            raise
        except RemotedlError as exc:
            self.warnings = ((exc.message, exc.hint),)

    def _tell_ends(self, jobs: list[Job]) -> None:
        over = {job.id: job for job in jobs if job.state in (JobState.EXITED, JobState.LOST)}
        fresh = over.keys() - (over.keys() if self._ended is None else self._ended)
        self._ended = set(over)
        for job_id in sorted(fresh):
            self._on_end(over[job_id])

    def _guard(self) -> None:
        """GPUs lost by the container, a driver that changed under it, a disk nearly full."""
        if self._clock() < self._next_guard:
            return
        self._next_guard = self._clock() + GUARD_EVERY_S
        access = self._place.access
        container = self._container if access is not None else ""
        now = watch(self._place.remote, container, sudo=access is not None and access.sudo)
        # What is wrong now, and what only the comparison shows (a GPU that was there before).
        standing = judge(None, now, self._host_name)
        fresh = judge(self._readings, now, self._host_name)
        self._readings = now
        found = {one.name: one for one in (*standing, *fresh)}.values()
        troubles = (one for one in found if one.grade in (Grade.BAD, Grade.WARN))
        self.warnings = tuple((one.what, one.mend) for one in troubles)

    def _gpus(self) -> tuple[str, ...]:
        if self._smi is None:
            # The native runtime comes up without the facts of the host.
            self._smi = find_smi(self._place.remote)
        if not self._smi:
            return ()
        query = [self._smi, f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader,nounits"]
        result = self._place.remote.run(query, check=False, timeout_s=10)
        if not result.ok:
            return (f"nvidia-smi: {result.error_text.strip()}",)
        self._loads = remembered(self._loads, result.text)
        return gpu_lines(result.text, self._loads)


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


def remembered(before: Mapping[str, tuple[int, ...]], csv: str) -> Mapping[str, tuple[int, ...]]:
    """The last loads of each GPU by its index, the newest last. Pure."""
    loads = {}
    for row in csv.splitlines():
        cells = [cell.strip() for cell in row.split(",")]
        if len(cells) == 5:
            load = min(int(cells[2]), 100) if cells[2].isdigit() else 0
            loads[cells[0]] = (*before.get(cells[0], ()), load)[-LOADS_KEPT:]
    return loads


def sparkline(loads: Sequence[int]) -> str:
    """Per cents as bars. Pure."""
    return "".join(BARS[load * (len(BARS) - 1) // 100] for load in loads)


def gpu_lines(csv: str, loads: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """One line a GPU out of nvidia-smi's CSV, with its load over the last minutes. Pure."""
    lines = []
    for row in csv.splitlines():
        cells = [cell.strip() for cell in row.split(",")]
        if len(cells) != 5:
            continue
        index, name, load, used, total = cells
        if used.isdigit() and total.isdigit():
            memory = f"{int(used) / _GIB:.1f} of {int(total) / _GIB:.0f} GiB"
        else:
            memory = "memory not told"
        bars = sparkline(loads.get(index, ()))
        lines.append(f"{index} {name}  {bars}{' ' if bars else ''}{load} %  {memory}")
    return tuple(lines)
