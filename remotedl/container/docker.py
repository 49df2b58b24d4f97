"""`DockerRuntime`: the project's container on the host's Docker Engine.

It brings about what spec.py says and decides nothing about it. docker-py is out of sight: all that
is asked of the engine goes through remotedl.engine.

Decision: the SSH user's entries are written into the created container's own passwd and group, and
no file is mounted over them. A mounted one would hide the users that the image brought along, and a
mount of a single file keeps pointing at the old one when it is replaced.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace

from remotedl import __version__
from remotedl.config.models import HostConfig
from remotedl.container.autostop import Autostop, forget_idleness
from remotedl.container.fate import ASKED_BEFORE_S, end_of, fate
from remotedl.container.gpus import GpuRequest, GpuWay, smoke_container, smoke_count
from remotedl.container.ground import (
    Ground,
    check_mounts,
    furnish,
    furnishing,
    stand_on,
    survey,
    token_of,
)
from remotedl.container.jobs import running_jobs
from remotedl.container.process import ExecProcess
from remotedl.container.ready import LIMIT_S, WALL_CLOCK, Clock, Dial, wait_until_answers
from remotedl.container.risks import refuse_hidden_risks
from remotedl.container.runtime import (
    Answer,
    Change,
    Consent,
    Plan,
    Running,
    State,
    Status,
    Wanted,
    unless_jobs_run,
)
from remotedl.container.separation import leave_network, network_name, own_network
from remotedl.container.services import (
    JUPYTER_PORT,
    Service,
    Tools,
    Where,
    door_ports,
    services,
)
from remotedl.container.spec import (
    DATA,
    GROUP_BASE,
    LABEL_GPUS,
    LABEL_OWNER,
    LABEL_PROJECT,
    LABEL_SPEC,
    LABEL_TOOLS,
    PASSWD_BASE,
    RUN_FOLDER,
    WORKSPACE,
    ContainerSpec,
    ProjectName,
    container_spec,
    differences,
    fitted,
    group_file,
    new_container,
    parse_mount,
    passwd_file,
    spec_hash,
)
from remotedl.engine.engine import Engine
from remotedl.engine.types import Container, Event, Health, NewContainer
from remotedl.errors import ContainerError, EngineError
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Process, Pty, Remote, Result

STOP_GRACE_S = 10
SMOKE_S = 60.0
"""A driver in trouble can make nvidia-smi hang."""
JOB_GRACE_S = 5
LOST_LIMIT = 1000
SNAPSHOT_LABEL = "remotedl.snapshot"
"""Holds the image's own tag, as `remotedl image snapshot` writes it: such an image is kept."""
ZONES = "/usr/share/zoneinfo"
ANONYMOUS = re.compile("[0-9a-f]{64}")
"""Volumes that the engine named itself: they go with their container."""
OWN_PATHS = (
    *("/etc/passwd", "/etc/group", ZONES, "/sbin/docker-init", "/usr/sbin/docker-init"),
    *("/run", "/tmp", "/var/tmp", "/home", DATA, WORKSPACE),  # noqa: S108
)
"""Changed by the engine or by us, mounted, or not worth keeping."""


class DockerRuntime:
    """One project's container on one host."""

    inside = RUN_FOLDER

    def __init__(
        self,
        remote: Remote,
        engine: Engine,
        project: ProjectName,
        *,
        clock: Clock = WALL_CLOCK,
        dial: Dial | None = None,
        mtu: int = 0,
    ) -> None:
        """`dial`: to a unix socket, in place of the remote's own where sshd forbids forwarding.

        `mtu`: of the network that is made for the container; 0: as the engine's own bridge.
        """
        self._mtu = mtu
        self._remote = remote
        self._engine = engine
        self._project = project
        self._clock = clock
        self._dial = dial or remote.dial_unix
        self._tools: Tools | None = None

    @property
    def python(self) -> str:
        """The Python that came with the image's Jupyter."""
        if self._tools is None:
            self._tools = Tools(self._container().labels.get(LABEL_TOOLS, ""))
        return self._tools.python

    def plan(self, wanted: Wanted) -> Plan:
        """What `ensure` would do. Makes the project's folders on the host, and nothing else."""
        ground = stand_on(self._remote, survey(self._remote, self._project, wanted.host))
        spec = self._spec(wanted, ground)
        return self._plan(spec, self._find(ground.user.name), ground)

    def ensure(
        self, wanted: Wanted, *, report: Report = SILENT, consent: Consent = unless_jobs_run
    ) -> Running:
        """The container that is wanted, running and answering. Twice is as good as once."""
        ground = stand_on(self._remote, survey(self._remote, self._project, wanted.host))
        spec = self._spec(wanted, ground)
        self._tools = spec.image.tools
        extra = [parse_mount(text, ground.user.home).source for text in wanted.config.mounts]
        refuse_hidden_risks(extra, check_mounts(self._remote, extra))
        token = token_of(self._remote, ground)
        found = _services(wanted, spec)
        doors = door_ports(wanted.config, found)
        files = furnishing(found, spec.image.tools, wanted.secrets, doors)
        changed = furnish(self._remote, ground, files)
        old = self._find(ground.user.name)
        plan = self._plan(spec, old, ground)
        container = self._bring_about(plan, spec, old, ground, report, consent)
        if plan.change is Change.KEEP:
            self._refresh(container, changed)
        if wanted.config.jupyter.enabled:
            self._wait(container, ground, report)
        if wanted.config.autostop is not None or ground.watched:
            watch = Autostop(self._remote, ground.folders.run)
            off = wanted.host.autostop_poweroff
            gpus = _gpus_of(container)
            watch.apply(wanted.config, container.name, gpus, report, poweroff=off)
        return _running(container, plan.change, ground, token)

    def resume(self, host: HostConfig, *, report: Report = SILENT) -> Running:
        """The container as it is, started if need be, and answering."""
        ground = survey(self._remote, self._project, host)
        container = self._find(ground.user.name)
        if container is None:
            raise ContainerError(
                f"{self._remote.name}: the container of this project is gone", hint="remotedl up"
            )
        change = Change.KEEP if container.running else Change.START
        if not container.running:
            self._start_again(container, ground, report)
            container = self._again(container.id)
        listed = self._remote.run(["cat", f"{ground.folders.run}/services.json"]).stdout
        if "jupyter" in json.loads(listed):
            self._wait(container, ground, report)
        if ground.watched:
            Autostop(self._remote, ground.folders.run).resume()
        return _running(container, change, ground, token_of(self._remote, ground))

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Result:
        """Run a short command in the container, to the end."""
        done = self._engine.execs.run(
            self._container().id, argv, env=dict(env or {}), workdir=cwd or ""
        )
        return Result(tuple(argv), done.code, done.stdout, done.stderr)

    def own_files(self) -> tuple[str, ...]:
        """What of its own filesystem is lost when it is removed."""
        container = self._look()
        return _worth_keeping(self._engine, container) if container is not None else ()

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> Process:
        """Start a command in the container and talk to it."""
        return self._launch(["exec", *argv], env, cwd, pty)

    def shell(self, pty: Pty | None) -> Process:
        """A terminal in /workspace."""
        return self._launch(["shell"], None, None, pty)

    def status(self) -> Status:
        """How the container stands."""
        container = self._look()
        if container is None:
            return Status(State.ABSENT)
        return Status(
            _state(container),
            id=container.id,
            name=container.name,
            image=container.image,
            since=container.started_at,
            detail="" if container.running else self._fate(container),
            gpus=_gpus_of(container),
        )

    def _fate(self, container: Container) -> str:
        """Why it does not run; the engine is asked what happened then."""
        ended = end_of(container)
        events: tuple[Event, ...] = ()
        if ended is not None:
            labels = {LABEL_PROJECT: self._project.id}
            try:
                happened = self._engine.happened(
                    labels=labels, since_s=ended - ASKED_BEFORE_S, until_s=ended + 1
                )
            except EngineError:
                happened = ()  # it says less then
            events = tuple(one for one in happened if one.id == container.id)
        return fate(container, events)

    def service_log(self, name: str, lines: int) -> str:
        """The end of the log of a service; of supervisord where it has not come that far."""
        logs = f".remotedl/run/{self._project.id}/logs"
        result = self._remote.run(["tail", "-n", str(lines), f"{logs}/{name}.log"], check=False)
        return result.text

    def stop(self) -> None:
        """End its jobs, then the container. Nothing happens when it does not run."""
        container = self._look()
        if container is None or not container.running:
            return
        self._end_jobs(container)
        self._engine.containers.stop(container.id, grace_s=STOP_GRACE_S)

    def remove(self) -> None:
        """Stop and remove the container; every folder stays."""
        forget_idleness(self._remote, f".remotedl/run/{self._project.id}")
        container = self._look()
        if container is not None:
            self.stop()
            self._engine.containers.remove(container.id, force=True)
            leave_network(self._engine, container)

    # ------------------------------------------------------------ bringing it about

    def _spec(self, wanted: Wanted, ground: Ground) -> ContainerSpec:
        if wanted.image is None:
            raise ContainerError("no image is given for the container", hint="remotedl up")
        return container_spec(
            project=self._project,
            host=wanted.host,
            config=wanted.config,
            user=ground.user,
            folders=ground.folders,
            image=wanted.image,
            gpus=wanted.gpus,
            time_zone=ground.time_zone or None,
            rootless=self._engine.report().rootless,
            labels=wanted.labels,
        )

    def _plan(self, spec: ContainerSpec, old: Container | None, ground: Ground) -> Plan:
        if old is None:
            return Plan(Change.CREATE, ("there is no container of this project",))
        if old.labels.get(LABEL_SPEC) == spec_hash(spec):
            change = Change.KEEP if old.running else Change.START
            return Plan(change, (f"it is {old.status}",))
        jobs = running_jobs(self._remote, ground.folders.run) if old.running else ()
        lost = _worth_keeping(self._engine, old)
        return Plan(Change.RECREATE, tuple(differences(old, spec)), jobs, lost)

    def _bring_about(
        self,
        plan: Plan,
        spec: ContainerSpec,
        old: Container | None,
        ground: Ground,
        report: Report,
        consent: Consent,
    ) -> Container:
        if plan.change is Change.RECREATE:
            assert old is not None
            report.note("the container is made anew: " + "; ".join(plan.why))
            if consent(plan) is Answer.COMMIT:
                self._keep_as_image(old, report)
            if old.running:
                self._end_jobs(old)
                self._engine.containers.stop(old.id, grace_s=STOP_GRACE_S)
            self._engine.containers.remove(old.id, force=True)
            old = None
        if old is None:
            return self._create(spec, ground, report)
        if plan.change is Change.START:
            self._start_again(old, ground, report)
        return self._again(old.id)

    def _start_again(self, container: Container, ground: Ground, report: Report) -> None:
        """A stopped one; also where somebody's `docker network prune` took its network away."""
        name = container.network
        if name == network_name(ground.user) and self._engine.networks.get(name) is None:
            own_network(self._engine, ground.user, report, mtu=self._mtu)
            self._engine.networks.rejoin(name, container.id)
        self._engine.containers.start(container.id)

    def _create(self, spec: ContainerSpec, ground: Ground, report: Report) -> Container:
        """Created and started; nothing stays behind where the engine refuses."""
        if spec.gpus.way is not GpuWay.NONE:
            spec = spec.with_gpus(self._proved(spec, report))
        spec = spec.on_network(own_network(self._engine, ground.user, report, mtu=self._mtu))
        try:
            return self._create_once(spec, ground)
        except EngineError as exc:
            if "rlimit" not in str(exc):
                raise
            # A rootless engine, or one in a container itself, may not raise limits.
            report.warn(
                "the engine may not raise the limits of a container (open files, locked memory)",
                hint="many DataLoader workers may run out of open files",
            )
            return self._create_once(spec.without_ulimits(), ground)

    def _create_once(self, spec: ContainerSpec, ground: Ground) -> Container:
        new = replace(new_container(spec, __version__), name=self._free_name(spec))
        created = self._engine.containers.create(fitted(new, self._engine.report()))
        try:
            self._introduce(created.id, spec, ground)
            self._engine.containers.start(created.id)
        except BaseException:
            self._engine.containers.remove(created.id, force=True)
            raise
        return self._again(created.id)

    def _free_name(self, spec: ContainerSpec) -> str:
        """Containers are found by their labels; only the engine needs a name that nobody has."""
        names = spec.project.container_names(spec.owner)
        for name in names:
            if self._engine.containers.get(name) is None:
                return name
        raise ContainerError(
            f"{self._remote.name}: the container names {' and '.join(names)} are taken by "
            "containers that are not this project's",
            hint=f"see whose they are, and remove one: docker ps -a --filter name={names[0]}",
        )

    def _proved(self, spec: ContainerSpec, report: Report) -> GpuRequest:
        """The first way to ask for the GPUs that really shows them. Raises ContainerError."""
        refusals = []
        for request in (spec.gpus, *spec.gpus.fallbacks):
            try:
                count, said = self._smoke(smoke_container(spec.image.ref, request))
            except EngineError as exc:
                count, said = 0, exc.message
            if count:
                report.note(f"GPUs: {count}, by {request.way.value} ({request.why})")
                return request
            refusals.append(f"{request.way.value}: {said.strip()}")
        raise ContainerError(
            f"{self._remote.name}: no container gets at a GPU.\n" + "\n".join(refusals),
            hint='remotedl doctor finds the cause; gpus = "none" works without',
        )

    def _smoke(self, new: NewContainer) -> tuple[int, str]:
        """How many GPUs a container that asks like this sees, and what it printed."""
        created = self._engine.containers.create(fitted(new, self._engine.report()))
        try:
            self._engine.containers.start(created.id)
            deadline = self._clock.monotonic() + SMOKE_S
            while self._again(created.id).running:
                if self._clock.monotonic() > deadline:
                    return 0, f"nvidia-smi does not end within {SMOKE_S:g} s"
                self._clock.sleep(0.05)
            said = self._engine.containers.logs(created.id).decode("utf-8", "replace")
            return smoke_count(said), said
        finally:
            self._engine.containers.remove(created.id, force=True)

    def _introduce(self, container: str, spec: ContainerSpec, ground: Ground) -> None:
        """Give the SSH user a name, and the host's time zone a meaning, in a created container."""
        passwd = self._read(container, "/etc/passwd").decode("utf-8", "replace") or PASSWD_BASE
        group = self._read(container, "/etc/group").decode("utf-8", "replace") or GROUP_BASE
        files = {
            "etc/group": group_file(group, spec.inner).encode(),
            "etc/passwd": passwd_file(passwd, spec.inner, spec.home).encode(),
        }
        zone = f"{ZONES}/{spec.env.get('TZ', '')}"
        if ground.time_zone == spec.env.get("TZ") and not self._read(container, zone):
            # Slim images leave the zones out, and TZ would then silently mean UTC.
            files[zone.lstrip("/")] = self._remote.run(["cat", "/etc/localtime"]).stdout
        self._engine.containers.put_archive(container, "/", _tar(files))

    def _read(self, container: str, path: str) -> bytes:
        """A small file of the container; b"" where there is none."""
        try:
            packed = b"".join(self._engine.containers.get_archive(container, path))
        except EngineError:
            return b""
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            entry = archive.next()
            file = archive.extractfile(entry) if entry is not None and entry.isfile() else None
            return b"" if file is None else file.read()

    def _keep_as_image(self, old: Container, report: Report) -> None:
        tag = f"remotedl/{old.name.removeprefix('remotedl-')}:{old.id[:12]}"
        report.note(f"keeping the old container's files as the image {tag}")
        self._engine.containers.commit(old.id, tag, labels={SNAPSHOT_LABEL: tag})

    def _refresh(self, container: Container, changed: frozenset[str]) -> None:
        """A kept container whose services are other ones now: supervisord reads them again."""
        if changed & {"services.conf", "services.json"}:
            script = f"kill -HUP $(cat {RUN_FOLDER}/supervisord.pid)"
            self._engine.execs.run(container.id, ["sh", "-c", script])

    def _wait(self, container: Container, ground: Ground, report: Report) -> None:
        report.note("waiting for Jupyter to answer")

        def still_there() -> str:
            now = self._engine.containers.get(container.id)
            if now is not None and now.running and now.restart_count == container.restart_count:
                return ""
            said = self._engine.containers.logs(container.id, tail=20) if now else b""
            return (
                f"the container {container.name} does not stay up (exit status "
                f"{now.exit_code if now else '?'}): {said.decode('utf-8', 'replace').strip()}"
            )

        wait_until_answers(
            self._dial,
            f"{ground.folders.sockets}/{JUPYTER_PORT}",
            "/api",
            still_there=still_there,
            log=lambda: self.service_log("jupyter", 10),
            clock=self._clock,
            limit_s=LIMIT_S,
        )

    # ------------------------------------------------------------ the container as it is

    def _find(self, owner: str) -> Container | None:
        found = self._engine.containers.find({LABEL_PROJECT: self._project.id, LABEL_OWNER: owner})
        return found[0] if found else None

    def _look(self) -> Container | None:
        return self._find(self._remote.user)

    def _container(self) -> Container:
        container = self._look()
        if container is None or not container.running:
            stands = "is not there" if container is None else f"is {container.status}"
            raise ContainerError(
                f"{self._remote.name}: the container of this project {stands}", hint="remotedl up"
            )
        return container

    def _again(self, container: str) -> Container:
        found = self._engine.containers.get(container)
        if found is None:
            raise ContainerError(
                "the container was removed by somebody else meanwhile", hint="remotedl up"
            )
        return found

    def _end_jobs(self, container: Container) -> None:
        """With their exit codes written down; the engine's own stop would leave none."""
        argv = [self.python, f"{RUN_FOLDER}/job.py", "stop-all", RUN_FOLDER, str(JOB_GRACE_S)]
        self._engine.execs.run(container.id, argv)

    def _launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: str | None,
        pty: Pty | None,
    ) -> Process:
        world = dict(env or {})
        if pty is not None:
            world["TERM"] = pty.term
        stream = self._engine.execs.start(
            self._container().id,
            [self.python, f"{RUN_FOLDER}/launch.py", *argv],
            stdin=True,
            tty=None if pty is None else (pty.columns, pty.rows),
            env=world,
            workdir=cwd or "",
        )
        return ExecProcess(stream)


def _running(container: Container, change: Change, ground: Ground, token: str) -> Running:
    return Running(
        id=container.id,
        name=container.name,
        change=change,
        sockets=ground.folders.sockets,
        user=ground.user,
        folders=ground.folders,
        token=token,
    )


def _services(wanted: Wanted, spec: ContainerSpec) -> list[Service]:
    where = Where(workspace=WORKSPACE, run=RUN_FOLDER)
    return services(wanted.config, where, spec.image.tools, root=spec.inner.uid == 0)


def _worth_keeping(engine: Engine, container: Container) -> tuple[str, ...]:
    """What of the container's own filesystem a recreate would lose; files, not their folders."""
    changed = [change.path for change in engine.containers.changes(container.id)]
    # The engine lists a changed folder before what changed in it.
    files = [
        path
        for path, after in zip(changed, [*changed[1:], ""], strict=True)
        if not after.startswith(f"{path}/")
    ]
    volumes = [
        f"{mount.target} (a volume without a name)"
        for mount in container.mounts
        if mount.volume and ANONYMOUS.fullmatch(mount.source)
    ]
    return (*volumes, *(path for path in files if not _is_own(path)))[:LOST_LIMIT]


def _is_own(path: str) -> bool:
    if path.endswith(".pyc"):
        return True  # Python writes them anew wherever it may
    return any(path == own or path.startswith(f"{own}/") for own in OWN_PATHS)


def _gpus_of(container: Container) -> tuple[str, ...]:
    """What it was given when it was made: "auto:1" may pick another one by now."""
    listed = container.labels.get(LABEL_GPUS, "")
    return tuple(listed.split(",")) if listed else ()


def _state(container: Container) -> State:
    if not container.running:
        return State.STOPPED
    if container.health is Health.UNHEALTHY:
        return State.UNHEALTHY
    return State.STARTING if container.health is Health.STARTING else State.RUNNING


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
