"""Which GPUs, and how this engine is asked for them."""

from __future__ import annotations

import dataclasses

import pytest

from remotedl.container.gpus import (
    NO_GPUS,
    GpuLoad,
    GpuWay,
    choose_devices,
    choose_request,
    idlest,
    job_environment,
    smoke_container,
    smoke_count,
)
from remotedl.engine.types import DeviceRequest, EngineReport
from remotedl.errors import ContainerError

BOOKWORM = EngineReport(
    version="20.10.24+dfsg1",
    api_version="1.41",
    architecture="amd64",
    runtimes=("io.containerd.runc.v2", "runc"),
    default_runtime="runc",
    cdi=False,
    cdi_spec_dirs=(),
    discovered_devices=None,
    cgroup_driver="systemd",
    cgroup_version=2,
    root_dir="/var/lib/docker",
    storage_driver="overlay2",
    containerd_store=False,
    rootless=False,
    live_restore=False,
    cpus=2,
    memory=2**34,
    operating_system="Debian",
    warnings=(),
)
WITH_RUNTIME = dataclasses.replace(BOOKWORM, runtimes=("nvidia", "runc"))
TRIXIE = dataclasses.replace(
    BOOKWORM, version="26.1.5", cdi=True, cdi_spec_dirs=("/etc/cdi", "/var/run/cdi")
)
NEWEST = dataclasses.replace(
    TRIXIE,
    version="29.8.1",
    discovered_devices=("nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"),
)
FOUR = [
    GpuLoad(0, memory_used=70, memory_total=80, utilisation=90),
    GpuLoad(1, memory_used=0, memory_total=80, utilisation=40),
    GpuLoad(2, memory_used=0, memory_total=80, utilisation=0),
    GpuLoad(3, memory_used=10, memory_total=80, utilisation=0),
]


ROOTLESS = dataclasses.replace(TRIXIE, rootless=True, runtimes=("nvidia", "runc"))
PODMAN = dataclasses.replace(
    BOOKWORM, version="5.4.2", podman=True, rootless=True, runtimes=("crun", "nvidia", "runc")
)

# ---------------------------------------------------------------- which


@pytest.mark.parametrize(
    ("wanted", "devices"),
    [
        ("all", ("all",)),
        ("none", ()),
        (2, ("0", "1")),
        ((3, 0), ("0", "3")),
        ("auto:1", ("2",)),
        ("auto:2", ("1", "2")),
        ("auto:4", ("0", "1", "2", "3")),
    ],
)
def test_devices(wanted: str | int | tuple[int, ...], devices: tuple[str, ...]) -> None:
    assert choose_devices(wanted, FOUR) == devices


def test_a_host_without_gpus_works_with_all_of_none() -> None:
    assert choose_devices("all", []) == ()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (5, "5 GPUs are asked for and the host has 4"),
        ("auto:9", "9 GPUs are asked for and the host has 4"),
        ((0, 7), "the host has no GPU 7"),
    ],
)
def test_more_than_there_are(wanted: str | int | tuple[int, ...], message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        choose_devices(wanted, FOUR)


def test_the_idlest_by_memory_then_by_work() -> None:
    assert idlest(FOUR) == [2, 1, 3, 0]


def test_one_that_somebody_holds_is_taken_only_where_the_others_do_not_do() -> None:
    held = [dataclasses.replace(gpu, held=gpu.index in (1, 2)) for gpu in FOUR]
    assert idlest(held) == [3, 0, 2, 1]
    assert choose_devices("auto:3", held) == ("0", "2", "3")


# ---------------------------------------------------------------- how


def test_no_gpu_hides_those_of_a_default_runtime() -> None:
    request = choose_request((), WITH_RUNTIME)
    assert request is NO_GPUS
    assert request.env == {"NVIDIA_VISIBLE_DEVICES": "void"}


def test_cdi_where_the_engine_has_it_and_knows_the_devices() -> None:
    request = choose_request(("0", "1"), NEWEST)
    assert request.way is GpuWay.CDI
    devices = ("nvidia.com/gpu=0", "nvidia.com/gpu=1")
    assert request.device_requests == (DeviceRequest(driver="cdi", device_ids=devices),)
    assert request.runtime == ""


def test_cdi_of_an_engine_that_does_not_tell_is_looked_up_on_the_host() -> None:
    assert choose_request(("all",), TRIXIE, ("nvidia.com/gpu=all",)).way is GpuWay.CDI
    request = choose_request(("all",), TRIXIE)
    assert [request.way, *(one.way for one in request.fallbacks)] == [GpuWay.REQUEST, GpuWay.CDI]


def test_cdi_that_is_off_is_not_used_though_a_spec_is_there() -> None:
    assert choose_request(("all",), WITH_RUNTIME, ("nvidia.com/gpu=all",)).way is GpuWay.RUNTIME


def test_a_stale_spec_falls_back_to_the_runtime() -> None:
    engine = dataclasses.replace(NEWEST, runtimes=("nvidia", "runc"))
    assert choose_request(("2",), engine).way is GpuWay.RUNTIME


def test_the_runtime_is_told_by_the_environment() -> None:
    request = choose_request(("0", "2"), WITH_RUNTIME)
    assert request.runtime == "nvidia"
    assert request.env["NVIDIA_VISIBLE_DEVICES"] == "0,2"
    assert request.device_requests == ()


def test_else_the_engine_finds_its_own_driver() -> None:
    everything = choose_request(("all",), BOOKWORM).device_requests[0]
    assert (everything.count, everything.device_ids) == (-1, ())
    some = choose_request(("0",), BOOKWORM).device_requests[0]
    assert (some.count, some.device_ids) == (0, ("0",))


def test_an_engine_that_knows_no_way() -> None:
    with pytest.raises(ContainerError, match=r"18\.09"):
        choose_request(("all",), dataclasses.replace(BOOKWORM, version="18.09.1"))


# ---------------------------------------------------------------- proof


def test_the_smoke_container_asks_as_the_real_one_will() -> None:
    request = choose_request(("all",), WITH_RUNTIME)
    new = smoke_container("remotedl/base:abc", request)
    assert (new.runtime, new.env) == (request.runtime, request.env)
    assert new.mounts == ()


def test_counting_what_nvidia_smi_lists() -> None:
    said = (
        "GPU 0: NVIDIA H100 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: M)\nGPU 1: NVIDIA H100\n"
    )
    assert smoke_count(said) == 2
    assert smoke_count("No devices were found\n") == 0


def test_what_does_not_work_has_a_next_way() -> None:
    engine = dataclasses.replace(NEWEST, runtimes=("nvidia", "runc"))
    request = choose_request(("all",), engine)
    assert [request.way, *(one.way for one in request.fallbacks)] == [
        GpuWay.CDI,
        GpuWay.RUNTIME,
        GpuWay.REQUEST,
    ]


# ---------------------------------------------------------------- jobs

IN_CONTAINER = [dataclasses.replace(gpu, uuid=f"GPU-{gpu.index}") for gpu in FOUR]


def test_a_job_takes_the_idlest_of_the_containers_gpus_by_uuid() -> None:
    assert job_environment("auto:1", ("all",), IN_CONTAINER) == {"CUDA_VISIBLE_DEVICES": "GPU-2"}
    assert job_environment("auto:1", ("0", "3"), IN_CONTAINER) == {"CUDA_VISIBLE_DEVICES": "GPU-3"}


def test_without_uuids_the_containers_own_numbers_are_used() -> None:
    assert job_environment("auto:1", ("0", "3"), FOUR) == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_job_with_all_or_none() -> None:
    assert job_environment("all", ("all",), FOUR) == {}
    assert job_environment("none", ("all",), FOUR) == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_job_cannot_have_a_gpu_that_its_container_has_not() -> None:
    with pytest.raises(ContainerError, match="the host has no GPU 2"):
        job_environment((2,), ("0", "3"), FOUR)


# ---------------------------------------------------------------- engines without root

SPECS = ("nvidia.com/gpu=0", "nvidia.com/gpu=all")


def test_a_rootless_engine_that_does_not_tell_has_an_etc_of_its_own() -> None:
    assert choose_request(("all",), ROOTLESS, SPECS).way is GpuWay.RUNTIME


def test_a_rootless_engine_with_spec_folders_of_its_own_reads_them() -> None:
    own = dataclasses.replace(ROOTLESS, cdi_spec_dirs=("/home/ada/.config/cdi",))

    assert choose_request(("all",), own, SPECS).way is GpuWay.CDI


def test_a_rootless_engine_that_tells_is_believed() -> None:
    newest = dataclasses.replace(ROOTLESS, version="29.8.1", discovered_devices=SPECS)

    assert choose_request(("0",), newest).way is GpuWay.CDI


def test_podman_is_asked_by_cdi_and_by_nothing_else() -> None:
    request = choose_request(("0",), PODMAN, SPECS)

    assert (request.way, request.fallbacks, request.runtime) == (GpuWay.CDI, (), "")
    assert request.device_requests == (
        DeviceRequest(driver="cdi", device_ids=("nvidia.com/gpu=0",)),
    )


@pytest.mark.parametrize(
    ("engine", "specs", "says"),
    [
        (dataclasses.replace(PODMAN, version="4.9.3"), SPECS, "5.4 and later"),
        (PODMAN, (), "no CDI specification"),
    ],
)
def test_podman_without_a_way_is_refused_and_does_not_start_without_the_gpu(
    engine: EngineReport, specs: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ContainerError, match=says):
        choose_request(("0",), engine, specs)
