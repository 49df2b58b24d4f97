"""What a plan is made of: wishes, actions, steps. Values only; nothing here decides or does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from remotedl.config.models import HostConfig, RuntimeKind, SudoMode


@dataclass(frozen=True, slots=True)
class Wish:
    """What the host is wanted for.

    `join_group` puts the login user into the docker group. It is off unless asked for, because
    that group is as good as root: whoever is in it can start a container that mounts `/`. The
    engine is used through sudo instead.
    """

    runtime: RuntimeKind = RuntimeKind.DOCKER
    gpus: bool = True
    sudo: SudoMode = SudoMode.AUTO
    docker_mirror: str = ""
    nvidia_mirror: str = ""
    pip_mirror: str = ""
    proxy: str = ""
    """May hold a password: it goes to the host over stdin only."""
    lasting_proxy: bool = True
    """Docker is to use the proxy from now on, and not only for this run."""
    join_group: bool = False
    driver: bool = True
    """NVIDIA's driver may be installed where a GPU has none."""


def wish_of(host: HostConfig) -> Wish:
    """What a `[hosts.NAME]` table asks of provisioning."""
    return Wish(
        runtime=host.runtime,
        gpus=host.gpus != "none",
        sudo=host.sudo,
        docker_mirror=host.mirrors.docker or "",
        nvidia_mirror=host.mirrors.nvidia or "",
        pip_mirror=host.mirrors.pip or "",
        proxy=host.proxy or "",
    )


class Stage(StrEnum):
    """The order of the work. Facts are gathered again after each."""

    PREPARE = "prepare"
    """The package manager itself, and the few tools that adding a repository takes."""
    DRIVER = "driver"
    """NVIDIA's kernel driver."""
    ENGINE = "engine"
    """Docker: installed, started."""
    TOOLKIT = "toolkit"
    """NVIDIA Container Toolkit."""
    SETTINGS = "settings"
    """daemon.json, proxies, CDI specifications, groups."""
    RESTART = "restart"
    """The engine reads its settings again."""
    REBOOT = "reboot"
    """The host starts again."""


@dataclass(frozen=True, slots=True)
class Run:
    """A command on the host, word for word."""

    argv: tuple[str, ...]
    root: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    """Can be seen in the host's process list: no secrets."""
    may_fail: bool = False
    """A failure is told, and the work goes on."""


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A file that root owns, written to a temporary name and renamed; what was there is kept."""

    path: str
    content: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class TrustKey:
    """The key of a package repository: fetched by the host, and written down if it is `owner`'s."""

    url: str
    path: str
    owner: str
    fingerprint: str
    mirror: bool = False
    """hosts.toml names the repository: another key than the owner's is told, and taken."""


Action = Run | WriteFile | TrustKey


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `leaves` are paths that come to be besides what `actions` write."""

    name: str
    stage: Stage
    what: str
    why: str
    actions: tuple[Action, ...]
    confirm: str = ""
    """A question that must be answered with yes first; empty: none."""
    leaves: tuple[str, ...] = ()
    optional: bool = False
    """Where it cannot be done, the work goes on, and `without` is true."""
    without: str = "the GPU cannot be used"
    finding: str = ""
    """As of a Notice."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the user should know. `hint` is the next thing to type, or empty."""

    text: str
    hint: str = ""
    finding: str = ""
    """The doctor's finding that says the same; empty: none does."""
    grave: bool = False
    """Something that was asked for does not work: such a host is not ready."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Nothing to do for a stage, because…"""

    stage: Stage
    why: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing may be changed on this host."""

    reason: str
    hint: str = ""
    finding: str = ""
    """As of a Notice."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in order; empty when the host is ready.

    Later stages are foreseen from the facts as they are: they are planned again, from new
    facts, when their turn comes.
    """

    steps: tuple[Step, ...] = ()
    notices: tuple[Notice, ...] = ()
    kept: tuple[Kept, ...] = ()
    refusal: Refusal | None = None

    @property
    def stage(self) -> Stage | None:
        """The stage whose turn it is."""
        return self.steps[0].stage if self.steps else None
