"""sync and its tools: the sync alone, what is pending, conflicts, pausing."""

import difflib
import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from remotedl.cli.commands.work import HostOption
from remotedl.cli.context import AcceptOption, JsonOption, errand_of
from remotedl.cli.next_step import completed
from remotedl.cli.say import say, say_json
from remotedl.errors import SyncError, UsageError

if TYPE_CHECKING:
    from remotedl.report import Report
    from remotedl.session.status import Snapshot

SIDES = {"laptop": "laptop", "remote": "host"}
TROUBLES = 30
LISTED = 10
"""Rows of one kind on a terminal; `--json` has all."""


class HostFirst(TyperGroup):
    """`sync HOST` and `sync HOST status`, as the other commands have it, mean `--host HOST`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = self.make_parser(ctx).parse_args(list(args))[1]
        if rest and not difflib.get_close_matches(rest[0], self.commands):
            at = len(args) - len(rest)
            args = ["--host", rest[0], *args[:at], *args[at + 1 :]]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=HostFirst,
    subcommand_metavar="[HOST] [COMMAND] [ARGS]...",
    no_args_is_help=False,
    help="The sync alone, without container or tunnels; stays until Ctrl-C.",
)


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="sync", rich_help_panel="Files")


@app.callback(invoke_without_command=True)
def sync(
    context: typer.Context,
    host: HostOption = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Say what will move, bring both sides in step, then end."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would go which way, for how long, what weighs most; change nothing.",
        ),
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HALT", help="With --once: let this halt pass; the halt's message names it."
        ),
    ] = None,
    accept_new: AcceptOption = False,
    as_json: JsonOption = False,
) -> None:
    """Keep this folder and the host's in step."""
    if context.invoked_subcommand is not None:
        return
    if allow and not once:
        raise UsageError("--allow goes with --once", hint="remotedl sync --once --allow HALT")
    from remotedl.cli.exits import end_in_order
    from remotedl.session.sync_errands import request, sync_live, sync_once

    with errand_of(context, host, accept_new=accept_new, quiet=as_json) as errand:
        if dry_run:
            _print_plan(request(errand, "sync-plan"), as_json=as_json)
        elif once:
            plans: list[dict[str, Any]] = []
            announce = plans.append if as_json else _announce
            barrier = sync_once(errand, allow or (), announce)
            for plan in plans:
                barrier["plan"] = plan
            _print_barrier(barrier, as_json=as_json)
        else:
            end_in_order()
            errand.report.note("Ctrl-C ends the sync")
            sync_live(errand, threading.Event(), _teller(errand.report))


@app.command()
def status(context: typer.Context, host: HostOption = None, as_json: JsonOption = False) -> None:
    """Pending, last success, conflicts, frozen paths: of the running session."""
    from dataclasses import asdict

    from remotedl.cli.live import sync_line, sync_remedies
    from remotedl.session.errands import snapshot_of
    from remotedl.session.status import Phase
    from remotedl.session.sync_errands import require_session
    from remotedl.sync.remedies import shown

    with errand_of(context, host, quiet=True) as errand:
        require_session(errand, "ask")
        record = errand.session()
        now = snapshot_of(record) if record is not None else None
    line = now.sync if now is not None else None
    if now is None or line is None:
        return
    if as_json:
        say_json(asdict(line))
        return
    say(sync_line(line, time.time(), linked=now.phase is not Phase.RECONNECTING)[0])
    if now.phase is Phase.RECONNECTING:
        say(f"  reconnecting: {now.detail}")
    for text in sync_remedies(line):
        say(f"  {text}")
    for what, paths in (
        ("conflict", line.conflicts),
        ("refused", line.failures),
        ("frozen", line.frozen),
        ("left", line.left_out),
    ):
        for path in paths:
            say(f"  {what:<9} {shown(path)}")


@app.command()
def resolve(
    context: typer.Context,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATH]",
            help="From where you stand, or as `conflicts` names it; with --all a pattern as in "
            ".gitignore.",
        ),
    ] = None,
    laptop: Annotated[bool, typer.Option("--laptop", help="The laptop's version wins.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="The host's version wins.")] = False,
    both: Annotated[bool, typer.Option("--both", help="Keep both, one under a new name.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="All conflicts, or all that PATH is a pattern of.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take what is held back without being asked.")
    ] = False,
    host: HostOption = None,
    as_json: JsonOption = False,
) -> None:
    """Settle a conflict. The version that loses goes to the trash of its side.

    What would tell a program of this laptop what to do (.envrc, .vscode, hosts.toml, …) is shown
    first, and taken from the host if you say so.
    """
    from remotedl.session.errands import FLUSH_S
    from remotedl.session.sync_errands import request
    from remotedl.session.sync_errands import resolve as resolve_one
    from remotedl.sync.remedies import shown, typed

    chosen = [name for name, on in (("laptop", laptop), ("remote", remote), ("both", both)) if on]
    if len(chosen) != 1:
        raise UsageError(
            "choose one of --laptop, --remote and --both",
            hint=f"remotedl sync resolve {typed(path or '--all')} --both",
        )
    if path is None and not every:
        raise UsageError("name a PATH, or --all", hint="remotedl sync conflicts")
    with errand_of(context, host, quiet=True) as errand:
        if every:
            fields = {"all": True, "pattern": path, "choice": chosen[0]}
            barrier = request(errand, "sync-resolve", timeout_s=FLUSH_S, **fields)
        else:
            agree = _asker(errand.prompt.confirm, chosen[0], yes=yes)
            barrier = resolve_one(errand, path or "", chosen[0], agree)
    if as_json:
        say_json({"choice": chosen[0], **barrier})
        return
    for settled in barrier.get("resolved", [barrier.get("path")]):
        say(f"{shown(settled)}: {chosen[0]}")
    for key, why, mend in barrier.get("left", ()):
        say(f"{shown(key)}: left: {why}", err=True)
        say(completed(f"next: {mend}"), err=True)
    if barrier.get("left"):
        raise typer.Exit(SyncError.exit_code)


def _asker(
    confirm: "Callable[[str], bool]", choice: str, *, yes: bool
) -> "Callable[[str, dict[str, Any]], None]":
    """Shows what is held back and asks; where nobody can answer, `--yes` has to be said."""
    from remotedl.sync.remedies import shown, typed

    def agree(path: str, diff: dict[str, Any]) -> None:
        for line in diff["lines"]:
            say(line, err=True)
        what = f"{shown(path)} tells a program of this laptop what to do"
        if not (yes or confirm(f"{what}. Take the host's version?")):
            again = f"remotedl sync resolve {typed(path)} --{choice} --yes"
            raise UsageError(f"{what}, and was not taken", hint=f"if you want it: {again}")

    return agree


@app.command()
def conflicts(
    context: typer.Context,
    host: HostOption = None,
    diffs: Annotated[
        bool, typer.Option("--diff", help="Show what differs: lines, or cells of a notebook.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Paths that both sides changed; both versions are kept until you resolve them."""
    from remotedl.session.sync_errands import conflicts_of

    with errand_of(context, host, quiet=True) as errand:
        rows, texts = conflicts_of(errand, diffs=diffs)
    if as_json:
        for row in rows:
            row["diff"] = texts.get(row["path"])
        say_json(rows)
        return
    from remotedl.sync.remedies import shown, typed

    for row in rows:
        say(f"{shown(row['path'])}: {row['kind']}")
        for line in texts.get(row["path"], {"lines": ()})["lines"]:
            say(line)
    apart = [row for row in rows if "beside" not in row]
    copies = [row for row in rows if "beside" in row]
    if apart:
        path = typed(apart[0]["path"])
        ways = "--laptop | --remote" + (" | --both" if apart[0]["laptop"] else "")
        say(completed(f"next: remotedl sync resolve {path} {ways}"), err=True)
    if copies:
        file, copy = typed(copies[0]["beside"]), typed(copies[0]["path"])
        say(f"next: take what you need into {file}, then: rm {copy}", err=True)
    if not rows:
        say("no conflicts", err=True)


@app.command()
def history(
    context: typer.Context,
    host: HostOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Steps at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """What the sync changed on each side, newest first."""
    from remotedl.session.sync_errands import request
    from remotedl.sync.remedies import shown

    with errand_of(context, host, quiet=True) as errand:
        steps = request(errand, "sync-history", limit=limit)
    if as_json:
        say_json(steps)
        return
    for step in steps:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(step["at"]))
        say(f"{step['id']}  {when}  on the {SIDES[step['side']]}")
        for change in step["changes"][:LISTED]:
            mark = "  (can be undone)" if change["can_undo"] else ""
            say(f"    {change['did']:<9} {shown(change['path'])}{mark}")
        if len(step["changes"]) > LISTED:
            say(f"    … and {len(step['changes']) - LISTED} more")


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
    as_json: JsonOption = False,
) -> None:
    """Bring back what a step displaced, out of the trash of its side."""
    from remotedl.session.sync_errands import request
    from remotedl.sync.remedies import shown

    if side not in (None, "laptop", "remote"):
        raise UsageError(f"no side {side}", hint="remotedl sync undo --side laptop")
    with errand_of(context, host, quiet=True) as errand:
        done = request(errand, "sync-undo", step=step, where=side, paths=paths or [])
    if as_json:
        say_json(done)
        return
    for path in done["back"]:
        say(f"back      {shown(path)}")
    for path, why in done["left"]:
        say(f"left      {shown(path)} ({why})", err=True)


@app.command()
def pause(context: typer.Context, host: HostOption = None, as_json: JsonOption = False) -> None:
    """Change nothing on either side until `resume`."""
    _tell_session(context, host, "sync-pause", "pause")
    if as_json:
        say(json.dumps({"paused": True}))


@app.command()
def resume(context: typer.Context, host: HostOption = None, as_json: JsonOption = False) -> None:
    """Go on; what happened meanwhile is seen."""
    _tell_session(context, host, "sync-resume", "resume")
    if as_json:
        say(json.dumps({"paused": False}))


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
    from remotedl.sync.remedies import shown

    if as_json:
        say_json(barrier)
    elif barrier["clean"]:
        say("in step")
    else:
        for one in barrier["troubles"][:TROUBLES]:
            where = shown(one["path"]) or "the whole folder"
            say(f"{one['kind']:<9} {where}: {one['what']}  next: {completed(one['mend'])}")
        if len(barrier["troubles"]) > TROUBLES:
            say(f"… and {len(barrier['troubles']) - TROUBLES} more: --json names all")
        mend = "remotedl sync conflicts --diff" if barrier["conflicts"] else "remotedl sync flush"
        say(completed(f"not all is in step; next: {mend}"), err=True)
    if not barrier["clean"]:
        raise typer.Exit(SyncError.exit_code)


def _teller(report: "Report") -> "Callable[[Snapshot], None]":
    """Shows the sync's one line: always on a terminal, elsewhere when something changed."""
    from dataclasses import replace

    from remotedl.cli.live import sync_line
    from remotedl.cli.render import TerminalReport
    from remotedl.session.status import Phase

    told: set[object] = set()
    last: list[object] = [None]

    def show(now: "Snapshot") -> None:
        line, linked = now.sync, now.phase is not Phase.RECONNECTING
        if line is None:
            return
        state = (replace(line, last_success=None, note=""), linked)
        if state != last[0] or isinstance(report, TerminalReport):
            last[0] = state
            report.stage("sync", sync_line(line, time.time(), linked=linked)[0])
        for what, mend in line.remedies:
            if what not in told:
                report.warn(what, mend)
        told.clear()
        told.update(what for what, _ in line.remedies)

    return show


def _announce(plan: dict[str, Any]) -> None:
    """Before the first byte of `--once`: in short, and as talk."""
    for line in _cost_lines(plan["estimate"]):
        say(line, err=True)


def _print_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    from remotedl.cli.render import amount
    from remotedl.sync.remedies import shown

    if as_json:
        say_json(plan)
        return
    for line in _cost_lines(plan["estimate"]):
        say(line)
    for side, name in (("to_remote", "to the host"), ("to_laptop", "to the laptop")):
        rows = plan[side]
        if rows:
            say(f"{name}:")
        for row in rows[:LISTED]:
            size = amount(row["size"], "B") if row["kind"] == "file" else row["kind"]
            say(f"  {row['does']:<7} {size:>9}  {shown(row['path'])} ({row['reason']})")
        if len(rows) > LISTED:
            say(f"  … and {len(rows) - LISTED} more")
    for row in plan["conflicts"]:
        say(f"conflict: {shown(row['path'])} ({row['kind']})")
    for what in ("frozen", "left_out"):
        for text in plan[what]:
            say(f"{what.replace('_', ' ')}: {text}")
    if plan["halt"] is not None:
        say(f"it would halt: {plan['halt']['message']}", err=True)
        say(completed(f"next: {plan['halt']['hint']}"), err=True)


def _counted(number: int, noun: str) -> str:
    """As in "1 file" and "2 files"; empty for none."""
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""


def _cost_lines(cost: dict[str, Any]) -> list[str]:
    """What goes which way, for how long, and what weighs most."""
    from remotedl.cli.render import amount, lasting
    from remotedl.sync.remedies import shown

    names = {"remote": "to the host", "laptop": "to the laptop"}
    lines: list[str] = []
    for side, name in names.items():
        way = cost[f"to_{side}"]
        parts = [_counted(way["files"], "file"), _counted(way["folders"], "folder")]
        if way["deleted"]:
            parts.append(f"{way['deleted']} to the trash")
        if way["removed"]:
            parts.append(f"{_counted(way['removed'], 'folder')} removed")
        told = ", ".join(part for part in parts if part)
        lines.append(f"{name}: {told}; {amount(way['bytes'], 'B')}" if told else f"{name}: nothing")
    if cost["seconds"] is not None and cost["largest"]:
        rate = f"{amount(cost['rate'], 'B')}/s"
        lines.append(f"about {lasting(cost['seconds'])} at {rate}, as measured just now")
    if cost["largest"]:
        lines.append("the largest:")
        for item in cost["largest"]:
            size = amount(item["size"], "B")
            lines.append(f"  {size:>9}  {names[item['to']]:<13}  {shown(item['path'])}")
    for what, text in (("conflicts", "in conflict"), ("frozen", "frozen"), ("left_out", "left")):
        if cost[what]:
            lines.append(f"{cost[what]} {text}")
    return lines
