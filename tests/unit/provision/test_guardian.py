"""What is noticed under a running container, once."""

from __future__ import annotations

from remotedl.provision.facts import Gpu, GpuClaim, GpuProcess, HostContainer, Space
from remotedl.provision.frame import Section
from remotedl.provision.gpus import GpuReport, held_by_others, views
from remotedl.provision.guardian import Readings, judge, readings

WELL = Readings(
    host_gpus=("GPU-a", "GPU-b"),
    container_gpus=("GPU-a", "GPU-b"),
    asked_container=True,
    uptime=100,
)


def names(before: Readings | None, now: Readings) -> list[str]:
    return [finding.name for finding in judge(before, now, "h1")]


def changed(**values: object) -> Readings:
    from dataclasses import replace

    return replace(WELL, **values)  # type: ignore[arg-type]


def test_nothing_is_wrong() -> None:
    assert names(None, WELL) == [] and names(WELL, WELL) == []


def test_a_container_that_lost_the_gpu_to_a_daemon_reload_is_told_once() -> None:
    lost = changed(container_gpus=(), container_said="Failed to initialize NVML: Unknown Error")

    (finding,) = judge(WELL, lost, "h1")

    assert finding.name == "nvml-lost"
    assert finding.mend == "remotedl down h1, then: remotedl up h1"
    assert names(lost, lost) == []


def test_a_driver_upgraded_underneath() -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 5"
    now = changed(host_gpus=(), host_said=said, container_gpus=(), container_said=said)

    assert names(WELL, now) == ["driver-mismatch"]


def test_a_gpu_that_is_gone() -> None:
    (finding,) = judge(WELL, changed(host_gpus=("GPU-a",)), "h1")

    assert finding.name == "gpu-off-the-bus" and "GPU-b" in finding.what


def test_a_crash_that_the_kernel_told_before_is_not_told_again() -> None:
    line = "[   90.1] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus."
    later = "[  150.1] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus."

    assert names(None, changed(kernel=(line,))) == ["gpu-off-the-bus"]
    assert names(WELL, changed(kernel=(line,))) == []
    assert names(WELL, changed(kernel=(line, later))) == ["gpu-off-the-bus"]


def test_a_disk_that_fills_up() -> None:
    def disk(free: int) -> Space:
        return Space("/", "/dev/sda1", "/", 10**12, free)

    assert names(WELL, changed(disks=(disk(10**11),))) == []
    assert names(WELL, changed(disks=(disk(10**9),))) == ["disk /"]


def test_a_container_without_gpus_or_without_nvidia_smi_is_well() -> None:
    assert names(None, changed(container_gpus=(), asked_container=False)) == []
    said = 'exec: "nvidia-smi": executable file not found in $PATH'
    assert names(None, changed(container_gpus=(), container_said=said)) == []


def test_readings_of_a_host_without_a_driver() -> None:
    now = readings({
        "host_gpus": Section(127, ""),
        "disk": Section(0, "space / /dev/sda1 1000 10 990 1% /"),
        "clock": Section(0, "now 17\nuptime 5"),
    })  # fmt: skip

    assert now.host_gpus == () and now.host_said == "" and not now.asked_container
    assert (now.uptime, now.disks[0].free) == (5, 990 * 1024)


def test_readings_of_a_host_with_two_gpus() -> None:
    text = "GPU 0: NVIDIA A100 (UUID: GPU-a)\nGPU 1: NVIDIA A100 (UUID: GPU-b)"

    now = readings({"host_gpus": Section(0, text), "container_gpus": Section(1, "Failed")})

    assert now.host_gpus == ("GPU-a", "GPU-b") and now.container_said == "Failed"


# ---- who holds which GPU


def test_programs_containers_and_claims_on_each_gpu() -> None:
    ours, theirs = "a" * 64, "b" * 64
    gpus = (
        Gpu(0, "GPU-a", "A100", processes=(
            GpuProcess("GPU-a", 1, "python", 10, "root", container=ours),
            GpuProcess("GPU-a", 2, "blender", 20, "bob"),
        )),
        Gpu(1, "GPU-b", "A100"),
        Gpu(2, "GPU-c", "A100"),
    )  # fmt: skip
    containers = (
        HostContainer(ours, "remotedl-x", "running", "i", "ada@laptop", "x", ("0",)),
        HostContainer(theirs, "remotedl-y", "running", "i", "eve@pc", "y", ("1",)),
        HostContainer("c" * 64, "remotedl-z", "exited", "i", "eve@pc", "z", ("2",)),
    )
    claims = (
        GpuClaim("tim@pc", ("1", "2"), 200, "p"),
        GpuClaim("old@pc", ("2",), 50, "p"),
    )

    found = views(GpuReport(gpus, claims, containers, now=100))

    assert [[(h.kind, h.user, h.what) for h in view.holders] for view in found] == [
        [("container", "ada@laptop", "remotedl-x"), ("process", "bob", "blender")],
        [("container", "eve@pc", "remotedl-y"), ("claim", "tim@pc", "p")],
        [("claim", "tim@pc", "p")],
    ]
    assert [view.free for view in found] == [False, False, False]
    report = GpuReport(gpus, claims, containers, now=100)
    assert held_by_others(report, "x") == {1, 2}
    assert held_by_others(report, "p") == {0, 1}
    assert held_by_others(GpuReport(gpus, claims, (), now=300), "x") == frozenset(), "it is over"
