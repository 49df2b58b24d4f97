"""`Runtime`: the place where the work runs, whether a container or a native venv. Types only.

`docker.py` and `native.py` fulfil it, and tests/lab_tests/container/test_runtimes.py puts the same
questions to both. A Runtime is bound to one project on one host; it opens no connections of its own
and asks nobody anything: what needs a decision is given to `Consent`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from remotedl.config.models import HostConfig, ProjectConfig
from remotedl.container.gpus import NO_GPUS, GpuRequest
from remotedl.container.spec import Folders, Image, User
from remotedl.errors import JobsRunning
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Process, Pty, Result


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `ensure` is asked for."""

    host: HostConfig
    config: ProjectConfig
    image: Image | None = None
    """Docker only: an image that is on the host."""
    gpus: GpuRequest = NO_GPUS
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment that must not be seen in settings: env_file, a proxy with its password."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Docker only: what a container says of itself beside its spec; no change of it recreates."""
    packages: tuple[str, ...] = ()
    """Native only: the project's own requirements, as pip takes them. An image has a layer."""


class Change(StrEnum):
    """What `ensure` does to get what is wanted."""

    KEEP = "keep"
    """It runs and is the one that is wanted."""
    START = "start"
    """It is the one that is wanted, and is stopped."""
    CREATE = "create"
    """There is none."""
    RECREATE = "recreate"
    """There is one that is not wanted any more: its own filesystem and its processes go."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `ensure` would do and what that would cost."""

    change: Change
    why: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    """Ids of running jobs that would end."""
    lost: tuple[str, ...] = ()
    """Paths of the container's own filesystem that would be gone."""


class Answer(StrEnum):
    """What to do about a Plan that costs something."""

    GO = "go"
    COMMIT = "commit"
    """Keep the old container's filesystem as an image first."""


Consent = Callable[[Plan], Answer]
"""Asked before a recreate. Says no by raising an error of its own."""


def unless_jobs_run(plan: Plan) -> Answer:
    """The Consent of scripts: yes, but never at the cost of a running job."""
    if plan.jobs:
        listed = ", ".join(plan.jobs)
        raise JobsRunning(
            f"the container must be made anew ({'; '.join(plan.why)}) and job {listed} runs in it",
            hint=f"remotedl stop {plan.jobs[0]}, or wait for it to end",
        )
    return Answer.GO


@dataclass(frozen=True, slots=True)
class Running:
    """The place where the work runs, ready to be used."""

    id: str
    """The container's id, or one that native services get at their start; kept while they are."""
    name: str
    change: Change
    sockets: str
    """The host's folder of the sockets: what the container knows as port 8888 is "8888" there."""
    user: User
    folders: Folders
    token: str = field(repr=False)


class State(StrEnum):
    """How it stands."""

    ABSENT = "absent"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Status:
    """A look at it; nothing is changed by looking."""

    state: State
    id: str = ""
    name: str = ""
    image: str = ""
    since: str = ""
    detail: str = ""
    gpus: tuple[str, ...] = ()
    """Of the host, by index, that programs in there see; or ("all",)."""


class Runtime(Protocol):
    """One project's place on one host. Every call may raise LinkLost."""

    @property
    def inside(self) -> str:
        """The run folder as programs of the runtime see it."""
        ...

    @property
    def python(self) -> str:
        """The Python that runs remotedl's own programs in there."""
        ...

    def plan(self, wanted: Wanted) -> Plan:
        """What `ensure` would do. Changes nothing but the run folder."""
        ...

    def ensure(
        self, wanted: Wanted, *, report: Report = SILENT, consent: Consent = unless_jobs_run
    ) -> Running:
        """Bring it about, and wait until Jupyter answers. Twice is as good as once."""
        ...

    def resume(self, host: HostConfig, *, report: Report = SILENT) -> Running:
        """What `ensure` once made, as it is: started if need be, and answering.

        For a session that comes back: nothing is compared, built or asked. Raises ContainerError
        where there is none.
        """
        ...

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Result:
        """Run a short command in it, to the end."""
        ...

    def own_files(self) -> tuple[str, ...]:
        """What is lost when it is removed: files that are in no folder of the host."""
        ...

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> Process:
        """Start a command in it, with the project's environment, and talk to it."""
        ...

    def shell(self, pty: Pty | None) -> Process:
        """A terminal in the project's folder."""
        ...

    def status(self) -> Status: ...

    def service_log(self, name: str, lines: int) -> str:
        """The end of the log of `jupyter` or `tensorboard`."""
        ...

    def stop(self) -> None:
        """End it; files, logs and the container's filesystem stay. Jobs in it end."""
        ...

    def remove(self) -> None:
        """Stop it and remove what was made for it; the project's files and the run folder stay."""
        ...
