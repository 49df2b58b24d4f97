"""`run --gpus`: which of the container's GPUs a job sees. Pure.

The idlest ones, and of those the ones that no other job of the project was given: two jobs that are
started in a row would both find the same card idle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from remotedl.container.gpus import GpuLoad, choose_devices, job_environment
from remotedl.container.jobs import Job, JobState
from remotedl.errors import ContainerError
from remotedl.provision.facts import Gpu

NOTED = "gpus"
"""Where a job's note says which GPUs it was given, by index on the host."""


@dataclass(frozen=True, slots=True)
class JobGpus:
    """What a job is given."""

    environment: Mapping[str, str]
    indexes: tuple[str, ...]
    """On the host; ("all",) or () as asked for."""


def gpus_for_job(
    wanted: str | int | Sequence[int],
    container: Sequence[str],
    gpus: Sequence[Gpu],
    jobs: Sequence[Job],
    held: Collection[int] = (),
) -> JobGpus:
    """`container`: its GPUs by index, or ("all",). Raises ContainerError where there are too few.

    `held`: indexes that another project's container or claim has; they come last.

    A count means the idlest so many: a job does not care which.
    """
    if wanted == "none":
        return JobGpus(job_environment("none", container, ()), ())
    given = given_to(jobs)
    loads = [
        replace(gpu_load(gpu), held=str(gpu.index) in given or gpu.index in held) for gpu in gpus
    ]
    seen = [load for load in loads if tuple(container) == ("all",) or str(load.index) in container]
    if not seen:
        raise ContainerError(
            "the container has no GPU to give to a job",
            hint="set gpus of this host in hosts.toml, then: remotedl up",
        )
    asked = f"auto:{wanted}" if isinstance(wanted, int) else wanted
    indexes = choose_devices(asked, seen)
    exact = [int(index) for index in indexes] if indexes != ("all",) else "all"
    return JobGpus(job_environment(exact, container, loads), indexes)


def gpu_load(gpu: Gpu) -> GpuLoad:
    """What container/ wants to know of a GPU that provision/ has found."""
    return GpuLoad(
        index=gpu.index,
        memory_used=gpu.memory_used,
        memory_total=gpu.memory_total,
        utilisation=gpu.utilisation or 0,
        name=gpu.name,
        uuid=gpu.uuid,
    )


def given_to(jobs: Sequence[Job]) -> frozenset[str]:
    """What the jobs that run were given, by index on the host."""
    running = [job for job in jobs if job.state is JobState.RUNNING]
    return frozenset(str(one) for job in running for one in job.note.get(NOTED, ()))
