"""demo: the README's first command."""

import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from remotedl.cli.say import say


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="A session")(demo)


def demo(
    context: typer.Context,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when everything was seen to work.")
    ] = False,
) -> None:
    """The whole way on an embedded host on loopback: needs nothing but Python.

    Stays in front until Ctrl-C; without a terminal, or with --once, it ends by itself.
    """
    from remotedl.cli.exits import end_in_order
    from remotedl.cli.live import stay
    from remotedl.cli.render import reporting
    from remotedl.session.demo import embedded
    from remotedl.session.tour import tour

    plain = context.find_root().obj.plain
    once = once or not sys.stdout.isatty()
    end_in_order()
    with ExitStack() as stack:
        with reporting(plain=plain) as report:
            demo = stack.enter_context(embedded(report))
            demo.session.bring_up()
            root = demo.errand.project.root
            report.note(f"project folder: {root}")
            if not once:
                report.note(f"in a second terminal: cd '{root}' && remotedl run -- python train.py")
            if once:
                for line in demo.session.addresses():
                    say(line)
                with demo.session.held():
                    tour(demo, report)
                report.stage("demo", "all of it works")
                return
        stay(
            demo.session,
            plain=plain,
            browse=not no_open,
            footer="Ctrl-C ends the demo and its host; its files stay",
            parting="the demo ends, and its host with it: remotedl demo comes back to its files",
        )
