"""`remotedl ps`: this user's containers on a host, whichever folder they were made for."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from remotedl.container.docker import DockerRuntime
from remotedl.container.jobs import running_jobs
from remotedl.container.spec import (
    LABEL_FOLDER,
    LABEL_LAPTOP,
    LABEL_OWNER,
    LABEL_PROJECT,
    ProjectName,
)
from remotedl.engine import Container, Engine
from remotedl.errors import JobsRunning, UsageError
from remotedl.session.errands import Errand
from remotedl.session.image_errands import engine_place
from remotedl.session.workplace import Workplace

WORKDIRS = 'cd "$HOME/remotedl" 2>/dev/null && for d in *-"$1"; do [ -d "$d" ] && echo "$d"; done'


@dataclass(frozen=True, slots=True)
class Row:
    """A container of ours on a host."""

    name: str
    project_id: str
    laptop: str
    """The laptop that it was made from, and the folder there; "" where that was never noted."""
    folder: str
    folder_is_gone: bool
    """It was made from this laptop, and the folder is not there any more."""
    running: bool
    state: str
    size: int
    """Bytes of its own filesystem, beside its image."""
    last_used: str
    """When it was started, or when it ended: RFC 3339 of the host's clock."""
    image: str


def list_containers(errand: Errand, *, stopped: bool) -> list[Row]:
    """Of this user of the host, sorted by name; with `stopped` those as well that do not run."""
    with engine_place(errand) as (place, engine):
        sizes = engine.containers.sizes()
        found = engine.containers.find({LABEL_OWNER: place.remote.user})
        return [row_of(one, sizes.get(one.id, 0)) for one in found if stopped or one.running]


def row_of(container: Container, size: int) -> Row:
    """A container as `ps` shows it."""
    laptop, folder = (container.labels.get(label, "") for label in (LABEL_LAPTOP, LABEL_FOLDER))
    here = bool(folder) and laptop == platform.node()
    return Row(
        name=container.name,
        project_id=container.labels.get(LABEL_PROJECT, ""),
        laptop=laptop,
        folder=folder,
        folder_is_gone=here and not Path(folder).is_dir(),
        running=container.running,
        state=container.status,
        size=size,
        last_used=container.started_at if container.running else container.finished_at,
        image=container.image,
    )


def remove_container(errand: Errand, name: str, *, yes: bool) -> None:
    """Remove one of this user's, and what remotedl keeps for it; its project's files stay.

    Raises UsageError where there is none of that name; JobsRunning unless `yes` or confirmed.
    """
    with engine_place(errand) as (place, engine):
        container = _own(place, engine, name)
        project = container.labels[LABEL_PROJECT]
        run = f".remotedl/run/{project}"
        jobs = running_jobs(place.remote, run) if container.running else ()
        errand.report.note(f"remove the container {name}, and ~/{run}")
        kept = place.remote.run(["sh", "-c", WORKDIRS, "sh", project], check=False)
        for folder in kept.text.splitlines():
            errand.report.note(f"keep ~/remotedl/{folder}: rm -r removes it on the host")
        ends = f" {len(jobs)} job(s) in it would end." if jobs else ""
        if not yes and not errand.prompt.confirm(f"Remove {name}?{ends}"):
            kind = JobsRunning if jobs else UsageError
            raise kind("nothing was removed", hint=f"remotedl ps --rm {name} --yes")
        DockerRuntime(place.remote, engine, ProjectName(project, name)).remove()
        place.remote.run(["rm", "-rf", "--", run])


def _own(place: Workplace, engine: Engine, name: str) -> Container:
    found = engine.containers.find({LABEL_OWNER: place.remote.user})
    for container in found:
        if container.name == name and container.labels.get(LABEL_PROJECT):
            return container
    raise UsageError(
        f"there is no container {name} of yours on {place.remote.name}", hint="remotedl ps --all"
    )
