"""The live view of a session: a snapshot drawn calmly, readable without colour."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from remotedl.cli.next_step import completed
from remotedl.cli.render import amount, lasting
from remotedl.cli.say import say
from remotedl.session.status import Phase, Snapshot, SyncLine, TunnelStatus
from remotedl.shown import shown

if TYPE_CHECKING:
    import threading

    from rich.console import Console, RenderableType
    from rich.text import Text

    from remotedl.session.session import Session

REFRESH_S = 0.5
FOOTER = "Ctrl-C ends this session; the container and its jobs go on. Stop it: remotedl down"
GOES_ON = "session ended; the container goes on: remotedl up comes back to it"
DETACH_FOOTER = "Ctrl-C leaves the session in the background. End it: remotedl down"
_SHOWN_EVENTS = 6
_LABEL = 12


def stay(
    session: Session,
    *,
    plain: bool,
    browse: bool,
    as_json: bool = False,
    footer: str = FOOTER,
    parting: str = GOES_ON,
) -> None:
    """Show a session that is up until Ctrl-C or its own end; then close it. Exits 130 on Ctrl-C."""

    from remotedl.cli.events import emit, stream

    if as_json:
        browse = False
    elif plain or not (sys.stdout.isatty() and sys.stderr.isatty()):
        for line in session.addresses():  # the live view shows them itself
            say(line)
    if browse and session.jupyter_url is not None:
        from remotedl.cli.browser import show_page

        show_page(session.jupyter_url)
    try:
        with session.held() as stop:
            if as_json:
                stream(session.snapshot, stop)
            else:
                watch(session.snapshot, stop, footer=footer, plain=plain)
    finally:
        session.close()
        if as_json:
            emit("end", why=session.failure.message if session.failure is not None else "")
        say(parting, err=True)
    if session.failure is not None:
        raise session.failure


def watch(
    snapshot: Callable[[], Snapshot], stop: threading.Event, *, footer: str, plain: bool
) -> None:
    """Draw until `stop` is set: in place on a terminal, a line a change without one."""
    if plain:
        _watch_plain(snapshot, stop)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        _watch_plain(snapshot, stop)
        return
    drawn, width = None, console.width
    with Live(console=console, auto_refresh=False) as live:
        while not stop.wait(REFRESH_S):
            if drawn is not None and console.width < width:
                _climb(console, wrapped(_lengths(console, drawn, width), console.width))
            drawn, width = view(snapshot(), footer, time.time()), console.width
            live.update(drawn, refresh=True)


def wrapped(lengths: list[int], width: int) -> int:
    """How many more rows lines of these lengths take in a terminal that has become narrower. Pure.

    Every terminal that is used today breaks the lines on its screen anew; rich counts those that it
    has written, and would leave the rest of them standing above the next picture.
    """
    return sum(max(length - 1, 0) // max(width, 1) for length in lengths)


def _lengths(console: Console, drawn: RenderableType, width: int) -> list[int]:
    from rich.segment import Segment

    lines = console.render_lines(drawn, console.options.update(width=width), pad=False)
    return [Segment.get_line_length(line) for line in lines]


def _climb(console: Console, rows: int) -> None:
    from rich.control import Control
    from rich.segment import ControlType

    erase, up = (ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)
    console.control(Control(*(erase, up) * rows))


def view(now: Snapshot, footer: str, at: float, *, rule: bool = True) -> RenderableType:
    """One picture of the session at Unix time `at`."""
    from rich.console import Group
    from rich.rule import Rule
    from rich.text import Text

    rows: list[RenderableType] = [_title(now, at)]
    for tunnel in now.tunnels:
        rows.append(_row(tunnel.name, tunnel_line(tunnel), "bold" if tunnel.url else ""))
    if now.sync is not None:
        line, style = sync_line(now.sync, at, linked=now.phase is not Phase.RECONNECTING)
        rows.append(_row("sync", line, style))
        rows += [_row("", text, "yellow", whole=True) for text in sync_remedies(now.sync)]
    rows += [_row("GPU" if first else "", text) for first, text in _marked(now.gpu_lines)]
    rows += [_row("jobs" if first else "", text) for first, text in _marked(job_lines(now))]
    if now.autostop is not None:
        rows.append(_row("autostop", autostop_line(now.autostop)))
    for text, hint in now.warnings:
        rows.append(_row("!", text + (f"  next: {hint}" if hint else ""), "yellow"))
    if now.events:
        if rule:
            rows.append(Rule(style="dim"))
        for when, text in now.events[-_SHOWN_EVENTS:]:
            clock = time.strftime("%H:%M:%S", time.localtime(when))
            rows.append(
                Text(f"{clock}  {shown(text)}", style="dim", no_wrap=True, overflow="ellipsis")
            )
    rows.append(Text(footer, style="dim"))
    return Group(*rows)


def sync_line(sync: SyncLine, at: float, *, linked: bool = True) -> tuple[str, str]:
    """The one line that never lies about the sync, and its style.

    Without a link nobody knows what the host's side is like.
    """
    if sync.halted is not None:
        return f"halted: {sync.halted}", "bold red"
    troubled = bool(sync.conflicts or sync.frozen or sync.failures or sync.paused or sync.waits)
    parts = []
    if sync.paused:
        parts.append("paused")
    elif not linked:
        parts.append("waits for the link")
    elif sync.waits:
        parts.append(sync.waits)
    elif sync.last_success is None:
        parts.append("first comparison…")
    elif not (sync.pending or troubled):
        parts.append("in step")
    parts.append(f"{sync.pending} pending")
    if sync.last_success is not None:
        parts.append(f"last {lasting(max(at - sync.last_success, 0))} ago")
    if sync.note:
        parts.append(sync.note)
    parts.append("1 conflict" if len(sync.conflicts) == 1 else f"{len(sync.conflicts)} conflicts")
    parts.append(f"{len(sync.frozen)} frozen")
    parts.append("polling" if sync.degraded else "watching")
    if sync.failures:
        parts.append(f"{len(sync.failures)} refused")
    if sync.left_out:
        parts.append(f"{len(sync.left_out)} left on the host")
    return " · ".join(parts), "yellow" if troubled or sync.degraded or not linked else "green"


def sync_remedies(sync: SyncLine) -> list[str]:
    """What to type about each trouble of the sync."""
    return [f"{what}  next: {completed(mend)}" for what, mend in sync.remedies]


def tunnel_line(tunnel: TunnelStatus) -> str:
    place = tunnel.url or f"{tunnel.bind}:{tunnel.port} → {tunnel.target}"
    if tunnel.open_to:
        place += f"  open to {tunnel.open_to}"
    if tunnel.trouble:
        place += f"  ({tunnel.trouble})"
    moved = f"  ({tunnel.wished_port} is taken)" if tunnel.port != tunnel.wished_port else ""
    traffic = tunnel.bytes_down + tunnel.bytes_up
    return (
        place + moved + (f"  [{tunnel.open_now} open, {amount(traffic, 'B')}]" if traffic else "")
    )


def autostop_line(row: dict[str, Any]) -> str:
    """Whether the container will be stopped for idleness, when, and what to type about it."""
    if row["ended"] is not None:
        clock = time.strftime("%H:%M", time.localtime(row["ended"]))
        still = f"; the host stays on: {row['kept_on']}" if row["kept_on"] else ""
        return f"stopped for idleness at {clock}{still}  next: remotedl up"
    if not row["watching"]:
        return "nobody watches (cancelled)  next: remotedl up"
    limit = lasting(row["limit_s"])
    if row["busy"]:
        return f"after {limit} without work; in use: {', '.join(row['busy'])}"
    return f"stops in {lasting(row['left_s'])}  next: remotedl autostop --postpone 2h"


def job_lines(now: Snapshot) -> tuple[str, ...]:
    """Jobs that run; those that ended are in `remotedl jobs`."""
    running = [job for job in now.jobs if job.get("state") == "running"]
    return tuple(f"{job['id']}  {job['command']}" for job in running)


def _title(now: Snapshot, at: float) -> Text:
    from rich.text import Text

    style = {
        Phase.LIVE: "green",
        Phase.RECONNECTING: "bold yellow",
        Phase.DOWN: "bold yellow",
    }.get(now.phase, "cyan")
    title = Text.assemble(
        ("● ", style),
        (shown(f"{now.project} on {now.host}"), "bold"),
        ("  " + now.phase.value + (f": {shown(now.detail)}" if now.detail else ""), style),
        (f"  for {lasting(max(at - now.since, 0))}", "dim"),
    )
    title.no_wrap, title.overflow = True, "ellipsis"
    return title


def _row(label: str, text: str, style: str = "", *, whole: bool = False) -> Text:
    """`whole`: over several lines where it must be, since a cut command is none."""
    from rich.text import Text

    row = Text.assemble((f"  {shown(label):<{_LABEL}}", "dim"), (shown(text), style))
    if "://" not in text and not whole:
        row.no_wrap, row.overflow = True, "ellipsis"
    return row


def _marked(lines: tuple[str, ...]) -> list[tuple[bool, str]]:
    return [(index == 0, line) for index, line in enumerate(lines)]


def _watch_plain(snapshot: Callable[[], Snapshot], stop: threading.Event) -> None:
    told_phase, told_event = None, 0.0
    while not stop.wait(REFRESH_S):
        now = snapshot()
        if now.phase != told_phase:
            told_phase = now.phase
            say(f"[{now.phase}] {now.detail}".rstrip(), err=True)
        for when, text in now.events:
            if when > told_event:
                told_event = when
                say(text, err=True)
