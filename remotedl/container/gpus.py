"""Which GPUs the container gets, and how it asks for them. Pure: no I/O, no clock, no chance.

Decision: how to ask is chosen from what the engine reports and never assumed. An engine of 20.10
with only the base package of NVIDIA's toolkit knows the `nvidia` runtime and fails on `--gpus`; one
of 28.2 with the same package knows CDI and needs no runtime. The choice is then proved by a smoke
container (`smoke_container`), because a report can be stale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from remotedl.engine.types import DeviceRequest, EngineReport, NewContainer
from remotedl.errors import ContainerError

CDI_KIND = "nvidia.com/gpu"
GPUS_FLAG = (19, 3)
"""The first Engine that knows `--gpus`."""
PODMAN_CDI = (5, 4)
"""The first podman whose socket heeds CDI requests (podman#25171); older ones drop them silently,
and no podman heeds a runtime or Docker's own GPU request."""
SYSTEM_SPECS = ("/etc/cdi", "/var/run/cdi")
LISTED = re.compile(r"^GPU \d+: ", re.MULTILINE)


class GpuWay(StrEnum):
    """How a container gets at GPUs."""

    NONE = "none"
    CDI = "cdi"
    """Devices named nvidia.com/gpu=…, described by a spec file on the host."""
    RUNTIME = "runtime"
    """The `nvidia` runtime of daemon.json, told by NVIDIA_VISIBLE_DEVICES."""
    REQUEST = "request"
    """What `docker run --gpus` sends: the engine finds a driver by itself."""


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """One GPU of the host and how busy it is."""

    index: int
    memory_used: int
    memory_total: int
    utilisation: int
    """Per cent."""
    name: str = ""
    uuid: str = ""
    """GPU-…: means the same one on the host and in a container that sees a few of them."""
    held: bool = False
    """Somebody else's container was given it, or somebody asked for it (a claim)."""


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """What goes into a container's create body, and why it looks like that."""

    way: GpuWay
    devices: tuple[str, ...] = ()
    """Indexes as text, or ("all",)."""
    why: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    runtime: str = ""
    device_requests: tuple[DeviceRequest, ...] = ()
    fallbacks: tuple[GpuRequest, ...] = ()
    """What to try next, should the smoke container show that this does not work."""


# Images of NVIDIA's set NVIDIA_VISIBLE_DEVICES=all; where `nvidia` is the default runtime that
# would hand every GPU to a container that asked for none.
NO_GPUS = GpuRequest(GpuWay.NONE, (), "no GPU asked for", {"NVIDIA_VISIBLE_DEVICES": "void"})


def choose_devices(wanted: str | int | Sequence[int], gpus: Sequence[GpuLoad]) -> tuple[str, ...]:
    """The GPUs for `gpus = …`, as indexes in text or ("all",); () for none.

    Raises ContainerError where the host has fewer. A host without any GPU gives () for "all":
    everything then works with the cpu variant.
    """
    if wanted == "none" or (wanted == "all" and not gpus):
        return ()
    if wanted == "all":
        return ("all",)
    have = sorted(gpu.index for gpu in gpus)
    if isinstance(wanted, str) and wanted.startswith("auto:"):
        count = int(wanted.removeprefix("auto:"))
        _need(count, have)
        return tuple(str(index) for index in sorted(idlest(gpus)[:count]))
    if isinstance(wanted, int):
        _need(wanted, have)
        return tuple(str(index) for index in have[:wanted])
    if isinstance(wanted, str):
        raise ContainerError(f'gpus = "{wanted}" is not known', hint='"all", "none", 2, [0, 3]')
    missing = sorted(set(wanted) - set(have))
    if missing:
        listed = ", ".join(str(index) for index in have) or "none"
        raise ContainerError(
            f"the host has no GPU {missing[0]} (it has: {listed})",
            hint="remotedl gpus shows them; set gpus in hosts.toml",
        )
    return tuple(str(index) for index in sorted(set(wanted)))


def idlest(gpus: Sequence[GpuLoad]) -> list[int]:
    """Indexes from the least busy on: those that nobody holds, then by the share of memory in
    use, utilisation, index. One that is held is taken only where the others do not do."""

    def load(gpu: GpuLoad) -> tuple[bool, float, int, int]:
        share = gpu.memory_used / max(gpu.memory_total, 1)
        return (gpu.held, share, gpu.utilisation, gpu.index)

    return [gpu.index for gpu in sorted(gpus, key=load)]


def choose_request(
    devices: Sequence[str], engine: EngineReport, cdi_devices: Sequence[str] = ()
) -> GpuRequest:
    """How to ask this engine for these devices. Raises ContainerError where there is no way.

    `cdi_devices`: what the host's spec files hold, for engines that do not tell (before 28.2).
    """
    if not devices:
        return NO_GPUS
    first, *others = _ways(tuple(devices), engine, cdi_devices)
    return replace(first, fallbacks=tuple(others))


def _ways(
    devices: tuple[str, ...], engine: EngineReport, cdi_devices: Sequence[str]
) -> list[GpuRequest]:
    """All that may work, the best first."""
    named = tuple(f"{CDI_KIND}={device}" for device in devices)
    if engine.podman:
        return [_by_podman(devices, named, engine, cdi_devices)]
    known = cdi_devices if engine.discovered_devices is None else engine.discovered_devices
    if engine.discovered_devices is None and engine.rootless:
        # A rootless engine that does not tell (before 28.2) has an /etc of its own.
        known = known if set(engine.cdi_spec_dirs) - set(SYSTEM_SPECS) else ()
    ways = []
    if engine.cdi and set(named) <= set(known):
        ways.append(_by_cdi(devices, named))
    if "nvidia" in engine.runtimes:
        ways.append(_by_runtime(devices))
    if _version(engine.version) >= GPUS_FLAG:
        ways.append(_by_request(devices))
    if engine.cdi and not any(way.way is GpuWay.CDI for way in ways):
        why = "the engine has CDI on, and tells no devices"
        ways.append(replace(_by_cdi(devices, named), why=why))
    if not ways:
        raise ContainerError(
            f"this Docker Engine ({engine.version}) has no way to hand out GPUs",
            hint="remotedl provision",
        )
    return ways


def job_environment(
    wanted: str | int | Sequence[int], container: Sequence[str], gpus: Sequence[GpuLoad]
) -> dict[str, str]:
    """What makes a job of the container see `wanted` of the GPUs that the container has.

    By UUID where it is known: a container numbers its GPUs anew. Raises ContainerError.
    """
    if wanted == "none":
        return {"CUDA_VISIBLE_DEVICES": ""}
    seen = [gpu for gpu in gpus if container == ("all",) or str(gpu.index) in container]
    chosen = choose_devices(wanted, seen)
    if chosen == ("all",):
        return {}
    numbers = {str(gpu.index): str(at) for at, gpu in enumerate(seen)}
    uuids = {str(gpu.index): gpu.uuid for gpu in seen}
    return {"CUDA_VISIBLE_DEVICES": ",".join(uuids[one] or numbers[one] for one in chosen)}


def smoke_container(image: str, request: GpuRequest) -> NewContainer:
    """Lists its GPUs and ends: proof that `request` works on this engine."""
    return NewContainer(
        image=image,
        entrypoint=("nvidia-smi",),
        command=("-L",),
        user="0:0",
        network="none",
        env=request.env,
        runtime=request.runtime,
        device_requests=request.device_requests,
    )


def smoke_count(output: str) -> int:
    """How many GPUs `nvidia-smi -L` listed."""
    return len(LISTED.findall(output))


def _by_cdi(devices: tuple[str, ...], named: tuple[str, ...]) -> GpuRequest:
    return GpuRequest(
        GpuWay.CDI,
        devices,
        f"the engine has CDI on and knows {', '.join(named)}",
        # Not twice: an image that asks for all by itself would get them from a default runtime too.
        env={"NVIDIA_VISIBLE_DEVICES": "void"},
        # A count or options beside CDI names are refused by the engine.
        device_requests=(DeviceRequest(driver="cdi", device_ids=named),),
    )


def _by_podman(
    devices: tuple[str, ...],
    named: tuple[str, ...],
    engine: EngineReport,
    cdi_devices: Sequence[str],
) -> GpuRequest:
    """By CDI or not at all; podman reads the host's own spec files. Raises ContainerError."""
    if _version(engine.version) < PODMAN_CDI:
        raise ContainerError(
            f"podman {engine.version} hands out no GPUs over its socket (5.4 and later do)",
            hint='a newer podman, or a rootless Docker; runtime = "native" in hosts.toml does '
            "without either",
        )
    if missing := sorted(set(named) - set(cdi_devices)):
        raise ContainerError(
            f"no CDI specification on the host describes {missing[0]}, by which podman finds GPUs",
            hint="on the host: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        )
    return replace(_by_cdi(devices, named), why=f"podman finds {', '.join(named)} by CDI")


def _by_runtime(devices: tuple[str, ...]) -> GpuRequest:
    return GpuRequest(
        GpuWay.RUNTIME,
        devices,
        "the engine has the nvidia runtime",
        # The default capabilities, compute and utility, leave out what a display needs.
        env={
            "NVIDIA_VISIBLE_DEVICES": ",".join(devices),
            "NVIDIA_DRIVER_CAPABILITIES": "all",
        },
        runtime="nvidia",
    )


def _by_request(devices: tuple[str, ...]) -> GpuRequest:
    capabilities = (("gpu",),)
    request = (
        DeviceRequest(count=-1, capabilities=capabilities)
        if devices == ("all",)
        else DeviceRequest(device_ids=devices, capabilities=capabilities)
    )
    return GpuRequest(
        GpuWay.REQUEST,
        devices,
        "left to the engine's own GPU driver",
        env={"NVIDIA_DRIVER_CAPABILITIES": "all"},
        device_requests=(request,),
    )


def _need(count: int, have: Sequence[int]) -> None:
    if count > len(have):
        raise ContainerError(
            f"{count} GPUs are asked for and the host has {len(have)}",
            hint="set gpus in hosts.toml; remotedl gpus shows what there is",
        )


def _version(text: str) -> tuple[int, ...]:
    """(20, 10) from "20.10.24+dfsg1"; what is no number ends it."""
    parts = []
    for part in text.split(".")[:2]:
        digits = re.match(r"\d+", part)
        if digits is None:
            break
        parts.append(int(digits[0]))
    return tuple(parts)
