"""service: the session starts when the user logs in to the laptop."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remotedl.cli.context import HostArgument, find_target
from remotedl.cli.say import say

if TYPE_CHECKING:
    from remotedl.session.service import Service

app = typer.Typer(no_args_is_help=True, help="Start the session at login.")


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="service", rich_help_panel="A session")


@app.command()
def install(
    context: typer.Context,
    host: HostArgument = None,
    show: Annotated[bool, typer.Option("--show", help="Print it; install nothing.")] = False,
) -> None:
    """From now on `up -d` runs by itself at login, for this project and host."""
    from remotedl.session.service import install as install_service

    service = _service(context, host)
    if show:
        for line in service.text.splitlines():
            say(line)
        return
    install_service(service)
    say(f"installed {service.path}")


@app.command()
def uninstall(context: typer.Context, host: HostArgument = None) -> None:
    """No longer."""
    from remotedl.session.service import uninstall as uninstall_service

    service = _service(context, host)
    was_there = uninstall_service(service)
    say(f"removed {service.name}" if was_there else "there was none")


def _service(context: typer.Context, host: str | None) -> "Service":
    from remotedl.session.service import service_for

    target = find_target(context, host)
    user = "\\".join(os.environ.get(name, "") for name in ("USERDOMAIN", "USERNAME"))
    return service_for(target.project, target.host_name, Path.home(), sys.platform, user)
