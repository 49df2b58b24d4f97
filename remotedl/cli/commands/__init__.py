"""One module a group of commands; each has a `register(app)`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Put every command into `app`, in the order of --help."""
    from remotedl.cli.commands import (
        demo,
        health,
        hosts,
        images,
        lifecycle,
        service,
        syncing,
        transfer,
        tunnels,
        work,
    )

    sessions = (lifecycle, demo, service)
    for module in (*sessions, work, syncing, transfer, hosts, health, images, tunnels):
        module.register(app)
