"""What the project's container must be, as a value. Pure: no I/O, no clock, no chance.

`container_spec` turns configuration and facts into a `ContainerSpec`; `new_container` turns that
into what the engine creates; `spec_hash` is what a container carries in its labels, so that a later
run sees whether it is still the one that is wanted. Nothing secret ever gets into a spec: the token
and the values of `env_file` travel in files of the run folder, which `docker inspect` never shows.

Decision: the hash covers what was *asked for*, not how it was met. `gpus = "auto:1"` may pick
another GPU tomorrow, and an engine may refuse our ulimits; neither is a reason to throw away the
container that runs. The image goes in by its id, so that a rebuilt tag is a change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from remotedl.config.models import HostConfig, ProjectConfig
from remotedl.container.gpus import NO_GPUS, GpuRequest, GpuWay
from remotedl.container.services import (
    JUPYTER_PORT,
    ON_PATH,
    SOCKETS,
    TENSORBOARD_PORT,
    Tools,
)
from remotedl.engine.types import (
    Container,
    EngineReport,
    Healthcheck,
    Mount,
    NewContainer,
    Ulimit,
)
from remotedl.errors import ConfigError

WORKSPACE = "/workspace"
DATA = "/data"
RUN_FOLDER = "/run/remotedl"

LABEL_PROJECT = "remotedl.project"
LABEL_OWNER = "remotedl.owner"
LABEL_SPEC = "remotedl.spec"
LABEL_VERSION = "remotedl.version"
LABEL_GPUS = "remotedl.gpus"
"""Indexes with commas, or "all": `remotedl gpus` of every user of the host shows them."""
LABEL_FOLDER = "remotedl.folder"
LABEL_LAPTOP = "remotedl.laptop"
"""Which folder of which laptop it was made for, as `remotedl ps` shows it."""
LABEL_TOOLS = "remotedl.tools"
"""On images and containers: the folder of a Jupyter of remotedl's own; absent: on PATH."""

FORMAT = 2
"""Part of the hash; raised when the same spec has to give another container."""

ROOT_GROUPS = frozenset(["docker", "podman", "lxd", "incus", "incus-admin", "libvirt", "disk"])
"""Groups of the host whose members are root there in all but name: not for what runs inside."""

NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]+")
SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[bkmgt]?)i?b?", re.IGNORECASE)
UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class User:
    """Who the SSH user is on the host; the container's processes are the same one."""

    name: str
    uid: int
    gid: int
    group: str
    home: str
    groups: tuple[tuple[int, str], ...] = ()
    """Further groups, (gid, name)."""


@dataclass(frozen=True, slots=True)
class ProjectName:
    """Which project: 16 hex characters, and a name that is fit for containers and folders."""

    id: str
    slug: str

    @property
    def container_name(self) -> str:
        slug = NOT_IN_NAMES.sub("-", self.slug.lower()).strip("-._") or "project"
        return f"remotedl-{slug[:40]}-{self.id[:6]}"

    def container_names(self, owner: str) -> tuple[str, ...]:
        """The usual one, and the one for who shares a folder and a host with another user."""
        who = NOT_IN_NAMES.sub("-", owner.lower()).strip("-._") or "user"
        return self.container_name, f"{self.container_name}-{who[:32]}"


@dataclass(frozen=True, slots=True)
class Folders:
    """Absolute paths on the host: the project's files, the data, and what remotedl keeps."""

    workdir: str
    data: str
    run: str

    @property
    def home(self) -> str:
        return f"{self.run}/home"

    @property
    def sockets(self) -> str:
        return f"{self.run}/{SOCKETS}"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is on the host: what to call it, and its id (sha256:…)."""

    ref: str
    id: str
    tools: Tools = ON_PATH
    """Where its Jupyter, TensorBoard and supervisor are."""
    volumes: tuple[str, ...] = ()
    """Paths that its Dockerfile declares as VOLUME: each is a volume with a name, so that what is
    put there outlives the container."""


ULIMITS = (
    # containerd 2.1.5 lets the soft limit fall to 1024, too few for DataLoader workers.
    Ulimit("nofile", 1_048_576, 1_048_576),
    # NCCL and RDMA pin memory; NVIDIA's own images ask for these two.
    Ulimit("memlock", -1, -1),
    Ulimit("stack", 67_108_864, 67_108_864),
)


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything that makes two containers the same one. Never holds a secret."""

    project: ProjectName
    owner: str
    image: Image
    user: str
    groups: tuple[int, ...]
    inner: User
    """Who the SSH user is to the container (`seen_inside`)."""
    home: str
    command: tuple[str, ...]
    mounts: tuple[Mount, ...]
    env: Mapping[str, str]
    gpus_wanted: str
    gpus: GpuRequest
    shm_bytes: int | None
    """None: the host's own /dev/shm (`shm_size = "host"`)."""
    cpus: float | None
    memory_bytes: int | None
    healthcheck: tuple[str, ...] | None
    ulimits: tuple[Ulimit, ...] = ULIMITS
    network: str = ""
    """"": the engine's own bridge. Not part of the hash: it is how, not what."""
    init: bool = True
    restart: str = "unless-stopped"
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.project.container_name

    def without_ulimits(self) -> ContainerSpec:
        """For engines that may not raise them (rootless, or inside another container)."""
        return replace(self, ulimits=())

    def on_network(self, name: str) -> ContainerSpec:
        """The same on a network of the engine."""
        return replace(self, network=name)

    def with_gpus(self, request: GpuRequest) -> ContainerSpec:
        """The same GPUs, asked for in another way."""
        return replace(self, gpus=request)


def container_spec(
    *,
    project: ProjectName,
    host: HostConfig,
    config: ProjectConfig,
    user: User,
    folders: Folders,
    image: Image,
    gpus: GpuRequest = NO_GPUS,
    time_zone: str | None = None,
    rootless: bool = False,
    labels: Mapping[str, str] | None = None,
) -> ContainerSpec:
    """The container that this project wants on this host. Raises ConfigError for bad sizes."""
    inner = seen_inside(user, rootless=rootless)
    home = f"/home/{inner.name}"
    env = {"HOME": home, "USER": inner.name, "LOGNAME": inner.name, "SHELL": "/bin/bash"}
    if time_zone:
        env["TZ"] = time_zone
    env |= config.env
    return ContainerSpec(
        project=project,
        owner=user.name,
        image=image,
        user=f"{inner.uid}:{inner.gid}",
        groups=tuple(sorted(gid for gid, _ in inner.groups if gid != inner.gid)),
        inner=inner,
        home=home,
        command=image.tools.supervisord(f"{RUN_FOLDER}/services.conf"),
        mounts=(
            *(own := _mounts(config, folders, user.home, home)),
            *_volumes(project, user, image, own),
        ),
        env=dict(sorted(env.items())),
        gpus_wanted=str(host.gpus),
        gpus=gpus,
        shm_bytes=None if config.shm_size == "host" else parse_size(config.shm_size, "shm_size"),
        cpus=config.cpus,
        memory_bytes=None if config.memory is None else parse_size(config.memory, "memory"),
        healthcheck=_healthcheck(config, image.tools),
        labels=dict(labels or {}),
    )


def fitted(new: NewContainer, report: EngineReport) -> NewContainer:
    """`new` as an engine takes it that maps users, or labels files.

    The container works on the user's own folders: behind another user's number (userns-remap) or
    another label (SELinux) it could not write there, and relabelling would be seen by others.
    """
    security = (*new.security, "label=disable") if report.selinux else new.security
    return replace(new, security=security, userns="host" if report.userns else "")


def seen_inside(user: User, *, rootless: bool) -> User:
    """Who the SSH user is to the container.

    Groups that are as good as root stay outside.

    An engine without root maps its own user to the container's root and every other number to
    one that owns nothing on the host: only as root does the container write the user's files.
    """
    if not rootless:
        kept = tuple((gid, name) for gid, name in user.groups if name not in ROOT_GROUPS)
        if user.group in ROOT_GROUPS:
            return replace(user, gid=user.uid, group=user.name, groups=kept)
        return replace(user, groups=kept)
    return replace(user, name="root", uid=0, gid=0, group="root", groups=())


def spec_hash(spec: ContainerSpec) -> str:
    """64 hex characters over everything asked for; equal hashes mean the same container."""
    asked = {
        "format": FORMAT,
        "image": spec.image.id,
        "user": spec.user,
        "groups": list(spec.groups),
        "command": list(spec.command),
        "mounts": [[m.source, m.target, m.read_only] for m in spec.mounts],
        "env": dict(spec.env),
        "gpus": [spec.gpus_wanted, spec.gpus.way is not GpuWay.NONE],
        "shm": spec.shm_bytes,
        "cpus": spec.cpus,
        "memory": spec.memory_bytes,
        "healthcheck": None if spec.healthcheck is None else list(spec.healthcheck),
        "init": spec.init,
        "restart": spec.restart,
    }
    return hashlib.sha256(canonical_json(asked)).hexdigest()


def canonical_json(value: object) -> bytes:
    """One value, one text: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def labels(spec: ContainerSpec, version: str) -> dict[str, str]:
    """How the container testifies about itself."""
    tools = {LABEL_TOOLS: spec.image.tools.folder} if spec.image.tools.folder else {}
    gpus = {LABEL_GPUS: ",".join(spec.gpus.devices)} if spec.gpus.devices else {}
    return {
        **spec.labels,
        **tools,
        **gpus,
        LABEL_PROJECT: spec.project.id,
        LABEL_OWNER: spec.owner,
        LABEL_SPEC: spec_hash(spec),
        LABEL_VERSION: version,
    }


def new_container(spec: ContainerSpec, version: str) -> NewContainer:
    """What the engine is asked to create."""
    return NewContainer(
        image=spec.image.ref,
        name=spec.name,
        hostname=spec.name[:63].rstrip("-."),
        # The image's own entrypoint may start a server of its own, or drop to its own user.
        entrypoint=spec.command[:1],
        command=spec.command[1:],
        labels=labels(spec, version),
        env={**spec.gpus.env, **spec.env},
        user=spec.user,
        groups=tuple(str(gid) for gid in spec.groups),
        workdir=WORKSPACE,
        mounts=spec.mounts,
        network=spec.network,
        init=spec.init,
        ipc="host" if spec.shm_bytes is None else "",
        shm_size=spec.shm_bytes or 0,
        ulimits=spec.ulimits,
        device_requests=spec.gpus.device_requests,
        runtime=spec.gpus.runtime,
        restart=spec.restart,
        healthcheck=(
            None if spec.healthcheck is None else Healthcheck(spec.healthcheck, start_period_s=60)
        ),
        cpus=spec.cpus or 0,
        memory=spec.memory_bytes or 0,
    )


def differences(old: Container, new: ContainerSpec) -> list[str]:
    """What a recreate would change, in words; at least one, since the hashes differ."""
    found = []
    if old.image_id != new.image.id:
        found.append(f"image: {new.image.ref} is another one now")
    if old.user != new.user:
        found.append(f"user: {old.user} → {new.user}")
    was = {mount.target: mount for mount in old.mounts}
    want = {mount.target: mount for mount in new.mounts}
    found += [f"mount gone: {target}" for target in sorted(was.keys() - want.keys())]
    found += [f"mount: {want[t].source}:{t}" for t in sorted(want) if was.get(t) != want[t]]
    found += [f"env: {name}" for name in sorted(new.env) if old.env.get(name) != new.env[name]]
    return found or ["its settings (GPUs, limits, network)"]


def parse_size(text: str, key: str) -> int:
    """Bytes from "8g", "512m", "1.5 GiB". Raises ConfigError naming `key`."""
    match = SIZE.fullmatch(text.strip())
    if match is None or float(match["number"]) <= 0:
        raise ConfigError(
            f'{key} = "{text}" is no size', hint='a size is a number and a unit: "8g", "512m"'
        )
    return int(float(match["number"]) * UNITS[match["unit"].lower()])


def parse_mount(text: str, user_home: str) -> Mount:
    """HOST_PATH:CONTAINER_PATH[:ro]; ~ is the user's home on the host. Raises ConfigError."""
    parts = text.split(":")
    mode = parts.pop() if len(parts) == 3 else "rw"
    if len(parts) != 2 or mode not in ("ro", "rw") or not all(parts):
        raise ConfigError(
            f'mount "{text}" is not HOST_PATH:CONTAINER_PATH[:ro]',
            hint='for example mounts = ["/mnt/datasets:/datasets:ro"]',
        )
    source, target = parts
    if source == "~" or source.startswith("~/"):
        source = user_home + source[1:]
    if not source.startswith("/") or not target.startswith("/") or target == "/":
        raise ConfigError(
            f'mount "{text}": both paths must be absolute, and not the whole container',
            hint="a path in the home folder may start with ~/",
        )
    return Mount(source.rstrip("/") or "/", target.rstrip("/"), mode == "ro")


def passwd_file(base: str, user: User, home: str, shell: str = "/bin/bash") -> str:
    """An image's /etc/passwd with the SSH user in it, whoever had the uid or the name before."""
    kept = _without(base, user.name, user.uid)
    entry = f"{user.name}:x:{user.uid}:{user.gid}:{user.name}:{home}:{shell}"
    return "\n".join([*kept, entry]) + "\n"


def group_file(base: str, user: User) -> str:
    """An image's /etc/group with the groups of the SSH user in it."""
    lines = base.splitlines()
    for gid, name in [(user.gid, user.group), *user.groups]:
        taken = {line.split(":")[2] for line in lines if line.count(":") >= 2}
        if str(gid) in taken:
            continue
        lines = [*_without("\n".join(lines), name, gid), f"{name}:x:{gid}:"]
    return "\n".join(lines) + "\n"


# What an image without the two files gets.
PASSWD_BASE = "root:x:0:0:root:/root:/bin/sh\n"  # noqa: S105
GROUP_BASE = "root:x:0:\n"


def _without(base: str, name: str, number: int) -> list[str]:
    rows = [line for line in base.splitlines() if line.count(":") >= 2]
    return [
        line for line in rows if line.split(":")[0] != name and line.split(":")[2] != str(number)
    ]


def _mounts(
    config: ProjectConfig, folders: Folders, user_home: str, home: str
) -> tuple[Mount, ...]:
    own = [
        Mount(folders.workdir, WORKSPACE),
        Mount(folders.data, DATA),
        Mount(folders.run, RUN_FOLDER),
        Mount(folders.home, home),
    ]
    extra = [parse_mount(text, user_home) for text in config.mounts]
    taken = {mount.target for mount in own}
    for mount in extra:
        if mount.target in taken:
            raise ConfigError(
                f"mount {mount.source}:{mount.target}: {mount.target} is taken already",
                hint="choose another path in the container",
            )
        taken.add(mount.target)
    return (*own, *sorted(extra, key=lambda mount: mount.target))


def _volumes(
    project: ProjectName, user: User, image: Image, taken: Sequence[Mount]
) -> tuple[Mount, ...]:
    """Named volumes for the image's own, but where something of ours or the user's is mounted."""
    targets = {mount.target for mount in taken}
    return tuple(
        Mount(volume_name(project, user.name, path), path, volume=True)
        for path in (declared.rstrip("/") for declared in image.volumes)
        if path and path not in targets
    )


def volume_name(project: ProjectName, owner: str, path: str) -> str:
    """The same for every container of this project and owner, whatever its image."""
    known = hashlib.sha256(f"{owner}\0{path}".encode()).hexdigest()[:8]
    last = NOT_IN_NAMES.sub("-", path.rpartition("/")[2].lower()).strip("-._") or "volume"
    return f"remotedl-{project.id}-{last[:30]}-{known}"


def _healthcheck(config: ProjectConfig, tools: Tools) -> tuple[str, ...] | None:
    folder = f"{RUN_FOLDER}/{SOCKETS}"
    if config.jupyter.enabled:
        return (tools.python, f"{RUN_FOLDER}/health.py", f"{folder}/{JUPYTER_PORT}", "/api")
    if config.tensorboard.enabled:
        return (tools.python, f"{RUN_FOLDER}/health.py", f"{folder}/{TENSORBOARD_PORT}", "/")
    return None
