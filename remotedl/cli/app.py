"""The commands of `remotedl` and their places in --help. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated

import typer

from remotedl import __version__
from remotedl.cli.context import Settings
from remotedl.cli.say import say

EPILOG = (
    "Exit codes: 0 done · 1 failure · 2 usage · 10-12 configuration · 20-28 connection · "
    "30-33 provisioning · 40-43 engine and images · 50-52 container and jobs · 60-65 sync · "
    "70-71 tunnels · 80 session · 130 Ctrl-C. "
    "`remotedl run` passes on the exit code of its command."
)

app = typer.Typer(
    name="remotedl",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _version(asked: bool) -> None:
    if asked:
        say(f"remotedl {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="Use this hosts.toml.", show_default=False)
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Plain lines, no live view; a job's output as text.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A running deep-learning container on a GPU host, from your laptop.

    Provisioned over SSH, in sync with this folder, Jupyter and TensorBoard on your own ports.
    """
    context.obj = Settings(config=config, plain=plain, debug=debug)


def _register() -> None:
    from remotedl.cli import commands

    commands.register(app)


_register()
