"""Containers on the host's engine: create, start, look at, stop, remove.

What a container of ours is made of is decided in container/spec.py; here a NewContainer becomes
the engine's JSON, field by field, and the engine's answers become a Container.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import docker.errors

from remotedl.engine.client import DialledClient, quoted, translated
from remotedl.engine.images import parse_env, split_reference
from remotedl.engine.types import (
    NOTHING,
    Change,
    ChangeKind,
    Container,
    Health,
    Mount,
    NewContainer,
    PublishedPort,
)
from remotedl.errors import EngineError

NANO = 1_000_000_000
CHANGES = {0: ChangeKind.MODIFIED, 1: ChangeKind.ADDED, 2: ChangeKind.DELETED}
LOG_FILES = 3


class Containers:
    """`engine.containers`. A container is named by its id or its name."""

    def __init__(self, connected: Callable[[], DialledClient]) -> None:
        self._connected = connected

    def create(self, new: NewContainer) -> Container:
        """Create, but do not start. A name that is taken and a missing mount are refused."""
        with translated(f"creating container {new.name or new.image}"):
            client = self._connected()
            params = {"name": new.name or None, "platform": new.platform or None}
            answer = client.call(
                "POST", "/containers/create", params=params, body=container_json(new)
            )
            return parse_container(client.inspect_container(answer.json()["Id"]))

    def start(self, container: str) -> None:
        """Nothing happens to one that runs. Raises EngineError with the engine's reason."""
        with translated(f"starting container {container}"):
            self._connected().start(container)

    def get(self, container: str) -> Container | None:
        """None when there is no such container."""
        with translated(f"looking at container {container}"):
            try:
                return parse_container(self._connected().inspect_container(container))
            except docker.errors.NotFound:
                return None

    def find(self, labels: Mapping[str, str] = NOTHING) -> tuple[Container, ...]:
        """All with these labels, running or not, by name (value "": the label alone counts)."""
        wanted = [f"{name}={value}" if value else name for name, value in labels.items()]
        with translated("listing the containers"):
            rows = self._connected().containers(
                all=True, filters={"label": wanted} if wanted else None
            )
        # One may be gone between the list and the look at it.
        found = (self.get(str(row["Id"])) for row in rows)
        return tuple(sorted((one for one in found if one), key=lambda one: one.name))

    def sizes(self) -> Mapping[str, int]:
        """Container id → bytes of its own filesystem, beside its image. Takes a while."""
        with translated("asking what the containers take"):
            rows = self._connected().containers(all=True, size=True)
        return {str(row["Id"]): int(row.get("SizeRw") or 0) for row in rows}

    def stop(self, container: str, *, grace_s: int = 10) -> None:
        """SIGTERM, and SIGKILL after `grace_s`. Nothing happens to one that is stopped or gone."""
        with translated(f"stopping container {container}"):
            try:
                self._connected().stop(container, timeout=grace_s)
            except docker.errors.NotFound:
                pass

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        with translated(f"sending {signal} to container {container}"):
            self._connected().kill(container, signal)

    def restart(self, container: str, *, grace_s: int = 10) -> None:
        with translated(f"restarting container {container}"):
            self._connected().restart(container, timeout=grace_s)

    def remove(self, container: str, *, force: bool = False) -> bool:
        """With its anonymous volumes; False when there was none. `force` kills one that runs."""
        with translated(f"removing container {container}"):
            try:
                self._connected().remove_container(container, v=True, force=force)
            except docker.errors.NotFound:
                return False
            return True

    def rename(self, container: str, name: str) -> None:
        with translated(f"renaming container {container}"):
            self._connected().rename(container, name)

    def wait(self, container: str) -> int:
        """Block until it ends; its exit code."""
        with translated(f"waiting for container {container}"):
            path = f"/containers/{quoted(container)}/wait"
            answer = self._connected().call("POST", path, patient=True)
            return int(answer.json()["StatusCode"])

    def logs(self, container: str, *, tail: int | None = None) -> bytes:
        """What it printed so far, stdout and stderr together; the last `tail` lines of it."""
        with translated(f"reading the log of container {container}"):
            client = self._connected()
            params = {"stdout": 1, "stderr": 1, "tail": "all" if tail is None else tail}
            path = f"/containers/{quoted(container)}/logs"
            content = client.call("GET", path, params=params).content
            terminal = client.inspect_container(container)["Config"]["Tty"]
            return content if terminal else b"".join(unframed(content))

    def changes(self, container: str) -> tuple[Change, ...]:
        """What its own filesystem has that its image has not, sorted by path."""
        with translated(f"comparing container {container} with its image"):
            rows = self._connected().diff(container) or ()
        changes = [Change(path=str(row["Path"]), kind=CHANGES[row["Kind"]]) for row in rows]
        return tuple(sorted(changes, key=lambda change: change.path))

    def commit(
        self, container: str, tag: str, *, labels: Mapping[str, str] = NOTHING, pause: bool = True
    ) -> str:
        """Its filesystem as an image; the image's id. Mounted folders are not in it."""
        name, version = split_reference(tag)
        with translated(f"committing container {container}"):
            client = self._connected()
            params = {"container": container, "repo": name, "tag": version, "pause": int(pause)}
            body = {"Labels": dict(labels)}  # the engine adds the container's own
            answer = client.call("POST", "/commit", params=params, body=body, patient=True)
            return str(answer.json()["Id"])

    def put_archive(self, container: str, folder: str, archive: bytes) -> None:
        """Unpack a tar into a folder of the container."""
        with translated(f"copying into container {container}"):
            if not self._connected().put_archive(container, folder, archive):
                raise EngineError(f"copying into {folder} of container {container} failed")

    def get_archive(self, container: str, path: str) -> Iterator[bytes]:
        """A file or folder of the container as a tar."""
        with translated(f"copying {path} out of container {container}"):
            chunks, _ = self._connected().get_archive(container, path)
            yield from chunks


def unframed(content: bytes) -> Iterator[bytes]:
    """The payloads of the engine's 8-byte framed output, one after the other."""
    at = 0
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">xxxxL", content, at)
        yield content[at + 8 : at + 8 + length]
        at += 8 + length


def container_json(new: NewContainer) -> dict[str, Any]:
    """What POST /containers/create takes for `new`."""
    config: dict[str, Any] = {
        "Image": new.image,
        "Labels": dict(new.labels),
        "Env": [f"{name}={value}" for name, value in new.env.items()],
        "User": new.user,
        "Hostname": new.hostname,
        "WorkingDir": new.workdir,
        "ExposedPorts": {f"{port.container_port}/{port.protocol}": {} for port in new.ports},
        "Tty": new.tty,
        "OpenStdin": new.open_stdin,
        "HostConfig": _host_json(new),
    }
    if new.command is not None:
        config["Cmd"] = list(new.command)
    if new.entrypoint is not None:
        # [""] is how the API says "no entrypoint at all"; [] would mean the image's own.
        config["Entrypoint"] = list(new.entrypoint) or [""]
    if new.stop_signal:
        config["StopSignal"] = new.stop_signal
    if new.stop_timeout_s is not None:
        config["StopTimeout"] = new.stop_timeout_s
    if new.healthcheck is not None:
        check = new.healthcheck
        config["Healthcheck"] = {
            "Test": ["CMD", *check.test],
            "Interval": int(check.interval_s * NANO),
            "Timeout": int(check.timeout_s * NANO),
            "StartPeriod": int(check.start_period_s * NANO),
            "Retries": check.retries,
        }
        if check.start_period_s:
            config["Healthcheck"]["StartInterval"] = int(check.start_interval_s * NANO)
    return config


def _mount_json(mount: Mount, labels: Mapping[str, str]) -> dict[str, Any]:
    row = {"Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}
    if not mount.volume:
        return {"Type": "bind", **row}
    return {"Type": "volume", **row, "VolumeOptions": {"Labels": dict(labels)}}


def _mount(row: Mapping[str, Any]) -> Mount:
    volume = row.get("Type") == "volume"
    source = str(row["Name" if volume else "Source"])
    return Mount(source, str(row["Destination"]), not row["RW"], volume)


def _host_json(new: NewContainer) -> dict[str, Any]:
    policy, _, count = new.restart.partition(":")
    host: dict[str, Any] = {
        "Mounts": [_mount_json(one, new.labels) for one in new.mounts],
        "Tmpfs": dict(new.tmpfs),
        "PortBindings": _bindings(new),
        "NetworkMode": new.network or "default",
        "ExtraHosts": list(new.extra_hosts),
        "GroupAdd": list(new.groups),
        "Init": new.init,
        "IpcMode": new.ipc,
        "Ulimits": [
            {"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in new.ulimits
        ],
        "Devices": [
            {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}
            for path in new.devices
        ],
        "DeviceRequests": [
            {
                "Driver": request.driver,
                "Count": request.count,
                "DeviceIDs": list(request.device_ids),
                "Capabilities": [list(group) for group in request.capabilities],
            }
            for request in new.device_requests
        ],
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": int(count or 0)},
        "NanoCpus": int(new.cpus * NANO),
        "Memory": new.memory,
        "SecurityOpt": list(new.security),
        "UsernsMode": new.userns,
        "AutoRemove": new.auto_remove,
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": new.log_max_size, "max-file": str(LOG_FILES)},
        },
    }
    if new.shm_size:
        host["ShmSize"] = new.shm_size
    if new.runtime:
        host["Runtime"] = new.runtime
    return host


def _bindings(new: NewContainer) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in new.ports:
        key = f"{port.container_port}/{port.protocol}"
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port or "")}
        bindings.setdefault(key, []).append(binding)
    return bindings


def parse_container(found: Mapping[str, Any]) -> Container:
    """A Container out of the engine's inspection."""
    state, config = found.get("State") or {}, found.get("Config") or {}
    host, network = found.get("HostConfig") or {}, found.get("NetworkSettings") or {}
    return Container(
        id=str(found["Id"]),
        name=str(found.get("Name", "")).lstrip("/"),
        image=str(config.get("Image", "")),
        image_id=str(found.get("Image", "")),
        labels=dict(config.get("Labels") or {}),
        status=str(state.get("Status", "")),
        running=bool(state.get("Running")),
        exit_code=int(state.get("ExitCode") or 0),
        error=str(state.get("Error") or ""),
        oom_killed=bool(state.get("OOMKilled")),
        health=Health((state.get("Health") or {}).get("Status") or "none"),
        restart_count=int(found.get("RestartCount") or 0),
        started_at=str(state.get("StartedAt", "")),
        pid=int(state.get("Pid") or 0),
        ports=_published(network.get("Ports") or {}),
        mounts=tuple(
            _mount(row)
            for row in sorted(found.get("Mounts") or (), key=lambda row: str(row["Destination"]))
        ),
        address=_address(network),
        user=str(config.get("User") or ""),
        env=parse_env(config.get("Env")),
        runtime=str(host.get("Runtime") or ""),
        network=str(host.get("NetworkMode") or ""),
        finished_at=str(state.get("FinishedAt") or ""),
        memory=int(host.get("Memory") or 0),
    )


def _published(ports: Mapping[str, Any]) -> tuple[PublishedPort, ...]:
    found = []
    for key, bindings in ports.items():
        number, _, protocol = key.partition("/")
        found += [
            PublishedPort(int(number), protocol, str(one["HostIp"]), int(one["HostPort"]))
            for one in bindings or ()
        ]
    return tuple(sorted(found, key=lambda port: (port.container_port, port.host_ip)))


def _address(network: Mapping[str, Any]) -> str:
    for one in (network.get("Networks") or {}).values():
        if address := one.get("IPAddress"):
            return str(address)
    return ""
