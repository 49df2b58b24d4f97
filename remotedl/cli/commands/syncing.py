"""sync and its tools: the sync alone, what is pending, conflicts, pausing."""

import json
import threading
import time
from typing import Annotated, Any

import typer

from remotedl.cli.commands.work import HostOption
from remotedl.cli.context import JsonOption, errand_of
from remotedl.errors import SyncError, UsageError

PathArgument = Annotated[str, typer.Argument(metavar="PATH", help="Relative to the project.")]
LARGEST = 10

app = typer.Typer(
    no_args_is_help=False,
    help="The sync alone, without container or tunnels; stays until Ctrl-C.",
)


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="sync", rich_help_panel="Files")


@app.callback(invoke_without_command=True)
def sync(
    context: typer.Context,
    host: HostOption = None,
    once: Annotated[bool, typer.Option("--once", help="One comparison, then end.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would go which way; change nothing.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Let a halt pass, once: its name is in the halt's message."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep this folder and the host's in step."""
    if context.invoked_subcommand is not None:
        return
    from remotedl.session.sync_errands import request, sync_live, sync_once

    with errand_of(context, host, quiet=as_json) as errand:
        if dry_run:
            _print_plan(request(errand, "sync-plan"), as_json=as_json)
        elif once:
            _print_barrier(sync_once(errand, allow or ()), as_json=as_json)
        else:
            errand.report.note("Ctrl-C ends the sync")
            sync_live(errand, threading.Event())


@app.command()
def status(context: typer.Context, host: HostOption = None, as_json: JsonOption = False) -> None:
    """Pending, last success, conflicts, frozen paths: of the running session."""
    from dataclasses import asdict

    from remotedl.cli.live import sync_line, sync_remedies
    from remotedl.session.errands import snapshot_of
    from remotedl.session.sync_errands import require_session

    with errand_of(context, host, quiet=True) as errand:
        require_session(errand, "ask")
        record = errand.session()
        line = snapshot_of(record).sync if record is not None else None
    if line is None:
        return
    if as_json:
        typer.echo(json.dumps(asdict(line), indent=2))
        return
    typer.echo(sync_line(line, time.time())[0])
    for text in sync_remedies(line):
        typer.echo(f"  {text}")
    for what, paths in (
        ("conflict", line.conflicts),
        ("frozen", line.frozen),
        ("left", line.left_out),
    ):
        for path in paths:
            typer.echo(f"  {what:<9} {path}")


@app.command()
def resolve(
    context: typer.Context,
    path: PathArgument,
    laptop: Annotated[bool, typer.Option("--laptop", help="The laptop's version wins.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="The host's version wins.")] = False,
    both: Annotated[bool, typer.Option("--both", help="Keep both, one under a new name.")] = False,
    host: HostOption = None,
) -> None:
    """Settle a conflict. The version that loses goes to the trash of its side."""
    from remotedl.session.sync_errands import request

    chosen = [name for name, on in (("laptop", laptop), ("remote", remote), ("both", both)) if on]
    if len(chosen) != 1:
        raise UsageError(
            "choose one of --laptop, --remote and --both",
            hint=f"remotedl sync resolve {path} --both",
        )
    with errand_of(context, host, quiet=True) as errand:
        request(errand, "sync-resolve", path=path, choice=chosen[0])
    typer.echo(f"{path}: {chosen[0]}")


@app.command()
def conflicts(
    context: typer.Context,
    host: HostOption = None,
    diffs: Annotated[bool, typer.Option("--diff", help="Show both versions.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Paths that both sides changed; both versions are kept until you resolve them."""
    from remotedl.session.sync_errands import conflicts_of

    with errand_of(context, host, quiet=True) as errand:
        rows, texts = conflicts_of(errand, diffs=diffs)
    if as_json:
        for row in rows:
            row["diff"] = texts.get(row["path"])
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['path']}: {row['kind']}")
        typer.echo(texts.get(row["path"], ""), nl=False)
    if rows:
        path = rows[0]["path"]
        typer.echo(f"next: remotedl sync resolve '{path}' --laptop | --remote | --both", err=True)
    else:
        typer.echo("no conflicts", err=True)


@app.command()
def history(
    context: typer.Context,
    host: HostOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Steps at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """What the sync changed on each side, newest first."""
    from remotedl.session.sync_errands import request

    with errand_of(context, host, quiet=True) as errand:
        steps = request(errand, "sync-history", limit=limit)
    if as_json:
        typer.echo(json.dumps(steps, indent=2))
        return
    for step in steps:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(step["at"]))
        typer.echo(f"{step['id']}  {when}  on the {step['side']}")
        for change in step["changes"][:LARGEST]:
            mark = "  (can be undone)" if change["can_undo"] else ""
            typer.echo(f"    {change['did']:<9} {change['path']}{mark}")
        if len(step["changes"]) > LARGEST:
            typer.echo(f"    … and {len(step['changes']) - LARGEST} more")


@app.command()
def undo(
    context: typer.Context,
    step: Annotated[
        str | None, typer.Argument(help="The beginning of a step's id; default: the last one.")
    ] = None,
    paths: Annotated[
        list[str] | None, typer.Option("--path", help="Only this path and what is below it.")
    ] = None,
    side: Annotated[
        str | None, typer.Option("--side", help="laptop or remote, where both have such a step.")
    ] = None,
    host: HostOption = None,
) -> None:
    """Bring back what a step displaced, out of the trash of its side."""
    from remotedl.session.sync_errands import request

    if side not in (None, "laptop", "remote"):
        raise UsageError(f"no side {side}", hint="remotedl sync undo --side laptop")
    with errand_of(context, host, quiet=True) as errand:
        done = request(errand, "sync-undo", step=step, where=side, paths=paths or [])
    for path in done["back"]:
        typer.echo(f"back      {path}")
    for path, why in done["left"]:
        typer.echo(f"left      {path} ({why})", err=True)


@app.command()
def pause(context: typer.Context, host: HostOption = None) -> None:
    """Change nothing on either side until `resume`."""
    _tell_session(context, host, "sync-pause", "pause")


@app.command()
def resume(context: typer.Context, host: HostOption = None) -> None:
    """Go on; what happened meanwhile is seen."""
    _tell_session(context, host, "sync-resume", "resume")


@app.command()
def flush(context: typer.Context, host: HostOption = None, as_json: JsonOption = False) -> None:
    """Return when everything written before is on both sides."""
    from remotedl.session.errands import FLUSH_S
    from remotedl.session.sync_errands import request

    with errand_of(context, host, quiet=True) as errand:
        _print_barrier(request(errand, "sync-flush", timeout_s=FLUSH_S), as_json=as_json)


def _tell_session(context: typer.Context, host: str | None, do: str, what: str) -> None:
    from remotedl.session.errands import ask_session
    from remotedl.session.sync_errands import require_session

    with errand_of(context, host, quiet=True) as errand:
        require_session(errand, what)
        ask_session(errand, do)


def _print_barrier(barrier: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(barrier, indent=2))
    elif barrier["clean"]:
        typer.echo("in step")
    else:
        for what in ("conflicts", "frozen", "failures"):
            for path in barrier[what]:
                typer.echo(f"{what:<9} {path}")
        mend = "conflicts" if barrier["conflicts"] else "status"
        typer.echo(f"not all is in step; next: remotedl sync {mend}", err=True)
    if not barrier["clean"]:
        raise typer.Exit(SyncError.exit_code)


def _print_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    from remotedl.cli.render import amount

    if as_json:
        typer.echo(json.dumps(plan, indent=2))
        return
    for side, name in (("to_remote", "to the host"), ("to_laptop", "to the laptop")):
        rows = plan[side]
        deletes = sum(row["does"] == "delete" for row in rows)
        size = sum(row["size"] for row in rows)
        typer.echo(
            f"{name}: {len(rows) - deletes} to write ({amount(size, 'B')}), {deletes} to delete"
        )
        for row in rows[:LARGEST]:
            typer.echo(f"  {row['does']:<7} {amount(row['size'], 'B'):>9}  {row['path']}")
        if len(rows) > LARGEST:
            typer.echo(f"  … and {len(rows) - LARGEST} more")
    for row in plan["conflicts"]:
        typer.echo(f"conflict: {row['path']} ({row['kind']})")
    for what in ("frozen", "left_out"):
        for text in plan[what]:
            typer.echo(f"{what.replace('_', ' ')}: {text}")
