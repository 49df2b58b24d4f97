"""One-off commands on a project's host: run, jobs, logs, stop, shell, open, down.

Each opens a connection of its own, so that it works with and without a live session; what only the
session knows (the sync, the laptop's ports) is asked of it through the control channel.
"""

from __future__ import annotations

import os
import posixpath
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from remotedl import ssh
from remotedl.config.models import HostConfig, RuntimeKind
from remotedl.container.autostop import Autostop
from remotedl.container.ground import Ground, survey
from remotedl.container.jobs import Job, Jobs, Position
from remotedl.container.runtime import State
from remotedl.container.spec import WORKSPACE, ProjectName
from remotedl.errors import (
    ContainerError,
    JobNotFound,
    LinkLost,
    RemotedlError,
    SessionError,
    SshError,
    StateCorrupt,
    SyncPaused,
)
from remotedl.provision.gpus import held_by_others, look_at_gpus
from remotedl.provision.probe import gather
from remotedl.report import SILENT, Report
from remotedl.session import seen
from remotedl.session.backoff import delays
from remotedl.session.control import ask
from remotedl.session.gpu_claims import Claim
from remotedl.session.job_gpus import NOTED, gpus_for_job
from remotedl.session.project import Project
from remotedl.session.prompting import RememberingPrompt
from remotedl.session.registry import Record, drop_record, read_record, running_sessions
from remotedl.session.status import Phase, Snapshot
from remotedl.session.sync_rows import AS_IT_IS, require_as_saved
from remotedl.session.syncing import SessionSync
from remotedl.session.watching import job_row
from remotedl.session.workplace import (
    Workplace,
    engine_access,
    open_workplace,
    remember_access,
    remembered_access,
)
from remotedl.ssh.remote import Remote

if TYPE_CHECKING:
    from remotedl.ssh.connection import Connection

BACK_WITHIN_S = 120.0
"""How long a followed job waits for a lost link before it says how to come back."""
FLUSH_S = 600.0
NOTIFY = "notify"
"""In a job's note: whoever started it wants to be told of its end."""
STATUS_S = 3.0
REVIVE_S = 400.0
"""A container that starts, and Jupyter on a slow disk."""
WAITS_SILENTLY_S = 3.0
LOOK_S = 1.0
RUN_FOLDER_THERE = 'test -d "$HOME/.remotedl/run/$1"'


@dataclass(frozen=True, slots=True)
class Errand:
    """What a one-off command needs to know."""

    project: Project
    host_name: str
    host: HostConfig
    prompt: RememberingPrompt
    report: Report = SILENT
    accept_new: bool = False

    @property
    def folder(self) -> Path:
        return self.project.state_folder(self.host_name)

    @property
    def name(self) -> ProjectName:
        return ProjectName(self.project.id, self.project.slug)

    @property
    def container(self) -> str:
        """The usual name of the project's container, for hints; "" where there is none."""
        return self.name.container_name if self.host.runtime is RuntimeKind.DOCKER else ""

    def session(self) -> Record | None:
        """The live session of this project and host, if there is one."""
        return read_record(self.folder)

    def connect(self) -> Connection:
        self.prompt.begin()
        with self._saying_that_it_waits():
            return ssh.connect(
                self.host,
                prompt=self.prompt,
                accept_new=self.accept_new,
                report=self.report,
            )

    @contextmanager
    def _saying_that_it_waits(self) -> Iterator[None]:
        """Nobody sits before a silent terminal until a login has timed out."""

        def say() -> None:
            if not self.prompt.asked:
                self.report.warn(f"{self.host_name} has not answered yet: waiting")

        timer = threading.Timer(WAITS_SILENTLY_S, say)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@contextmanager
def connected(errand: Errand) -> Iterator[Workplace]:
    """A connected workplace for as long as the block runs. Makes nothing on the host."""
    remote = errand.connect()
    place: Workplace | None = None
    try:
        access = remembered_access(errand.folder)
        if access is None and errand.host.runtime is RuntimeKind.DOCKER:
            access = engine_access(gather(remote))
            remember_access(errand.folder, access)
        place = open_workplace(remote, errand.project, errand.host, access)
        yield place
    finally:
        if place is not None:
            place.close()
        remote.close()


@contextmanager
def workplace(errand: Errand) -> Iterator[tuple[Workplace, Ground]]:
    """As `connected`, with the project's ground; raises ContainerError where it was never up."""
    with connected(errand) as place:
        _require_up_before(errand, place.remote)
        yield place, survey(place.remote, errand.name, errand.host)


def _require_up_before(errand: Errand, remote: Remote) -> None:
    """Looking must leave nothing behind: without an `up` there is nothing to look at."""
    there = remote.run(["sh", "-c", RUN_FOLDER_THERE, "sh", errand.project.id], check=False)
    if not there.ok:
        raise ContainerError(
            f"{errand.project.root.name} was never up on {errand.host_name}",
            hint=f"remotedl up {errand.host_name}",
        )


def ask_session(errand: Errand, do: str, *, timeout_s: float = 30, **fields: Any) -> Any:
    """Ask the live session of this project and host. Raises SessionError where there is none."""
    record = errand.session()
    if record is None:
        raise SessionError(
            f"no session of {errand.project.root.name} with {errand.host_name} runs",
            hint=f"remotedl up {errand.host_name}",
        )
    return ask_record(record, do, timeout_s=timeout_s, **fields)


def ask_record(record: Record, do: str, *, timeout_s: float = 30, **fields: Any) -> Any:
    """Raises SessionError naming the process where it does not answer."""
    try:
        return ask(record.address, bytes.fromhex(record.key), do, timeout_s=timeout_s, **fields)
    except SessionError as exc:
        name = f"{Path(record.root).name} with {record.host}"
        raise SessionError(
            f"the session of {name} (process {record.pid}): {exc.message}",
            hint=wake_hint(record.pid),
        ) from exc


def revive(record: Record) -> str:
    """Have a live session bring back its container, where that is down; what was done.

    Raises what kept it from running.
    """
    return str(ask_record(record, "revive", timeout_s=REVIVE_S))


def wake_hint(pid: int) -> str:
    """What to type about a session process that does not answer."""
    if os.name == "nt":
        return f"taskkill /F /PID {pid}, then remotedl up"
    return f"kill -CONT {pid} if it was stopped; or kill -9 {pid}, then remotedl up"


def snapshot_of(record: Record) -> Snapshot:
    """Raises SessionError where it does not answer, or answers what this version cannot read."""
    row = ask_record(record, "status", timeout_s=STATUS_S)
    try:
        return Snapshot.from_json(row)
    except (TypeError, KeyError, ValueError) as exc:
        raise SessionError(
            f"the session of {Path(record.root).name} with {record.host} (process {record.pid}) "
            "was started by another version of remotedl",
            hint=f"kill {record.pid}, then remotedl up",
        ) from exc


def every_snapshot(damaged: list[StateCorrupt] | None = None) -> list[Snapshot]:
    """Of each session on this laptop, asked side by side: one that hangs delays no other.

    `damaged` gets what is wrong with records that cannot be read; without it: raises.
    """

    def look(folder: Path, record: Record) -> Snapshot | None:
        try:
            return snapshot_of(record)
        except SessionError as exc:
            ended = read_record(folder) is None
            return None if ended else seen_from_outside(record, exc)

    found = list(running_sessions(damaged=damaged))
    with ThreadPoolExecutor(max(len(found), 1)) as pool:
        told = list(pool.map(lambda one: look(*one), found))
    return [snapshot for snapshot in told if snapshot is not None]


def seen_from_outside(record: Record, trouble: SessionError) -> Snapshot:
    """What can be told of a session whose process does not answer."""
    return Snapshot(
        host=record.host,
        address="",
        project=Path(record.root).name,
        root=record.root,
        workdir="",
        pid=record.pid,
        phase=Phase.SILENT,
        detail="its process gives no answer that can be used",
        since=record.started,
        runtime="",
        image=None,
        container=None,
        gpus="",
        warnings=((trouble.message, trouble.hint),),
    )


# ---------------------------------------------------------------- jobs


@dataclass(frozen=True, slots=True)
class JobWish:
    """How a job is to be started."""

    after_sync: bool = True
    gpus: str | int | tuple[int, ...] | None = None
    """None: whatever its container has."""
    notify: bool = False
    """Its end is told on the laptop's desktop."""


def start_job(errand: Errand, argv: Sequence[str], *, wish: JobWish, cwd: Path) -> str:
    """Bring the files up to date, start `argv` where the work runs; the job's id."""
    note = _in_step_for_job(errand) if wish.after_sync else {}
    if wish.notify:
        note[NOTIFY] = True
    with workplace(errand) as (place, ground):
        require_running(errand, place)
        jobs = place.jobs(ground.folders.run)
        env: Mapping[str, str] = {}
        if wish.gpus is not None:
            seen_now, has = look_at_gpus(place.remote), place.runtime.status().gpus
            held, running = held_by_others(seen_now, errand.project.id), jobs.all()
            given = gpus_for_job(wish.gpus, has, seen_now.gpus, running, held)
            env, note[NOTED] = given.environment, list(given.indexes)
            if place.engine is None:
                holds = (*has, *given.indexes)
                noted = Claim(errand.project.id, holds, name=errand.project.label)
                noted.renew(place.remote, running)
        limit = errand.project.config.project.job_output_limit
        folder = inside_folder(errand, ground, cwd)
        return jobs.start(argv, cwd=folder, env=env, note=note, output_limit=limit)


def follow_job(
    errand: Errand,
    job_id: str,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    *,
    tail: int | None = None,
    wait: bool = True,
    stop: threading.Event | None = None,
) -> Job:
    """Its output until it ends, over as many links as that takes. Raises LinkLost at last."""
    position = Position()
    stop = stop or threading.Event()
    while True:
        try:
            with workplace(errand) as (place, ground):
                jobs = place.jobs(ground.folders.run)
                return jobs.follow(
                    job_id, on_stdout, on_stderr, position=position, tail=tail, wait=wait,
                    on_gap=lambda size: errand.report.warn(_gap_line(size)),
                )  # fmt: skip
        except LinkLost:
            errand.report.warn("the link is lost; the job goes on, coming back…")
            tail = None if position.offset else tail
            _await_link(errand, job_id, stop)


def _gap_line(size: int) -> str:
    return (
        f"{size / 1e6:,.0f} MB of the output are left out here: "
        "job_output_limit keeps the first and the last of it"
    )


def _await_link(errand: Errand, job_id: str, stop: threading.Event) -> None:
    waited = 0.0
    for delay in delays(lambda: 0.5):
        if waited > BACK_WITHIN_S or stop.wait(delay):
            break
        waited += delay + 1
        try:
            errand.connect().close()
        except (LinkLost, SshError):
            continue
        return
    raise LinkLost(
        f"the link to {errand.host_name} does not come back; job {job_id} goes on there",
        hint=f"remotedl logs -f {job_id}",
    )


@contextmanager
def open_jobs(errand: Errand) -> Iterator[Jobs]:
    with workplace(errand) as (place, ground):
        yield place.jobs(ground.folders.run)


@dataclass(frozen=True, slots=True)
class KnownJobs:
    """The jobs as far as can be told."""

    rows: list[dict[str, Any]]
    age_s: float | None = None
    """How old that is at least, where the host cannot be asked now; None: it was."""
    why: str = ""


def list_jobs(errand: Errand) -> KnownJobs:
    """Asked of the host; while its link is lost, what the live session saw last.

    Raises LinkLost, SshError where there is no session that knows.
    """
    if not _has_session(errand):
        return _asked_jobs(errand)
    answer: Future[KnownJobs] = Future()

    def ask() -> None:
        try:
            answer.set_result(_asked_jobs(errand))
        except BaseException as exc:  # noqa: BLE001 - raised below, where it is waited for
            answer.set_exception(exc)

    # A login to a host that is gone fails late; the session knows within seconds.
    lost = _reconnecting(errand)
    if lost is None:
        threading.Thread(target=ask, name="jobs", daemon=True).start()
    while lost is None:
        try:
            return answer.result(LOOK_S)
        except TimeoutError:
            lost = _reconnecting(errand)
        except (LinkLost, SshError):
            lost = _reconnecting(errand)
            if lost is None:
                raise
    return KnownJobs(list(lost.jobs), time.time() - lost.since, lost.detail)


def _asked_jobs(errand: Errand) -> KnownJobs:
    with open_jobs(errand) as found:
        return KnownJobs([job_row(job) for job in found.all()])


def _has_session(errand: Errand) -> bool:
    """Jobs can be asked for without one, and so also where its record cannot be read."""
    try:
        record = errand.session()
    except StateCorrupt:
        return False
    return record is not None and not record.alone


def _reconnecting(errand: Errand) -> Snapshot | None:
    """The live session, where it has no link."""
    try:
        record = errand.session()
        session = snapshot_of(record) if record is not None else None
    except (SessionError, StateCorrupt):
        return None
    return session if session is not None and session.phase is Phase.RECONNECTING else None


def newest_job(errand: Errand) -> str:
    """The id of the job that was started last. Raises JobNotFound."""
    with open_jobs(errand) as found:
        jobs = found.all()
    if not jobs:
        raise JobNotFound("there are no jobs yet", hint="remotedl run -- python train.py")
    return jobs[-1].id


def files_seen(errand: Errand, job_id: str) -> str:
    """The manifest of what a job's folder held when it started. Raises JobNotFound."""
    with open_jobs(errand) as found:
        noted = found.get(job_id).note.get("sync") or {}
    return seen.recall(errand.folder, noted.get("seen"), job_id).decode("ascii")


def bring_in_step(errand: Errand, *, noted: bool = False) -> dict[str, Any]:
    """Both sides equal now, by the live session or by one cycle of our own.

    `noted`: which versions the host has then is kept on the laptop.
    """
    if errand.session() is not None:
        found = ask_session(errand, "sync-flush", timeout_s=FLUSH_S, noted=noted)
        return {"sync": found}
    remote = errand.connect()
    sync = SessionSync(
        errand.project,
        errand.folder,
        errand.report,
        errand.report.note,
        errand.prompt.confirm,
        errand.container,
    )
    try:
        workdir = survey(remote, errand.name, errand.host).folders.workdir
        sync.connect(remote, workdir)
        return {"sync": sync.flush(FLUSH_S, noted=noted)}
    finally:
        sync.close()
        remote.close()


def _in_step_for_job(errand: Errand) -> dict[str, Any]:
    try:
        note = bring_in_step(errand, noted=True)
        note["sync"].pop("troubles", None)  # for people; a job's note stays small
        require_as_saved(note["sync"].pop("behind", ()), errand.host_name)
        return note
    except RemotedlError as exc:
        if exc.exit_code != SyncPaused.exit_code:
            raise
        raise SyncPaused(exc.message, hint=f"{exc.hint}; {AS_IT_IS}") from exc


def inside_folder(errand: Errand, ground: Ground, cwd: Path) -> str:
    """Where the laptop's `cwd` is, as a command of the runtime sees it."""
    native = errand.host.runtime is RuntimeKind.NATIVE
    base = ground.folders.workdir if native else WORKSPACE
    try:
        relative = cwd.resolve().relative_to(errand.project.root)
    except ValueError:
        return base
    return posixpath.normpath(posixpath.join(base, PurePosixPath(relative)))


def require_running(errand: Errand, place: Workplace) -> None:
    """Raises ContainerError with the way on where nothing runs."""
    status = place.runtime.status()
    if status.state in (State.ABSENT, State.STOPPED):
        stands = f"{status.state.value}{f' ({status.detail})' if status.detail else ''}"
        raise ContainerError(
            f"{errand.project.root.name} does not run on {errand.host_name}: {stands}",
            hint=f"remotedl up {errand.host_name}",
        )


@contextmanager
def open_autostop(errand: Errand) -> Iterator[Autostop]:
    """The watch for idleness. Raises ContainerError where it is not on."""
    with workplace(errand) as (place, ground):
        if not ground.watched:
            raise ContainerError(
                f"autostop is not on for {errand.project.root.name} on {errand.host_name}",
                hint='autostop = "2h" under [project] in hosts.toml, then: remotedl up',
            )
        yield Autostop(place.remote, ground.folders.run)


# ---------------------------------------------------------------- down, open


def end_session(errand: Errand) -> bool:
    """Tell the live session to end, and wait until it has; False where there was none.

    What one that died left behind is forgotten: nobody need be told of it any more.
    """
    record = errand.session()
    if record is None:
        drop_record(errand.folder)
        return False
    ask_record(record, "stop")
    deadline = threading.Event()
    for _ in range(300):
        if errand.session() is None:
            return True
        deadline.wait(0.1)
    raise SessionError(
        f"the session (process {record.pid}) does not end within 30 s", hint=f"kill {record.pid}"
    )


def only_sync(record: Record) -> SessionError:
    """What is asked for needs a whole session, and its place is taken."""
    return SessionError(
        f"only the sync of {Path(record.root).name} with {record.host} runs (process "
        f"{record.pid}), without container and tunnels",
        hint=f"end it with Ctrl-C where it runs, or kill {record.pid}; then remotedl up",
    )


def page_url(errand: Errand, page: str) -> str:
    """The address of `jupyter`, `tensorboard` or a port of `ports` on this laptop."""
    record = errand.session()
    if record is not None and record.alone:
        raise only_sync(record)
    snapshot = Snapshot.from_json(ask_session(errand, "status", timeout_s=STATUS_S))
    for tunnel in snapshot.tunnels:
        if tunnel.page == page and tunnel.url is not None:
            return tunnel.url
    if page.isdigit():
        raise SessionError(
            f"port {page} is not among the ports of this session, or is no HTTP",
            hint=f'ports = ["{page}"] under [project] in hosts.toml, then: remotedl up',
        )
    raise SessionError(f"{page} is switched off for this project", hint="edit hosts.toml")
