"""autostop: whether the container will be stopped for idleness; later, or not at all."""

from typing import Annotated

import typer

from remotedl.cli.context import HostArgument, JsonOption, errand_of
from remotedl.cli.say import say, say_json
from remotedl.errors import ConfigError, UsageError


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="A session")(autostop)


def autostop(
    context: typer.Context,
    host: HostArgument = None,
    postpone: Annotated[
        str | None,
        typer.Option(
            "--postpone", metavar="2h", help="Not before that, from now.", show_default=False
        ),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Not until the next up.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Whether and when the container will be stopped for idleness (project.autostop)."""
    from remotedl.cli.live import autostop_line
    from remotedl.container.autostop import parse_duration
    from remotedl.session.errands import open_autostop
    from remotedl.session.watching import idleness_row

    if postpone is not None and cancel:
        raise UsageError("--postpone and --cancel do not go together", hint="remotedl autostop -h")
    try:
        wait_s = None if postpone is None else parse_duration(postpone, "--postpone")
    except ConfigError as exc:
        raise UsageError(exc.message, hint=exc.hint) from None
    with errand_of(context, host, quiet=True) as errand, open_autostop(errand) as watch:
        if wait_s is not None:
            watch.postpone(wait_s)
        elif cancel:
            watch.cancel()
        row = idleness_row(watch.status())
    if as_json:
        say_json(row)
    elif wait_s is not None:
        say(f"not stopped for idleness within the next {postpone}")
    else:
        say("cancelled until the next up" if cancel else autostop_line(row))
