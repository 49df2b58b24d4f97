"""What a host is, as dataclasses. They are filled by `parse.py` from what `probe.sh` prints.

Nothing here touches a wire, a clock or a disk, and nothing decides what to do about a fact (that
is `plan.py`). A default always means "not known to be there", so that a plan made from half the
facts asks for too much, never too little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

NVIDIA = "0x10de"
FIRST_TURING_DEVICE = 0x1E00
"""NVIDIA's PCI device ids grow with the years; from TU10x on, open kernel modules work."""


@dataclass(frozen=True, slots=True)
class Distro:
    """From os-release. `id` "debian", `version` "12", `codename` "bookworm"."""

    id: str = ""
    version: str = ""
    codename: str = ""
    """A derivative's is that of the release of Debian or Ubuntu that it is made of."""
    borrowed: bool = False
    """The codename is named as the parent's own (UBUNTU_CODENAME, DEBIAN_CODENAME)."""
    like: tuple[str, ...] = ()
    name: str = "an unknown system"

    @property
    def major(self) -> int:
        """12 of "12", 22 of "22.04", 0 where there is none (Arch, Tumbleweed)."""
        match = re.match(r"\d+", self.version)
        return int(match.group()) if match else 0


@dataclass(frozen=True, slots=True)
class Machine:
    kernel: str = ""
    machine: str = ""
    """As uname says it: x86_64, aarch64, armv7l, i686."""
    package_arch: str = ""
    """As dpkg says it: amd64, arm64, i386, armhf; empty without dpkg."""
    bits: int = 64
    wsl: bool = False
    tegra: bool = False
    """A Jetson: its GPU is no PCI device and its driver comes with the system."""
    headers: bool = False
    """The headers of the running kernel are there."""
    modules: bool = True
    """So are its modules: an upgrade of the kernel takes them away on Arch."""
    prepared: str = ""
    """The vendor's image that comes with driver and Docker ("Lambda Stack"), if it is one."""


@dataclass(frozen=True, slots=True)
class Init:
    pid1: str = ""
    systemd: bool = False
    systemd_state: str = ""
    """running, starting, degraded, … as `systemctl is-system-running` says."""
    container: str = "none"
    """The kind of container that this "host" is itself: docker, lxc, podman, none…"""


@dataclass(frozen=True, slots=True)
class Person:
    """The login user."""

    name: str = ""
    uid: int = -1
    groups: tuple[str, ...] = ()
    home: str = ""
    shell: str = ""
    runtime_dir: str = ""
    home_writable: bool = False


Sudo = Literal["root", "free", "password", "missing"]


@dataclass(frozen=True, slots=True)
class Space:
    """One place on a disk, in bytes."""

    path: str
    device: str
    mount: str
    total: int
    free: int
    inodes_free: int | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    path: str
    pid: int
    holder: str


@dataclass(frozen=True, slots=True)
class Package:
    version: str
    state: str

    @property
    def installed(self) -> bool:
        return self.state[:2] in ("ii", "hi")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A JSON settings file as it lies there: `text` is None where it cannot be read."""

    path: str
    text: str | None
    changed: int = 0
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class HostContainer:
    id: str
    name: str
    state: str
    image: str
    owner: str = ""
    """Label remotedl.owner; empty: not ours."""
    project: str = ""
    gpus: tuple[str, ...] = ()
    open_ports: tuple[str, ...] = ()
    """Ports of the host that it is published on for the whole network, "8888/tcp"."""

    @property
    def running(self) -> bool:
        return self.state in ("running", "paused", "restarting")


Access = Literal["direct", "sudo", "none"]


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that answers, or why none does."""

    kind: Literal["docker", "rootless", "snap", "podman", "absent"] = "absent"
    access: Access = "none"
    """How the login user reaches it."""
    host: str = ""
    """What DOCKER_HOST must hold; empty for the client's own default."""
    socket: str = ""
    """Where its API is spoken to directly; empty: through the docker command."""
    version: str = ""
    buildx: str = ""
    runtimes: tuple[str, ...] = ()
    default_runtime: str = ""
    cdi_dirs: tuple[str, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    cgroup_driver: str = ""
    root_dir: str = ""
    storage_driver: str = ""
    live_restore: bool = False
    mtu: int = 0
    """Bytes of a packet on Docker's own bridge; 0: not known."""
    flags: tuple[str, ...] = ()
    """Settings that dockerd was given on its command line: "mtu", "data-root"."""
    http_proxy: str = ""
    https_proxy: str = ""
    containers: tuple[HostContainer, ...] = ()
    settings: tuple[ConfigFile, ...] = ()
    dropins: tuple[str, ...] = ()
    units: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Unit -> (is-enabled, is-active)."""
    group_members: tuple[str, ...] = ()
    config_dir_stolen: bool = False
    """~/.docker belongs to somebody else (an earlier `sudo docker`)."""
    linger: bool = False
    """The login user's own services, a rootless engine among them, outlive the login."""
    problem: str = ""
    """What the client said when nothing answered."""

    @property
    def works(self) -> bool:
        return self.access != "none"

    @property
    def release(self) -> tuple[int, int]:
        """(20, 10) of "20.10.24+dfsg1"; (0, 0) where nothing answers."""
        return version_pair(self.version)


@dataclass(frozen=True, slots=True)
class PciGpu:
    """A display controller (class 0x03…) on the PCI bus."""

    address: str
    vendor: str
    device: int
    driver: str = ""

    @property
    def nvidia(self) -> bool:
        return self.vendor == NVIDIA

    @property
    def open_modules(self) -> bool:
        return self.device >= FIRST_TURING_DEVICE


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A program on a GPU. `container` is a full container id, or empty on the bare host."""

    gpu: str
    pid: int
    name: str
    memory: int
    user: str = ""
    started: int = 0
    container: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver sees it; memory in bytes, utilisation in percent (None: not said)."""

    index: int
    uuid: str
    name: str
    pci: str = ""
    memory_total: int = 0
    memory_used: int = 0
    utilisation: int | None = None
    mig: bool = False
    temperature: int | None = None
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuClaim:
    """A polite note: this user wants these GPUs until then. Whoever ignores it, may."""

    user: str
    gpus: tuple[str, ...]
    until: int
    project: str = ""
    name: str = ""
    """What people call the project."""


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's driver."""

    loaded: str = ""
    """Version of the module in the kernel; empty: not loaded."""
    on_disk: str = ""
    """Version of the module that the next boot loads."""
    open: bool = False
    nouveau: bool = False
    smi: str = ""
    """Where nvidia-smi lies."""
    smi_works: bool = False
    smi_said: str = ""
    """What nvidia-smi said instead of an answer."""
    cuda: str = ""
    """The newest CUDA that the driver speaks: "12.4"."""
    library: str = ""
    """The version that user space (NVML) has."""


@dataclass(frozen=True, slots=True)
class Toolkit:
    """NVIDIA Container Toolkit."""

    version: str = ""
    hook: bool = False
    """nvidia-container-runtime-hook is there (legacy way of --gpus)."""
    cdi_hook: bool = False
    cli: bool = False
    specs: tuple[str, ...] = ()
    """CDI specifications of NVIDIA's GPUs, in the folders where the engine looks for them."""
    no_cgroups: bool = False
    """It leaves cgroups alone: what rootless engines need of it, and root's own must not have."""
    devices: tuple[str, ...] = ()
    """What those specifications name: "nvidia.com/gpu=0"."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What became of a URL. `known` is False where no tool was there to ask."""

    ok: bool
    known: bool
    why: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """All that the plan may know."""

    distro: Distro = Distro()
    machine: Machine = Machine()
    init: Init = Init()
    person: Person = Person()
    sudo: Sudo = "missing"
    sudo_said: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    python: tuple[int, int] | None = None
    """(3, 11) of its python3, (0, 0) where there is none; None: not asked."""
    memory_total: int = 0
    memory_free: int = 0
    cpus: int = 0
    space: Mapping[str, Space] = field(default_factory=dict)
    cgroup: int = 0
    selinux: str = ""
    apparmor: bool = False
    secure_boot: bool = False
    now: int = 0
    uptime: int = 0
    boot: str = ""
    """Another after each start of the host."""
    limits: Mapping[str, int] = field(default_factory=dict)
    cloud_init: str = "absent"
    reboot_wanted: bool = False
    reboot_packages: tuple[str, ...] = ()
    locks: tuple[Lock, ...] = ()
    packages: Mapping[str, Package] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()
    lists_count: int = 0
    lists_age: int = 0
    """Seconds since the package manager fetched its lists."""
    upgradable: int = 0
    """Packages that are older than those lists say (pacman only)."""
    candidates: Mapping[str, str] = field(default_factory=dict)
    """Debian package -> version that apt would install; missing or "" where there is none."""
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Repository file -> its telling lines."""
    snap_docker: bool = False
    engine: Engine = Engine()
    podman: str = ""
    podman_socket: str = ""
    pci: tuple[PciGpu, ...] = ()
    driver: Driver = Driver()
    gpus: tuple[Gpu, ...] = ()
    claims: tuple[GpuClaim, ...] = ()
    toolkit: Toolkit = Toolkit()
    ubuntu_drivers: tuple[str, ...] = ()
    """Driver packages that `ubuntu-drivers list --gpgpu` offers."""
    kernel_says: tuple[str, ...] = ()
    uplink_mtu: int = 0
    """Bytes of a packet that the host's way out carries; 0: not known."""
    net: Mapping[str, Reach] = field(default_factory=dict)
    proxies: tuple[str, ...] = ()
    """What the host's own settings name as its way out (environment, apt, dnf); no passwords."""
    nvswitch: bool = False

    @property
    def root_for_the_asking(self) -> bool:
        """Without a password."""
        return self.sudo in ("root", "free")

    @property
    def why_no_root(self) -> str:
        allowed = self.sudo_said.removeprefix("limited ")
        if allowed != self.sudo_said:
            return f"sudo is limited to some commands for this user ({allowed.strip()})"
        return "this user has no sudo here"

    @property
    def nvidia_gpus(self) -> tuple[PciGpu, ...]:
        return tuple(gpu for gpu in self.pci if gpu.nvidia)

    @property
    def root_possible(self) -> bool:
        """Root may be had; with a password at worst."""
        return self.sudo in ("root", "free", "password")

    def installed(self, package: str) -> bool:
        return package in self.packages and self.packages[package].installed


def version_pair(text: str) -> tuple[int, int]:
    """(20, 10) of "20.10.24+dfsg1", (0, 0) of nonsense."""
    match = re.match(r"\D{0,2}(\d+)\.(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)
