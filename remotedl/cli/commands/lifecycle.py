"""init, up, down, status: a session's life."""

import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remotedl.cli.context import (
    AcceptOption,
    HostArgument,
    JsonOption,
    Target,
    YesOption,
    errand_of,
    find_target,
)
from remotedl.cli.next_step import completed
from remotedl.cli.say import say, say_json
from remotedl.errors import RemotedlError, SessionError, StateCorrupt

if TYPE_CHECKING:
    from remotedl.report import Report
    from remotedl.session.registry import Record
    from remotedl.session.session import Session
    from remotedl.session.status import Snapshot
    from remotedl.ssh.prompt import Prompt


PIPE_WIDTH = 1000
EventsOption = Annotated[
    bool, typer.Option("--json", help="A stream of events on stdout, one JSON object a line.")
]


def register(app: typer.Typer) -> None:
    panel = "A session"
    app.command(rich_help_panel=panel)(init)
    app.command(rich_help_panel=panel)(up)
    app.command("session-process", hidden=True)(serve_session)
    app.command(rich_help_panel=panel)(attach)
    app.command(rich_help_panel=panel)(down)
    app.command(rich_help_panel=panel)(ps)
    app.command(rich_help_panel=panel)(status)


def init() -> None:
    """Write hosts.toml and .remotedlignore here; suggests the hosts of ~/.ssh/config."""
    from remotedl.session.initial import write_initial

    written = write_initial(Path.cwd())
    for path in written.made:
        say(f"wrote {path.name}")
    for path in written.kept:
        say(f"kept {path.name}: it is there already")
    if written.made and not written.hosts:
        say("next: put your host's address into hosts.toml, then: remotedl up")
    elif written.made:
        say(f"next: remotedl up {written.hosts[0]}")


def up(
    context: typer.Context,
    host: HostArgument = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Go on in the background.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and why.")
    ] = False,
    image: Annotated[
        str | None, typer.Option("--image", help="Instead of project.image.", show_default=False)
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus",
            help="all, none, 2, 0,3 or auto:1; not what hosts.toml says.",
            show_default=False,
        ),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Build the image again, without cache, on its newest base."),
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Show what --rebuild would bring; change nothing.")
    ] = False,
    via_laptop: Annotated[
        bool,
        typer.Option(
            "--via-laptop",
            help="The host fetches what it needs through this laptop, on the way up and no longer; "
            "may restart Docker.",
        ),
    ] = False,
    accept_new: AcceptOption = False,
    yes: YesOption = False,
    as_json: EventsOption = False,
) -> None:
    """The whole way: provision, image, container, sync, tunnels; then stay and show it."""
    from remotedl.cli.events import emit
    from remotedl.cli.exits import end_in_order
    from remotedl.cli.live import stay
    from remotedl.cli.prompt import TerminalPrompt
    from remotedl.cli.render import reporting
    from remotedl.session.errands import only_sync

    target = find_target(context, host)
    plain = context.find_root().obj.plain
    if update:
        _show_newer(context, host, as_json=as_json)
        return
    asked = Asked(image, gpus, rebuild, accept_new, yes, via_laptop)
    running = None if dry_run else read_running(target)
    if running is not None:
        if running.alone:
            raise only_sync(running)
        if image is not None or gpus is not None or rebuild:
            raise SessionError(
                f"a session with {target.host_name} runs already: --image, --gpus and --rebuild "
                "count when one begins",
                hint=f"remotedl down {target.host_name}, then up again",
            )
        say(f"a session with {target.host_name} runs already: this is it", err=True)
        _tell_of_new_settings(target, running.started)
        _revive(running)
        if not detach:
            _attach(target, plain=plain, as_json=as_json)
        elif as_json:
            _emit_state(target.project.state_folder(target.host_name))
        return
    if detach and not dry_run:
        _launch(context, target, asked, browse=not no_open, as_json=as_json)
        return
    end_in_order()
    with reporting(plain=plain, events=as_json) as report:
        session = _session(target, asked, TerminalPrompt(report), report)
        if dry_run:
            for line in session.preview():
                if as_json:
                    emit("plan", line=line)
                else:
                    say(line)
            return
        try:
            session.bring_up()
        except BaseException as exc:
            session.close()
            if isinstance(exc, KeyboardInterrupt):
                report.note("stopped on the way up: remotedl up goes on from there")
            raise
    stay(session, plain=plain, browse=not no_open, as_json=as_json)


def _show_newer(context: typer.Context, host: str | None, *, as_json: bool) -> None:
    from remotedl.session.image_errands import newer_versions

    with errand_of(context, host) as errand:
        found = newer_versions(errand)
    if as_json:
        say_json([asdict(one) for one in found])
        return
    for one in found:
        say(f"{one.kind:<8} {one.name:<32} {one.has:<16} -> {one.newest}")
    if found:
        say(completed("next: remotedl up --rebuild"), err=True)
    else:
        say("nothing newer was found", err=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `up` that a background session needs as well."""

    image: str | None
    gpus: str | None
    rebuild: bool
    accept_new: bool
    yes: bool
    via_laptop: bool = False

    def arguments(self) -> list[str]:
        """As words for the command line of the background process."""
        words = [f"--image={self.image}"] if self.image is not None else []
        words += [f"--gpus={self.gpus}"] if self.gpus is not None else []
        flags = (
            ("--rebuild", self.rebuild),
            ("--accept-new", self.accept_new),
            ("--yes", self.yes),
            ("--via-laptop", self.via_laptop),
        )
        return words + [flag for flag, on in flags if on]


def serve_session(
    context: typer.Context,
    host: HostArgument = None,
    image: Annotated[str | None, typer.Option("--image")] = None,
    gpus: Annotated[str | None, typer.Option("--gpus")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild")] = False,
    via_laptop: Annotated[bool, typer.Option("--via-laptop")] = False,
    accept_new: AcceptOption = False,
    yes: YesOption = False,
) -> None:
    """What `up -d` starts: talks to its parent over stdin and stdout until it is live."""
    from remotedl.cli.exits import end_in_order
    from remotedl.session.background import Upward, serve

    end_in_order()
    upward = Upward(sys.stdout.buffer, sys.stdin.buffer)
    stop = threading.Event()
    try:
        asked = Asked(image, gpus, rebuild, accept_new, yes, via_laptop)
        session = _session(find_target(context, host), asked, upward, upward)
    except RemotedlError as exc:
        upward.error(exc)
        raise
    serve(session, upward, stop)


def attach(
    context: typer.Context, host: HostArgument = None, as_json: EventsOption = False
) -> None:
    """The live view of a session in the background; Ctrl-C leaves it there."""
    plain = context.find_root().obj.plain
    _attach(find_target(context, host), plain=plain, as_json=as_json)


def _session(target: Target, asked: "Asked", prompt: "Prompt", report: "Report") -> "Session":
    from remotedl.session.options import UpOptions, with_overrides
    from remotedl.session.session import Session

    host, project = with_overrides(target.host, target.project, image=asked.image, gpus=asked.gpus)
    options = UpOptions(
        rebuild=asked.rebuild,
        accept_new=asked.accept_new,
        yes=asked.yes,
        via_laptop=asked.via_laptop,
    )
    return Session(project, target.host_name, host, options, prompt, report)


def _tell_of_new_settings(target: Target, since: float) -> None:
    """A session has its settings from its start on."""
    path = target.project.config_path
    if path is not None and path.stat().st_mtime > since:
        say(
            f"{path.name} was changed since it began, which counts from the next start on"
            f"  next: remotedl down {target.host_name} && remotedl up {target.host_name}",
            err=True,
        )


def _revive(running: "Record") -> None:
    """Its container is brought back where that has ended, with what the session knows."""
    from remotedl.session.errands import revive, snapshot_of
    from remotedl.session.status import Phase

    now = snapshot_of(running)
    if now.phase is Phase.DOWN:
        say(f"{now.detail}: starting it again", err=True)
        say(f"running again: {revive(running)}", err=True)


def _launch(
    context: typer.Context, target: Target, asked: Asked, *, browse: bool, as_json: bool
) -> None:
    from remotedl.cli.prompt import TerminalPrompt
    from remotedl.cli.render import reporting
    from remotedl.session.background import launch

    settings = context.find_root().obj
    words = [f"--config={settings.config.absolute()}"] if settings.config is not None else []
    words += ["--debug"] if settings.debug else []
    words += ["session-process", *asked.arguments(), target.host_name]
    folder = target.project.state_folder(target.host_name)
    with reporting(plain=settings.plain, events=as_json) as report:
        addresses = launch(words, folder, report, TerminalPrompt(report))
    if as_json:
        _emit_state(folder)
        return
    for line in addresses:
        say(line)
    say("goes on in the background: remotedl status · attach · down", err=True)
    if browse and addresses:
        from remotedl.cli.browser import show_page

        show_page(addresses[0].split()[-1], wait=True)


def _emit_state(folder: Path) -> None:
    """Of the session that has just come up in the background."""
    from remotedl.cli.events import emit_state
    from remotedl.session.errands import snapshot_of
    from remotedl.session.registry import read_record

    record = read_record(folder)
    if record is not None:
        emit_state(snapshot_of(record))


def _attach(target: Target, *, plain: bool, as_json: bool) -> None:
    from remotedl.cli.events import emit, stream
    from remotedl.cli.live import DETACH_FOOTER, watch
    from remotedl.session.errands import snapshot_of
    from remotedl.session.registry import read_record
    from remotedl.session.status import Phase

    folder = target.project.state_folder(target.host_name)
    record = read_record(folder)
    if record is None:
        raise SessionError(
            f"no session of {target.project.root.name} with {target.host_name} runs",
            hint=f"remotedl up {target.host_name}",
        )
    running, ended = record, threading.Event()

    def snapshot() -> "Snapshot":
        now = snapshot_of(running)
        if now.phase is Phase.STOPPED:
            ended.set()
        return now

    try:
        if as_json:
            stream(snapshot, ended)
        else:
            alone = f"Ctrl-C leaves the sync where it runs. End it: kill {record.pid}"
            footer = alone if record.alone else DETACH_FOOTER
            watch(snapshot, ended, footer=footer, plain=plain)
    except SessionError:
        if read_record(folder) is not None:
            raise
    if as_json:
        emit("end", why="the session has ended")
    again = "sync" if record.alone else "up"
    say(f"the session has ended: remotedl {again} comes back to it", err=True)


def read_running(target: Target) -> "Record | None":
    """The session of this project and host that runs on this laptop."""
    from remotedl.session.registry import read_record

    return read_record(target.project.state_folder(target.host_name))


def down(
    context: typer.Context,
    host: HostArgument = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove what remotedl put there, after saying what.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--rm", help="Remove the container too; files, data and image stay.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """End the session and stop the container; files, data and image stay."""
    from remotedl.session.ending import bring_down

    with errand_of(context, host) as errand:
        bring_down(errand, clean=purge, yes=yes, remove=remove)


def ps(
    context: typer.Context,
    host: HostArgument = None,
    stopped: Annotated[
        bool, typer.Option("--all", "-a", help="Stopped containers as well.")
    ] = False,
    remove: Annotated[
        str | None,
        typer.Option(
            "--rm",
            metavar="CONTAINER",
            help="Remove this one, also where its folder is gone from the laptop.",
            show_default=False,
        ),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """List your containers on the host, of every project: folder, state, size, last used."""
    from remotedl.cli.render import amount
    from remotedl.session.containers import list_containers, remove_container

    with errand_of(context, host, quiet=remove is None) as errand:
        if remove is not None:
            remove_container(errand, remove, yes=yes)
            return
        rows = list_containers(errand, stopped=stopped)
    if as_json:
        say_json([asdict(row) for row in rows])
        return
    for row in rows:
        when = row.last_used[:16].replace("T", " ")
        where = f"{row.laptop}:{row.folder}" if row.folder else "(made by an earlier version)"
        say(f"{row.name:<40} {row.state:<9} {amount(row.size, 'B'):>9}  {when}  {where}")
        if row.folder_is_gone:
            say(f"    its folder is gone  next: remotedl ps --rm {row.name}", err=True)
    if not rows:
        more = "" if stopped else "; stopped ones: remotedl ps --all"
        say(f"no container of yours runs on {errand.host_name}{more}", err=True)


def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Every session of this laptop: link, sync, ports, container, GPUs, jobs, autostop."""
    from remotedl.session.errands import every_snapshot
    from remotedl.session.registry import died_sessions

    damaged: list[StateCorrupt] = []
    snapshots = every_snapshot(damaged)
    for record in died_sessions():
        then = "the container goes on  next: remotedl up"
        if record.alone:
            then = "it was the sync alone  next: remotedl sync"
        say(
            f"{Path(record.root).name} on {record.host}: its process ({record.pid}) died; "
            f"{then} {record.host}",
            err=True,
        )
    if as_json:
        say_json([one.as_json() for one in snapshots])
    elif not (snapshots or damaged):
        say("no session runs; start one: remotedl up")
    else:
        for snapshot in snapshots:
            _print_status(snapshot)
    if damaged:
        raise damaged[0]


def _print_status(snapshot: "Snapshot") -> None:
    from rich.console import Console

    from remotedl.cli.live import view

    # On a pipe nothing may be cut or wrapped: addresses are copied from there.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(highlight=False, width=width)
    console.print(view(snapshot, f"process {snapshot.pid}", time.time(), rule=width is None))
