"""`down`: the session ends, the container stops; with --purge, what was put there goes."""

from __future__ import annotations

from remotedl.container.jobs import running_jobs
from remotedl.errors import JobsRunning, RemotedlError, UsageError
from remotedl.provision.gpus import release
from remotedl.session.errands import Errand, bring_in_step, end_session, workplace
from remotedl.session.purge import plan_purge, purge

SHOWN = 10


def bring_down(errand: Errand, *, clean: bool, yes: bool, remove: bool = False) -> None:
    """End the session and stop the container; with `remove` it is removed as well.

    Raises JobsRunning unless `yes` or confirmed.
    """
    report = errand.report
    report.stage("down", errand.host_name)
    with workplace(errand) as (place, ground):
        jobs = running_jobs(place.remote, ground.folders.run)
        if jobs and not yes and not errand.prompt.confirm(_question(jobs)):
            raise JobsRunning(
                f"{_listed(jobs)} still run{'' if len(jobs) > 1 else 's'}: nothing was stopped",
                hint=f"remotedl stop {jobs[0]}, or remotedl down --yes",
            )
    if clean:
        _purge(errand, yes=yes)
        return
    if end_session(errand):
        report.note("session ended")
    with workplace(errand) as (place, _):
        lost = place.runtime.own_files() if remove else ()
        if lost and not yes:
            for path in lost[:SHOWN]:
                report.note(f"{path} is lost")
            if not errand.prompt.confirm("Remove the container?"):
                raise UsageError("nothing was removed", hint="remotedl down --rm --yes")
        if remove:
            place.runtime.remove()
        else:
            place.runtime.stop()
        release(place.remote, errand.project.id)
    done = "removed from" if remove else "stopped on"
    report.stage("down", f"{done} {errand.host_name}; files, data and image stay")


def _purge(errand: Errand, *, yes: bool) -> None:
    report = errand.report
    files = _files_in_step(errand)
    with workplace(errand) as (place, ground):
        report.stage("purge", errand.host_name)
        wanted = plan_purge(place, ground, files_in_step=files)
        name = place.runtime.status().name or "the container"
        for line in wanted.lines(name):
            report.note(line)
        if not yes and not errand.prompt.confirm(f"Remove this from {errand.host_name}?"):
            raise UsageError("nothing was removed", hint="remotedl down --purge --yes")
        end_session(errand)
        purge(place, ground, wanted, report)
        release(place.remote, errand.project.id)
    report.stage("purge", f"{errand.host_name} is clean; Docker itself: remotedl provision --undo")


def _files_in_step(errand: Errand) -> int | None:
    """How many files both sides agree on; None where anything at all is not in step."""
    try:
        barrier = bring_in_step(errand)["sync"]
    except RemotedlError as exc:
        errand.report.warn(f"the last changes could not be synced: {exc.message}", hint=exc.hint)
        return None
    return int(barrier["files"]) if barrier["clean"] and not barrier["left_out"] else None


def _question(jobs: tuple[str, ...]) -> str:
    return f"{_listed(jobs)} would end. Stop?"


def _listed(jobs: tuple[str, ...]) -> str:
    return f"job {jobs[0]}" if len(jobs) == 1 else f"{len(jobs)} jobs ({', '.join(jobs)})"
