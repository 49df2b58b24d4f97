"""What the global options said, and the project and host that a command means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from remotedl.config.models import HostConfig
    from remotedl.session.project import Project

HostArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[HOST]",
        help="A name of hosts.toml or ~/.ssh/config, or user@address. Default: the only host, "
        "or default_host.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
AcceptOption = Annotated[
    bool, typer.Option("--accept-new", help="Accept an unknown host key without asking.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options."""

    config: Path | None
    plain: bool
    debug: bool


@dataclass(frozen=True, slots=True)
class Target:
    """The project that we stand in and the host that is meant."""

    project: Project
    host_name: str
    host: HostConfig


def find_target(context: typer.Context, host: str | None) -> Target:
    """Raises ConfigError, FolderUnusable."""
    from remotedl.config.load import choose_host
    from remotedl.session.project import open_project

    project = open_project(Path.cwd(), context.find_root().obj.config)
    name, chosen = choose_host(project.config, host)
    return Target(project, name, chosen)
