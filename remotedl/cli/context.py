"""What the global options said, and the project and host that a command means."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remotedl.cli.next_step import name_host
from remotedl.cli.say import say

if TYPE_CHECKING:
    from remotedl.config.models import Config, HostConfig
    from remotedl.session.errands import Errand
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

    project: "Project"
    host_name: str
    host: "HostConfig"


def find_target(context: typer.Context, host: str | None) -> Target:
    """`host`: as given to the command; else as given to its group (`sync HOST status`).

    Raises ConfigError, FolderUnusable.
    """
    from remotedl.cli.prompt import TerminalPrompt
    from remotedl.config.load import choose_host
    from remotedl.report import SILENT
    from remotedl.session.project import open_project
    from remotedl.session.registry import live_host

    if host is None and context.parent is not None:
        host = context.parent.params.get("host")

    def check(config: "Config", fresh: bool) -> None:
        """A folder where no host can be meant is given no id."""
        if host is not None or (fresh and not config.hosts):
            choose_host(config, host)

    confirm = TerminalPrompt(SILENT).confirm
    project = open_project(Path.cwd(), context.find_root().obj.config, check, confirm)
    if project.copy_of is not None:
        say(
            f"this folder is a copy of {project.copy_of}: from now on it is a project of its own",
            err=True,
        )
    meant = host
    if host is None and project.config.default_host is None and len(project.config.hosts) != 1:
        meant = live_host(project.id)
    name, chosen = choose_host(project.config, meant)
    chosen = project.places.host_with_files(name, chosen)
    others = frozenset(project.config.hosts)
    name_host(name, chosen, typed=host is not None, others=others)
    return Target(project, name, chosen)


@contextmanager
def errand_of(
    context: typer.Context, host: str | None, *, accept_new: bool = False, quiet: bool = False
) -> "Iterator[Errand]":
    """A one-off command on the host that is meant, with progress for as long as it lasts."""
    from remotedl.cli.prompt import TerminalPrompt
    from remotedl.cli.render import reporting
    from remotedl.session.errands import Errand
    from remotedl.session.prompting import RememberingPrompt

    target = find_target(context, host)
    with reporting(plain=context.find_root().obj.plain, quiet=quiet) as report:
        prompt = RememberingPrompt(TerminalPrompt(report))
        yield Errand(
            target.project, target.host_name, target.host, prompt, report, accept_new=accept_new
        )
