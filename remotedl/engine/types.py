"""The engine's things as the rest of the house sees them: frozen values, no docker-py object.

Nothing here does I/O or imports docker, so that pure files may use these types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What the engine tells about itself; how GPUs are asked for is chosen from it."""

    version: str
    """Of the engine: "26.1.5"."""
    api_version: str
    """The newest that the engine speaks."""
    architecture: str
    """As images name it: amd64, arm64."""
    runtimes: tuple[str, ...]
    default_runtime: str
    cdi: bool
    """CDI is on: the engine looks for specs in `cdi_spec_dirs`."""
    cdi_spec_dirs: tuple[str, ...]
    discovered_devices: tuple[str, ...] | None
    """CDI devices that the engine has found ("nvidia.com/gpu=0"); None before API 1.50."""
    cgroup_driver: str
    cgroup_version: int
    root_dir: str
    """Where images and containers lie; its filesystem is the one that fills up."""
    storage_driver: str
    containerd_store: bool
    """Images lie in containerd's store (the default of fresh installs since 29)."""
    rootless: bool
    live_restore: bool
    """Containers outlive a restart of the engine."""
    cpus: int
    memory: int
    """Bytes."""
    operating_system: str
    warnings: tuple[str, ...]
    podman: bool = False
    """podman, behind its Docker-compatible socket."""
    userns: bool = False
    """userns-remap: users of containers are others on the host, unless a container opts out."""
    selinux: bool = False
    """Containers are confined by SELinux: files of the host have labels that they may not use."""


# ---------------------------------------------------------------- images


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """name@sha256:… as the registry knows it; empty for what was built here."""
    labels: Mapping[str, str]
    size: int
    """Bytes, with all layers."""
    created: str
    architecture: str
    env: Mapping[str, str]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    workdir: str
    exposed_ports: tuple[str, ...]
    """"8888/tcp"."""
    layers: tuple[str, ...]
    """Digests of the uncompressed layers, lowest first."""
    volumes: tuple[str, ...] = ()
    """Paths that its Dockerfile declares as VOLUME, sorted."""


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One step that an image was made of, newest first."""

    created_by: str
    size: int


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """One layer of a pull, push or load moves."""

    layer: str
    """Short id; "" for a line about the whole."""
    status: str
    """"Downloading", "Extracting", "Pull complete", …"""
    current: float | None
    total: float | None
    """None where the engine does not know it."""
    unit: str
    """"B", or "s" where the containerd store counts the seconds of an extraction."""


@dataclass(frozen=True, slots=True)
class BuildStep:
    """Step `index` of `total` of a Dockerfile begins."""

    index: int
    total: int
    text: str


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """A line that a step printed."""

    line: str


@dataclass(frozen=True, slots=True)
class Built:
    """The build is done; `image_id` is what came of it."""

    image_id: str


BuildEvent = BuildStep | BuildOutput | LayerProgress | Built


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """Credentials of one registry. They travel in a header of one request and are kept nowhere."""

    username: str = ""
    password: str = field(default="", repr=False)
    server: str = ""
    identity_token: str = field(default="", repr=False)


# ---------------------------------------------------------------- containers


class Health(StrEnum):
    NONE = "none"
    """The image and the container ask for no check."""
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class PublishedPort:
    container_port: int
    protocol: str
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host inside the container. It must exist: none is made."""

    source: str
    target: str
    read_only: bool = False
    volume: bool = False
    """`source` is the name of a volume of the engine, made with the container's labels if it is
    not there; what the image has at `target` is its first content."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as it is now."""

    id: str
    name: str
    image: str
    """The reference that it was created with."""
    image_id: str
    labels: Mapping[str, str]
    status: str
    """created, running, paused, restarting, removing, exited or dead."""
    running: bool
    exit_code: int
    error: str
    """Why the engine could not start it; "" where it could."""
    oom_killed: bool
    health: Health
    restart_count: int
    started_at: str
    pid: int
    """On the host; 0 when it does not run."""
    ports: tuple[PublishedPort, ...]
    mounts: tuple[Mount, ...]
    address: str
    """Its IP address on its first network; "" when it does not run."""
    user: str
    env: Mapping[str, str]
    runtime: str
    network: str = ""
    """What it was asked to be on: a network's name, "default", "bridge", "host", …"""
    finished_at: str = ""
    """When it ended last, as the engine writes times."""
    memory: int = 0
    """Its limit in bytes; 0: none."""


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge on the host."""

    id: str
    name: str
    labels: Mapping[str, str]
    mtu: int
    """0: the engine's own."""
    separate: bool
    """Whether its containers do not reach each other."""


@dataclass(frozen=True, slots=True)
class PortRequest:
    """Publish `container_port` on `host_ip`; host_port 0: a free one that the engine picks."""

    container_port: int
    host_port: int = 0
    host_ip: str = "127.0.0.1"
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A request for GPUs: a `count` (-1: all) or `device_ids`, never both."""

    driver: str = ""
    count: int = 0
    device_ids: tuple[str, ...] = ()
    capabilities: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """`test` is argv, run in the container; times in seconds."""

    test: tuple[str, ...]
    interval_s: float = 30
    start_interval_s: float = 2
    """Between tries within `start_period_s`; engines before 25 do not know it and leave it out."""
    timeout_s: float = 10
    start_period_s: float = 0
    retries: int = 3


@dataclass(frozen=True, slots=True)
class NewContainer:
    """All that a container is created from."""

    image: str
    name: str = ""
    command: tuple[str, ...] | None = None
    """None: the image's own."""
    entrypoint: tuple[str, ...] | None = None
    """None: the image's own; (): none at all."""
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    """"UID:GID"."""
    groups: tuple[str, ...] = ()
    """Further groups of the user, as numbers or names."""
    hostname: str = ""
    workdir: str = ""
    mounts: tuple[Mount, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    """Path → mount options."""
    ports: tuple[PortRequest, ...] = ()
    network: str = ""
    """"" is the engine's default bridge; or none, host, or a network's name."""
    extra_hosts: tuple[str, ...] = ()
    """"name:address"."""
    init: bool = False
    """The engine's own init is process 1."""
    ipc: str = ""
    """"host", "private", …; "" is the engine's default."""
    shm_size: int = 0
    """Bytes; 0 is the engine's default (64 MiB)."""
    ulimits: tuple[Ulimit, ...] = ()
    devices: tuple[str, ...] = ()
    """Device files of the host, the same path inside."""
    device_requests: tuple[DeviceRequest, ...] = ()
    runtime: str = ""
    restart: str = "no"
    """no, always, unless-stopped, on-failure or on-failure:N."""
    healthcheck: Healthcheck | None = None
    cpus: float = 0
    """0: no limit."""
    memory: int = 0
    """Bytes; 0: no limit."""
    security: tuple[str, ...] = ()
    """--security-opt values."""
    userns: str = ""
    """"host": numbers of users are the host's own, whatever the engine maps."""
    tty: bool = False
    open_stdin: bool = False
    stop_signal: str = ""
    stop_timeout_s: int | None = None
    auto_remove: bool = False
    log_max_size: str = "10m"
    """Of each of 3 files: a chatty container must not fill the host's disk."""
    platform: str = ""


class ChangeKind(StrEnum):
    MODIFIED = "modified"
    ADDED = "added"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """A path of the container's own filesystem that differs from its image."""

    path: str
    kind: ChangeKind


# ---------------------------------------------------------------- exec and events


class Output(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class ExecResult:
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.code == 0


@dataclass(frozen=True, slots=True)
class ExecState:
    running: bool
    code: int | None
    """None while it runs, and for one that never started."""
    pid: int


@dataclass(frozen=True, slots=True)
class Event:
    kind: str
    """container, image, network, volume, daemon."""
    action: str
    """start, die, oom, health_status: healthy, …"""
    id: str
    attributes: Mapping[str, str]
    time_ns: int
