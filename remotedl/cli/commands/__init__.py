"""One module a group of commands; each has a `register(app)`.

No `from __future__ import annotations` in here: typer reads every command's annotations at the
start, and strings cost it a compilation each (a fifth of the time of `remotedl --help`).
"""

import typer


def register(app: typer.Typer) -> None:
    """Put every command into `app`, in the order of --help."""
    from remotedl.cli.commands import (
        demo,
        health,
        hosts,
        idleness,
        images,
        lifecycle,
        service,
        syncing,
        transfer,
        tunnels,
        work,
    )

    sessions = (lifecycle, idleness, demo, service)
    for module in (*sessions, work, syncing, transfer, hosts, health, images, tunnels):
        module.register(app)
