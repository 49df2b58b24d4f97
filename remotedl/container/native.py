"""`NativeRuntime`: a venv in the user's home in place of a container. For hosts without sudo.

It stands on `Remote` alone. What a container gets from an engine it gets from payload/keep.py (the
services survive the connection, come back when they die) and payload/venv.py (the
stack of the base image, made once for all projects of a user).

What it cannot give: another system than the host's, limits, and a restart after the host's reboot;
`up` starts it again then.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import secrets as chance
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from remotedl.config.models import HostConfig
from remotedl.container.autostop import Autostop, forget_idleness
from remotedl.container.ground import (
    Ground,
    furnish,
    furnishing,
    stand_on,
    survey,
    token_of,
)
from remotedl.container.jobs import running_jobs
from remotedl.container.pip_trouble import pip_trouble
from remotedl.container.ready import WALL_CLOCK, Clock, Dial, wait_until_answers
from remotedl.container.runtime import (
    Change,
    Consent,
    Plan,
    Running,
    State,
    Status,
    Wanted,
    unless_jobs_run,
)
from remotedl.container.services import (
    JUPYTER_PORT,
    ON_PATH,
    Service,
    Where,
    door_ports,
    services,
    services_json,
)
from remotedl.container.spec import ProjectName, canonical_json
from remotedl.errors import ContainerError
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Process, Pty, Remote, Result

OLDEST = "3.9"
VENVS = ".remotedl/native"
JOB_GRACE_S = 5
COLLECTING = "Collecting "
NEWER_PYTHON = "for n in 13 12 11 10 9; do command -v python3.$n && exit; done; exit 1"

TOO_OLD, NO_VENV, PIP_FAILED, NO_PIP = 4, 5, 6, 7


class NativeRuntime:
    """One project's services on one host, without an engine."""

    def __init__(
        self,
        remote: Remote,
        project: ProjectName,
        *,
        clock: Clock = WALL_CLOCK,
        dial: Dial | None = None,
        random: Callable[[int], str] = chance.token_hex,
        host_python: str = "python3",
        requirements: str | None = None,
    ) -> None:
        """`requirements`: in place of the base image's, for a host that needs another stack."""
        self._remote = remote
        self._project = project
        self._clock = clock
        self._dial = dial or remote.dial_unix
        self._random = random
        self._host_python = host_python
        self._requirements = requirements
        self._run_folder = ""
        self._workdir = ""

    @property
    def inside(self) -> str:
        """The run folder, as everybody sees it."""
        self._settle()
        return self._run_folder

    @property
    def python(self) -> str:
        """The host's Python, which remotedl's own programs need and no more."""
        return self._host_python

    def plan(self, wanted: Wanted) -> Plan:
        """What `ensure` would do. Makes the project's folders on the host, and nothing else."""
        ground = self._survey(wanted)
        wanted = self._keeping_its_gpus(wanted)
        # Whether the venv is still the right one is only known once it is there.
        venv = str(self._before().get("venv", ""))
        return self._compare(_asked(wanted, ground, venv), ground)

    def ensure(
        self, wanted: Wanted, *, report: Report = SILENT, consent: Consent = unless_jobs_run
    ) -> Running:
        """The services that are wanted, running and answering. Twice is as good as once."""
        ground = self._survey(wanted)
        token = token_of(self._remote, ground, self._random)
        venv = self._venv(wanted, report)
        wanted = self._keeping_its_gpus(wanted)
        found = _services(wanted, ground)
        plan = self._compare(_asked(wanted, ground, venv), ground)
        if plan.change is Change.RECREATE:
            report.note("the services are started anew: " + "; ".join(plan.why))
            consent(plan)
            self.stop()
        doors = door_ports(wanted.config, found)
        furnish(self._remote, ground, furnishing(found, ON_PATH, _environment(wanted), doors))
        if plan.change is not Change.KEEP:
            self._remote.put(_asked(wanted, ground, venv), f"{ground.folders.run}/native.json")
        jupyter = wanted.config.jupyter.enabled
        running = self._started(plan.change, ground, token, venv, jupyter, report)
        if wanted.config.autostop is not None or ground.watched:
            watch = Autostop(self._remote, ground.folders.run, host_python=self._host_python)
            off = wanted.host.autostop_poweroff
            watch.apply(wanted.config, None, wanted.gpus.devices, report, poweroff=off)
        return running

    def resume(self, host: HostConfig, *, report: Report = SILENT) -> Running:
        """The services as they were asked for last, started if need be, and answering."""
        ground = survey(self._remote, self._project, host)
        self._run_folder, self._workdir = ground.folders.run, ground.folders.workdir
        before = self._before()
        if not before:
            raise ContainerError(
                f"{self._remote.name}: the native runtime of this project is gone",
                hint="remotedl up",
            )
        state = self._state()
        change = Change.KEEP if state and state["running"] else Change.START
        jupyter = "jupyter" in before["services"]
        token = token_of(self._remote, ground, self._random)
        running = self._started(change, ground, token, str(before["venv"]), jupyter, report)
        if ground.watched:
            Autostop(self._remote, ground.folders.run, host_python=self._host_python).resume()
        return running

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Result:
        """Run a short command with the venv on PATH, to the end."""
        self._settle()
        return self._remote.run(
            self._with_venv(argv), env=env, cwd=cwd or self._workdir, check=False
        )

    def own_files(self) -> tuple[str, ...]:
        """None: everything is in folders of the host."""
        return ()

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> Process:
        """Start a command with the venv on PATH and the project's environment."""
        return self._launch(["exec", *argv], env, cwd, pty)

    def shell(self, pty: Pty | None) -> Process:
        """A terminal in the project's folder."""
        return self._launch(["shell"], None, None, pty)

    def status(self) -> Status:
        """How the services stand."""
        state = self._state()
        if not state or not state.get("id"):
            return Status(State.ABSENT)
        return Status(
            State.RUNNING if state["running"] else State.STOPPED,
            id=str(state["id"]),
            name=self._name,
            image=str(state.get("tools", "")),
            since=str(state.get("started", "")),
            gpus=tuple(self._before().get("devices", ())) or ("all",),
        )

    def service_log(self, name: str, lines: int) -> str:
        """The end of the log of a service."""
        logs = f".remotedl/run/{self._project.id}/logs"
        result = self._remote.run(["tail", "-n", str(lines), f"{logs}/{name}.log"], check=False)
        return result.text

    def stop(self) -> None:
        """End its jobs, then the services. Nothing happens when they do not run."""
        if self._state() is None:
            return
        job = [self._host_python, f"{self._folder()}/job.py", "stop-all", self._folder()]
        self._remote.run([*job, str(JOB_GRACE_S)], check=False)
        self._keep("stop")

    def remove(self) -> None:
        """Stop it and forget it. The venv stays: other projects may use it."""
        forget_idleness(self._remote, self._folder(), self._host_python)
        self.stop()
        if self._state() is not None:
            self._keep("forget")
        files = [
            f"{self._folder()}/{name}" for name in ("keep.json", "sockets.json", "native.json")
        ]
        self._remote.run(["rm", "-f", *files])

    # ------------------------------------------------------------ bringing it about

    def _survey(self, wanted: Wanted) -> Ground:
        ground = stand_on(self._remote, survey(self._remote, self._project, wanted.host))
        self._run_folder, self._workdir = ground.folders.run, ground.folders.workdir
        return ground

    def _keeping_its_gpus(self, wanted: Wanted) -> Wanted:
        """ "auto:1" may pick another one by now; what runs keeps what it was given."""
        before, state = self._before(), self._state()
        kept = tuple(before.get("devices", ()))
        same = before.get("gpus") == str(wanted.host.gpus)
        if not (kept and same and state and state["running"]):
            return wanted
        return replace(wanted, gpus=replace(wanted.gpus, devices=kept))

    def _compare(self, asked: bytes, ground: Ground) -> Plan:
        state = self._state()
        if not state or not state.get("id"):
            return Plan(Change.CREATE, ("the services never ran here",))
        before, now = {"devices": [], **self._before()}, json.loads(asked)
        if not state["running"]:
            return Plan(Change.START, ("the services do not run",))
        if before == now:
            return Plan(Change.KEEP)
        why = tuple(sorted(f"another {key}" for key in now if before.get(key) != now[key]))
        return Plan(Change.RECREATE, why, running_jobs(self._remote, ground.folders.run))

    def _started(
        self,
        change: Change,
        ground: Ground,
        token: str,
        venv: str,
        jupyter: bool,
        report: Report,
    ) -> Running:
        state = self._keep("start", self._random(16), f"{venv}/bin")
        running = Running(
            id=str(state["id"]),
            name=self._name,
            change=change,
            sockets=str(state["sockets"]),
            user=ground.user,
            folders=ground.folders,
            token=token,
        )
        if jupyter:
            self._wait(running, report)
        return running

    @property
    def _name(self) -> str:
        return f"{self._project.slug} (native)"

    def _before(self) -> dict[str, Any]:
        found = self._remote.run(["cat", f"{self._folder()}/native.json"], check=False)
        try:
            return dict(json.loads(found.text))
        except ValueError:
            return {}

    def _venv(self, wanted: Wanted, report: Report) -> str:
        """The venv's path on the host; made where it is not there."""
        report.note("the native runtime: looking for its Python packages")
        script = _payload("venv.py")
        builder = f"{VENVS}/venv-{hashlib.sha256(script).hexdigest()[:12]}.py"
        if not self._remote.run(["test", "-f", builder], check=False).ok:
            self._remote.put(script, builder)
        argv = [self._host_python, builder, VENVS]
        result = self._make(wanted, argv, report)
        if result.code == TOO_OLD and (newer := self._newer_python()):
            argv[0] = newer
            result = self._make(wanted, argv, report)
        if result.code == NO_PIP:
            wheel = _pip_wheel()
            self._remote.put(wheel.read_bytes(), f"{VENVS}/{wheel.name}")
            result = self._make(wanted, [*argv, f"{VENVS}/{wheel.name}"], report)
        if not result.ok:
            raise self._no_venv(result)
        made: dict[str, str] = json.loads(result.text.strip().splitlines()[-1])
        return made["venv"]

    def _make(self, wanted: Wanted, argv: list[str], report: Report) -> Result:
        stack = _stack() if self._requirements is None else Stack(self._requirements)
        asked = {
            "requirements": "\n".join([stack.requirements, *wanted.packages]),
            "constraints": stack.constraints,
            "jupyter": stack.jupyter,
            "oldest": OLDEST,
            "index": wanted.host.mirrors.pip,
            "proxy": wanted.host.proxy,
        }
        # On stdin, since an index and a proxy may hold a password.
        stdin, progress = json.dumps(asked).encode(), _PipProgress(report)
        return self._remote.run(argv, stdin=stdin, check=False, on_stdout=progress)

    def _newer_python(self) -> str:
        """Another Python beside a python3 that is too old; "" where there is none."""
        result = self._remote.run(["sh", "-c", NEWER_PYTHON], check=False)
        return result.text.strip()

    def _no_venv(self, result: Result) -> ContainerError:
        host = self._remote.name
        if result.code == TOO_OLD:
            version = self._remote.run([self._host_python, "--version"], check=False).text.strip()
            return ContainerError(
                f"{host}: {version} is too old for the native runtime ({OLDEST} or newer)",
                hint='install a newer python3 on the host, or set runtime = "docker"',
            )
        if result.code == NO_VENV:
            return ContainerError(
                f"{host}: its python3 cannot make venvs: {result.error_text.strip()}",
                hint="install python3-venv on the host, and run the same command again",
            )
        if result.code == PIP_FAILED:
            trouble = pip_trouble(result.text)
            return ContainerError(
                f"{host}: the Python packages could not be installed: {trouble.what}",
                hint=trouble.hint,
            )
        return ContainerError(
            f"{host}: {self._host_python} does not work (status {result.code}): "
            f"{result.error_text.strip()}",
            hint="install Python 3 on the host",
        )

    def _wait(self, running: Running, report: Report) -> None:
        report.note("waiting for Jupyter to answer")

        def still_there() -> str:
            state = self._state()
            if state and state["running"]:
                return ""
            return f"the services do not stay up: {self.service_log('keep', 5).strip()}"

        wait_until_answers(
            self._dial,
            f"{running.sockets}/{JUPYTER_PORT}",
            "/api",
            still_there=still_there,
            log=lambda: self.service_log("jupyter", 10) or self.service_log("keep", 5),
            clock=self._clock,
        )

    # ------------------------------------------------------------ as it is

    def _folder(self) -> str:
        return f".remotedl/run/{self._project.id}"

    def _state(self) -> dict[str, Any] | None:
        """What keep.py says; None where this project never was on this host."""
        script = '[ -f "$2" ] || exit 0; exec "$1" "$2" status'
        argv = ["sh", "-c", script, "sh", self._host_python, f"{self._folder()}/keep.py"]
        result = self._remote.run(argv)
        return dict(json.loads(result.text)) if result.text.strip() else None

    def _keep(self, verb: str, *args: str) -> dict[str, Any]:
        result = self._remote.run(
            [self._host_python, f"{self._folder()}/keep.py", verb, *args], check=False
        )
        if not result.ok:
            raise ContainerError(
                f"{self._remote.name}: the services could not be told to {verb}: "
                f"{result.error_text.strip()}",
                hint="remotedl doctor",
            )
        return dict(json.loads(result.text)) if result.text.strip() else {}

    def _settle(self) -> None:
        """Learn the absolute folders, where `ensure` was called by an earlier command."""
        if self._run_folder:
            return
        before = self._before()
        if not before:
            raise ContainerError(
                f"{self._remote.name}: the native runtime of this project is not there",
                hint="remotedl up",
            )
        home = self._remote.run(["sh", "-c", 'printf %s "$HOME"']).text
        self._run_folder = f"{home}/{self._folder()}"
        config = self._remote.run(["cat", f"{self._run_folder}/services.json"]).text
        folders = [str(entry["cwd"]) for entry in json.loads(config).values()]
        self._workdir = folders[0] if folders else home

    def _with_venv(self, argv: Sequence[str]) -> list[str]:
        tools = str((self._state() or {}).get("tools", ""))
        return ["sh", "-c", 'PATH=$1:$PATH; export PATH; shift; exec "$@"', "sh", tools, *argv]

    def _launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: str | None,
        pty: Pty | None,
    ) -> Process:
        self._settle()
        status = self.status()
        if status.state is not State.RUNNING:
            raise ContainerError(
                f"{self._remote.name}: the native runtime of this project is {status.state.value}",
                hint="remotedl up",
            )
        command = [self._host_python, f"{self._run_folder}/launch.py", *argv]
        return self._remote.start(
            self._with_venv(command), env=env, cwd=cwd or self._workdir, pty=pty
        )


class _PipProgress:
    """What pip prints, line by line, to the report; the packages it has come to are counted."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rest = b""
        self._seen = 0

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            line = raw.decode("utf-8", "replace").rstrip()
            if line.startswith('{"venv"'):
                continue
            self._report.output(line)
            if line.startswith(COLLECTING):
                self._seen += 1
                self._report.progress("Python packages", self._seen, None, "packages")


def _environment(wanted: Wanted) -> dict[str, str]:
    env = {**wanted.config.env, **wanted.secrets}
    if wanted.host.gpus == "none":
        env.setdefault("CUDA_VISIBLE_DEVICES", "")
    elif wanted.gpus.devices not in ((), ("all",)):
        env.setdefault("CUDA_VISIBLE_DEVICES", ",".join(wanted.gpus.devices))
    return env


def _services(wanted: Wanted, ground: Ground) -> list[Service]:
    where = Where(ground.folders.workdir, ground.folders.run, shared=True)
    return services(wanted.config, where, ON_PATH, root=ground.user.uid == 0)


def _asked(wanted: Wanted, ground: Ground, venv: str) -> bytes:
    """What a native runtime is started for: where that differs, it is started anew. No secrets."""
    return canonical_json(
        {
            "venv": venv,
            "services": json.loads(services_json(_services(wanted, ground))),
            "gpus": str(wanted.host.gpus),
            "devices": list(wanted.gpus.devices),
            "env": dict(wanted.config.env),
        }
    )


@dataclass(frozen=True, slots=True)
class Stack:
    """What a venv is made of: the recipe of the base image, without its system."""

    requirements: str
    constraints: str = ""
    jupyter: dict[str, str] = field(default_factory=dict)
    """Files that set Jupyter up, by name; venv.py knows where each belongs."""


def _stack() -> Stack:
    """From dockerfiles/base, in the wheel or in the checkout."""
    package = resources.files("remotedl")
    packed = package / "dockerfiles" / "base"
    base = packed if packed.is_dir() else Path(str(package)).parent / "dockerfiles" / "base"
    kinds = (".json", ".py", ".js")
    settings = [one for one in (base / "jupyter").iterdir() if one.name.endswith(kinds)]
    return Stack(
        (base / "requirements.txt").read_text(encoding="utf-8"),
        (base / "constraints.txt").read_text(encoding="utf-8"),
        {one.name: one.read_text(encoding="utf-8") for one in settings},
    )


def _payload(name: str) -> bytes:
    return (resources.files("remotedl.container") / "payload" / name).read_bytes()


def _pip_wheel() -> Path:
    """The pip that came with the laptop's Python."""
    # Debian's Python comes without ensurepip, or with one that has no wheels of its own.
    found = importlib.util.find_spec("ensurepip")
    folders = [Path(found.origin).parent / "_bundled"] if found and found.origin else []
    folders.append(Path("/usr/share/python-wheels"))
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    if not wheels:
        raise ContainerError(
            "neither the host's Python nor the laptop's "
            f"({sys.executable}) has a pip to begin with",
            hint="install python3-venv on the host",
        )
    return wheels[-1]
