"""`Engine`: one Docker Engine, its five rooms, and what it tells about itself.

Making one does no I/O; the first call dials. It may be used from several threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from remotedl.engine.client import DialledClient, translated
from remotedl.engine.containers import Containers
from remotedl.engine.execs import Execs
from remotedl.engine.images import Images
from remotedl.engine.networks import Networks
from remotedl.engine.stream import Dial
from remotedl.engine.types import NOTHING, EngineReport, Event

LIMIT = 4
"""Connections at a time: sshd gives ours 10 sessions, and the rest of the house needs some."""
TIMEOUT_S = 60.0
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
SNAPSHOTTER = "io.containerd.snapshotter.v1"


class Engine:
    """The Docker Engine behind `dial`."""

    def __init__(self, dial: Dial, *, limit: int = LIMIT, timeout_s: float = TIMEOUT_S) -> None:
        self._dial = dial
        self._limit = limit
        self._timeout_s = timeout_s
        self._first_call = threading.Lock()
        self._client: DialledClient | None = None
        self.images = Images(self._connected)
        self.containers = Containers(self._connected)
        self.execs = Execs(self._connected)
        self.networks = Networks(self._connected)

    def report(self) -> EngineReport:
        """What the engine is and can do."""
        with translated("asking the Docker Engine what it is"):
            client = self._connected()
            return parse_report(client.newest_info(), client.version(api_version=False))

    def ping(self) -> None:
        """Raises EngineError or LinkLost when the engine is not there."""
        with translated("asking whether the Docker Engine is there"):
            self._connected().ping()

    def events(self, *, labels: Mapping[str, str] = NOTHING, since_s: float = 0) -> Iterator[Event]:
        """What happens to things with these labels, from `since_s` (Unix time; 0: now) on.

        Blocks between events, holds one connection, and ends with `close()` of the generator.
        """
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        params: dict[str, Any] = {"filters": json.dumps(filters)}
        if since_s:
            params["since"] = f"{since_s:.9f}"
        with translated("listening to the Docker Engine"):
            for line in self._connected().lines("GET", "/events", params=params):
                yield _event(line)

    def happened(
        self, *, labels: Mapping[str, str], since_s: float, until_s: float
    ) -> tuple[Event, ...]:
        """What it remembers of things with these labels, between two Unix times of its clock.

        Waits where `until_s` is in its future. It remembers the last few hundred events.
        """
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        params = {
            "filters": json.dumps(filters),
            "since": f"{since_s:.9f}",
            "until": f"{until_s:.9f}",
        }
        with translated("asking the Docker Engine what happened"):
            return tuple(
                _event(line) for line in self._connected().lines("GET", "/events", params=params)
            )

    def close(self) -> None:
        """Ends every connection; the engine object may be used again and dials anew."""
        with self._first_call:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> DialledClient:
        with self._first_call:
            if self._client is None:
                with translated("reaching the Docker Engine"):
                    self._client = DialledClient(
                        self._dial, limit=self._limit, timeout_s=self._timeout_s
                    )
            return self._client


def parse_report(info: Mapping[str, Any], version: Mapping[str, Any]) -> EngineReport:
    """An EngineReport out of the engine's /info and /version."""
    security = [str(option) for option in info.get("SecurityOptions") or ()]
    spec_dirs = tuple(info.get("CDISpecDirs") or ())
    found = info.get("DiscoveredDevices")
    machine = str(info.get("Architecture", ""))
    return EngineReport(
        version=str(info.get("ServerVersion", "")),
        api_version=str(version.get("ApiVersion", "")),
        architecture=MACHINES.get(machine, machine),
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        default_runtime=str(info.get("DefaultRuntime", "")),
        cdi=bool(spec_dirs),
        cdi_spec_dirs=spec_dirs,
        discovered_devices=_devices(found) if found is not None else None,
        cgroup_driver=str(info.get("CgroupDriver", "")),
        cgroup_version=int(info.get("CgroupVersion") or 1),
        root_dir=str(info.get("DockerRootDir", "")),
        storage_driver=str(info.get("Driver", "")),
        containerd_store=any(SNAPSHOTTER in str(row) for row in info.get("DriverStatus") or ()),
        rootless=any("name=rootless" in option for option in security),
        userns=any("name=userns" in option for option in security),
        selinux=any("name=selinux" in option for option in security),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        cpus=int(info.get("NCPU") or 0),
        memory=int(info.get("MemTotal") or 0),
        operating_system=str(info.get("OperatingSystem", "")),
        warnings=tuple(str(warning) for warning in info.get("Warnings") or ()),
        podman=any("Podman" in str(one.get("Name")) for one in version.get("Components") or ()),
    )


def _devices(found: list[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted(str(device["ID"]) for device in found if device.get("Source") == "cdi"))


def _event(line: Mapping[str, Any]) -> Event:
    actor = line.get("Actor") or {}
    return Event(
        kind=str(line.get("Type", "")),
        action=str(line.get("Action", "")),
        id=str(actor.get("ID", "")),
        attributes=dict(actor.get("Attributes") or {}),
        time_ns=int(line.get("timeNano") or 0),
    )
