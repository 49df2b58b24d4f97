"""tunnel: further ports by hand."""

import threading
from typing import Annotated

import typer

from remotedl.cli.context import HostArgument, errand_of
from remotedl.cli.say import say


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="A host")(tunnel)


def tunnel(
    context: typer.Context,
    host: HostArgument = None,
    local: Annotated[
        list[str] | None,
        typer.Option("-L", metavar="[BIND:]PORT:[HOST:]PORT", help="A laptop port to the host."),
    ] = None,
    reverse: Annotated[
        list[str] | None,
        typer.Option("-R", metavar="[BIND:]PORT:[HOST:]PORT", help="A host port to the laptop."),
    ] = None,
    dynamic: Annotated[
        list[str] | None,
        typer.Option("-D", metavar="[BIND:]PORT", help="A SOCKS proxy that comes out on the host."),
    ] = None,
) -> None:
    """Further tunnels, until Ctrl-C. A lone PORT is the same on both sides; also unix sockets."""
    from remotedl.cli.exits import end_in_order
    from remotedl.session.forwards import Forwards, hold, parse_asked

    asked = parse_asked(local or (), reverse or (), dynamic or ())
    end_in_order()
    with errand_of(context, host, quiet=True) as errand:
        forwards = Forwards(asked, errand)
        try:
            remote = errand.connect()
            forwards.begin(remote)
            for line in forwards.lines():
                say(line)
            hold(errand, forwards, remote, threading.Event())
        finally:
            forwards.close()
