"""What runs in the container at all times: Jupyter, TensorBoard and the doors. Pure.

`services` says which programs there are, `supervisord_conf` writes the supervisor's configuration
and `services_json` what each program's command is. The configuration holds no text of the user's:
every program is `launch.py NAME`, which reads its command from services.json and its secrets from
files of the run folder, so that no token and no password is ever in an argv or in an image's
settings, and no path needs quoting.

Decision: a program that dies is started again for ever. supervisord waits a second more after each
failure in a row, so a broken one costs little and one that was mended comes back by itself.

Decision: nothing listens on a TCP port. Each service is a unix socket in the run folder, which is
the SSH user's alone (0700), named by the number that it is known by: `s/8888`. Published ports were
open to every user of the host and, by the container's address, to its network; they also changed
whenever the container was started again. Programs of the user's do listen on ports, on the
loopback of the container; door.py brings those of `project.ports` to a socket each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from remotedl.config.models import ProjectConfig, port_pair

JUPYTER_PORT = 8888
TENSORBOARD_PORT = 6006
SOCKETS = "s"
"""The folder of the sockets, in the run folder. Short: a socket's path has 107 bytes at most."""
DOORS = "doors.json"
"""Which ports door.py serves; it looks at the file, so that nothing is started anew for one."""
TRIES = 1_000_000
LOG_BYTES = "10MB"
LOG_FILES = 3


@dataclass(frozen=True, slots=True)
class Tools:
    """Where Jupyter, TensorBoard and supervisord are found; "" means on PATH."""

    folder: str = ""

    def path(self, program: str) -> str:
        return f"{self.folder}/{program}" if self.folder else program

    @property
    def python(self) -> str:
        return self.path("python3")

    def supervisord(self, conf: str) -> tuple[str, ...]:
        return (self.path("supervisord"), "--nodaemon", "--configuration", conf)


ON_PATH = Tools()


@dataclass(frozen=True, slots=True)
class Service:
    """One supervised program. "{sockets}" in its argv is the folder of the sockets."""

    name: str
    argv: tuple[str, ...]
    cwd: str
    port: int | None = None
    """The number that its socket is named by; None: it has none of its own."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Where:
    """What differs between a container and a native venv."""

    workspace: str
    run: str
    shared: bool = False
    """Whether other users' programs are on the same loopback."""


def services(config: ProjectConfig, where: Where, tools: Tools, *, root: bool) -> list[Service]:
    """The programs of this project, sorted by name."""
    found = [_door(where, tools)]
    if config.jupyter.enabled:
        found.append(_jupyter(where, tools, root))
    if config.tensorboard.enabled:
        found.append(_tensorboard(config, where, tools))
    return sorted(found, key=lambda service: service.name)


def door_ports(config: ProjectConfig, found: Sequence[Service]) -> tuple[int, ...]:
    """The ports of `project.ports`, as the container knows them, that door.py brings out."""
    own = {service.port for service in found}
    return tuple(sorted(set(container_ports(config)) - own))


def container_ports(config: ProjectConfig) -> tuple[int, ...]:
    """The ports of `project.ports`, as the container knows them."""
    return tuple(sorted({port_pair(text).remote for text in config.ports}))


def services_json(found: Sequence[Service]) -> bytes:
    """What launch.py reads; one text for one list."""
    table = {
        s.name: {"argv": list(s.argv), "cwd": s.cwd, "port": s.port, "env": dict(s.env)}
        for s in found
    }
    return (json.dumps(table, sort_keys=True, indent=1) + "\n").encode()


def supervisord_conf(found: Sequence[Service], tools: Tools) -> bytes:
    """The supervisor's configuration. `%(here)s` is the folder that this file lies in."""
    lines = [
        "; written by remotedl; changes are lost",
        "[supervisord]",
        "nodaemon=true",
        "logfile=%(here)s/logs/supervisord.log",
        "logfile_maxbytes=5MB",
        "logfile_backups=2",
        "pidfile=%(here)s/supervisord.pid",
        "childlogdir=%(here)s/logs",
    ]
    for service in found:
        lines += [
            "",
            f"[program:{service.name}]",
            f"command={tools.python} launch.py service {service.name}",
            "directory=%(here)s",
            "autostart=true",
            "autorestart=true",
            "startsecs=5",
            f"startretries={TRIES}",
            "stopasgroup=true",
            "killasgroup=true",
            "stopwaitsecs=8",
            "redirect_stderr=true",
            f"stdout_logfile=%(here)s/logs/{service.name}.log",
            f"stdout_logfile_maxbytes={LOG_BYTES}",
            f"stdout_logfile_backups={LOG_FILES}",
        ]
    if tools.folder:
        # An image may bring services along (a virtual screen); they are supervised as ours are.
        lines += ["", "[include]", f"files={tools.folder}/../etc/services/*.conf"]
    return ("\n".join(lines) + "\n").encode()


def _jupyter(where: Where, tools: Tools, root: bool) -> Service:
    argv = [
        tools.path("jupyter-lab"),
        "--no-browser",
        f"--ServerApp.sock={{sockets}}/{JUPYTER_PORT}",
        "--ServerApp.sock_mode=0600",
        f"--ServerApp.root_dir={where.workspace}",
    ]
    if root:
        argv.append("--allow-root")
    env = {"JUPYTER_TOKEN_FILE": f"{where.run}/token"}
    return Service("jupyter", tuple(argv), where.workspace, JUPYTER_PORT, env)


def _tensorboard(config: ProjectConfig, where: Where, tools: Tools) -> Service:
    argv = [
        tools.python,
        f"{where.run}/board.py",
        f"{{sockets}}/{TENSORBOARD_PORT}",
        f"--logdir={where.workspace}/{config.tensorboard.logdir}",
    ]
    if where.shared:
        # Its data server is a port of its own, and asks nobody who they are.
        argv.append("--load_fast=false")
    return Service("tensorboard", tuple(argv), where.workspace, TENSORBOARD_PORT)


def _door(where: Where, tools: Tools) -> Service:
    argv = (tools.python, f"{where.run}/door.py", f"{where.run}/{DOORS}", "{sockets}")
    return Service("door", argv, where.run)
