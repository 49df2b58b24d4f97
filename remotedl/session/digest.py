"""What happened while the link was gone, in one paragraph. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remotedl.session.status import Snapshot


def digest(
    before: Snapshot, after: Snapshot, away_s: float, moved: tuple[int, int] = (0, 0)
) -> str:
    """Away for how long; jobs that ended and how; files that came; conflicts; trouble.

    `moved`: files that were sent and fetched once the link was back.
    """
    parts = [f"back after {_duration(away_s)}"]
    running = {job["id"] for job in before.jobs if job["state"] == "running"}
    known = {job["id"] for job in before.jobs}
    for job in after.jobs:
        ended = job["state"] != "running"
        if ended and (job["id"] in running or job["id"] not in known):
            parts.append(job_end_line(job))
    still = sum(job["state"] == "running" for job in after.jobs)
    if still:
        parts.append(f"{still} still running")
    sent, fetched = moved
    if fetched:
        parts.append(f"{fetched} file{'s' if fetched != 1 else ''} came from the host")
    if sent:
        parts.append(f"{sent} went there")
    parts += _sync_parts(before, after)
    if before.container != after.container:
        parts.append("the container was made anew")
    parts += [text for text, _ in after.warnings]
    return "; ".join(parts)


def _sync_parts(before: Snapshot, after: Snapshot) -> list[str]:
    if after.sync is None:
        return []
    parts = [after.sync.note] if after.sync.note else []
    old = set(before.sync.conflicts) if before.sync is not None else set()
    new = [path for path in after.sync.conflicts if path not in old]
    if new:
        parts.append(f"{len(new)} new conflicts ({', '.join(new[:3])}): remotedl sync conflicts")
    if after.sync.halted is not None:
        parts.append(f"the sync halted: {after.sync.halted}")
    return parts


def job_end_line(job: Mapping[str, Any]) -> str:
    """How a job ended, for people."""
    name = f"job {job['id']} ({job['command'][:40]})"
    if job["state"] == "lost":
        return f"{name} went down with its host"
    took = ""
    if job.get("started") and job.get("ended"):
        took = f" after {_duration(job['ended'] - job['started'])}"
    return f"{name} {'is done' if job['code'] == 0 else 'failed with ' + str(job['code'])}{took}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
