"""The rooms wired together for one project on one connected host.

`up` makes a workplace from fresh facts and remembers how the engine is reached; `run`, `shell` and
`down` open it again from that memory, and look anew only where there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from remotedl.config.files import write_private
from remotedl.config.models import HostConfig, RuntimeKind
from remotedl.container.docker import DockerRuntime
from remotedl.container.jobs import Jobs
from remotedl.container.native import NativeRuntime
from remotedl.container.runtime import Runtime
from remotedl.container.spec import ProjectName
from remotedl.engine import Engine
from remotedl.errors import EngineError
from remotedl.provision.facts import HostFacts
from remotedl.provision.plan_settings import DOCKER_MTU
from remotedl.session.project import Project
from remotedl.ssh.remote import Process, Remote
from remotedl.tunnel.way import Way

DIAL = ("docker", "system", "dial-stdio")


@dataclass(frozen=True, slots=True)
class EngineAccess:
    """How the login user reaches the engine. Remembered on the laptop between commands."""

    sudo: bool = False
    docker_host: str = ""
    """What DOCKER_HOST must hold; empty for the client's own default."""
    socket: str = ""
    """Where the engine is spoken to directly: podman's, which no docker command leads to."""
    mtu: int = 0
    """Bytes of a packet that the host's way out carries, where that is less than Docker sends."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What the session and the one-off commands work with."""

    remote: Remote
    project: Project
    runtime: Runtime
    engine: Engine | None
    """None for the native runtime."""
    access: EngineAccess | None = None
    way: Way | None = None
    """How the runtime's sockets are reached, also where sshd forbids forwarding."""

    def jobs(self, run_folder: str) -> Jobs:
        return Jobs(self.remote, self.runtime, run_folder)

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
        if self.way is not None:
            self.way.close()
        self.remote.close()


def engine_access(facts: HostFacts) -> EngineAccess:
    """From fresh facts. Raises EngineError where no engine answers."""
    engine = facts.engine
    if not engine.works:
        raise EngineError(
            f"no Docker Engine answers on the host: {engine.problem or 'there is none'}",
            hint="remotedl provision",
        )
    small = facts.uplink_mtu if facts.uplink_mtu < DOCKER_MTU else 0
    return EngineAccess(engine.access == "sudo", engine.host, engine.socket, small)


def open_workplace(
    remote: Remote, project: Project, host: HostConfig, access: EngineAccess | None
) -> Workplace:
    """Wire the rooms. `access` may be None for the native runtime alone."""
    name = ProjectName(project.id, project.slug)
    way = Way(remote, hasten=False)  # a look at a service now and then
    if host.runtime is RuntimeKind.NATIVE:
        native = NativeRuntime(remote, name, dial=way.dial_unix)
        return Workplace(remote, project, native, None, way=way)
    if access is None:
        raise EngineError("how the engine is reached is not known", hint="remotedl up")
    engine = open_engine(remote, access, way)
    runtime = DockerRuntime(remote, engine, name, dial=way.dial_unix, mtu=access.mtu)
    return Workplace(remote, project, runtime, engine, access, way)


def open_engine(remote: Remote, access: EngineAccess, way: Way) -> Engine:
    """The host's engine through channels of our own connection."""
    if access.socket:
        return Engine(lambda: way.dial_unix(access.socket))
    env: Mapping[str, str] = {"DOCKER_HOST": access.docker_host} if access.docker_host else {}

    def dial() -> Process:
        return remote.start(DIAL, sudo=access.sudo, env=env)

    return Engine(dial)


def remember_access(folder: Path, access: EngineAccess) -> None:
    write_private(folder / "engine.json", json.dumps(asdict(access)).encode())


def remembered_access(folder: Path) -> EngineAccess | None:
    """What `up` found last time. A shortcut, not a state: a damaged one counts as none."""
    try:
        return EngineAccess(**json.loads((folder / "engine.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
