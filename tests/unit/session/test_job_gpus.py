"""`run --gpus`: the idlest of the container's, and not what another job was just given."""

from __future__ import annotations

import pytest

from remotedl.container.jobs import Job, JobState
from remotedl.errors import ContainerError
from remotedl.provision.facts import Gpu
from remotedl.session.job_gpus import gpus_for_job

GPUS = tuple(
    Gpu(index, f"GPU-{index}", "H100", memory_total=80, memory_used=used)
    for index, used in enumerate((60, 0, 10, 5))
)


def job(state: JobState, *gpus: str) -> Job:
    return Job("j1", ("python",), state, 0.0, note={"gpus": list(gpus)})


def test_a_count_is_the_idlest_so_many() -> None:
    given = gpus_for_job(2, ("all",), GPUS, [])
    assert given.indexes == ("1", "3")
    assert given.environment == {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-3"}


def test_two_jobs_in_a_row_get_different_gpus() -> None:
    assert gpus_for_job(1, ("all",), GPUS, [job(JobState.RUNNING, "1")]).indexes == ("3",)
    assert gpus_for_job(1, ("all",), GPUS, [job(JobState.EXITED, "1")]).indexes == ("1",)


def test_only_what_the_container_has() -> None:
    assert gpus_for_job(1, ("0", "2"), GPUS, []).indexes == ("2",)
    with pytest.raises(ContainerError, match="2"):
        gpus_for_job((1,), ("0", "2"), GPUS, [])
    with pytest.raises(ContainerError, match="3 GPUs are asked for and the host has 2"):
        gpus_for_job(3, ("0", "2"), GPUS, [])


def test_a_container_without_gpus_has_none_to_give() -> None:
    with pytest.raises(ContainerError, match="no GPU to give"):
        gpus_for_job(1, (), GPUS, [])


def test_none_hides_them_all_and_all_hides_none() -> None:
    assert gpus_for_job("none", ("all",), GPUS, []).environment == {"CUDA_VISIBLE_DEVICES": ""}
    assert gpus_for_job("all", ("all",), GPUS, []).environment == {}
