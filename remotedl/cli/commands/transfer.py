"""get and put: big files, outside the sync."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remotedl.cli.commands.work import HostOption
from remotedl.cli.context import errand_of
from remotedl.errors import UsageError

if TYPE_CHECKING:
    from remotedl.session.transfer import Moved


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Files")(get)
    app.command(rich_help_panel="Files")(put)


def get(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(help="On the host: /data/…, /workspace/…, ~/…, or relative to /data."),
    ] = None,
    dest: Annotated[
        str | None, typer.Argument(help="On the laptop; with --url on the host.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Let the host download this into /data.")
    ] = None,
    unpack: Annotated[
        bool, typer.Option("--unpack", help="With --url: unpack the zip or tar there.")
    ] = False,
    host: HostOption = None,
) -> None:
    """Fetch a file or a folder; goes on where it broke off. With --url the host downloads."""
    from remotedl.session import transfer

    if (source is None) == (url is None):
        raise UsageError(
            "name either a SOURCE on the host or --url", hint="remotedl get /data/model.ckpt ."
        )
    if unpack and url is None:
        raise UsageError("--unpack goes with --url", hint="remotedl get --url URL --unpack")
    with errand_of(context, host) as errand:
        errand.report.stage("get", url or source or "")
        if url is not None:
            moved = transfer.fetch(errand, url, dest, unpack=unpack)
        else:
            moved = transfer.get(errand, source or "", Path(dest or "."))
        errand.report.stage("get", _told(moved))


def put(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A file or a folder of the laptop.")],
    dest: Annotated[
        str | None,
        typer.Argument(help="On the host: /data/…, /workspace/…, ~/…; default: into /data."),
    ] = None,
    host: HostOption = None,
) -> None:
    """Send a file or a folder to the host; goes on where it broke off."""
    from remotedl.session import transfer

    with errand_of(context, host) as errand:
        errand.report.stage("put", str(source))
        moved = transfer.put(errand, source, dest)
        errand.report.stage("put", _told(moved))


def _told(moved: "Moved") -> str:
    from remotedl.cli.render import amount

    had = f", {moved.had} there already" if moved.had else ""
    return f"{moved.files} files, {amount(moved.size, 'B')}{had}: {moved.path}"
