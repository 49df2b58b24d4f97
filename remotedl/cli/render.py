"""Draws progress: a calm block on a terminal, plain lines without one. Talk goes to stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remotedl.cli.chatter import Chatter
from remotedl.cli.next_step import NAMED, completed
from remotedl.cli.say import say_message
from remotedl.report import Report
from remotedl.shown import shown, shown_message

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_UNITS = ("B", "kB", "MB", "GB", "TB")
_NARROW = 10


@contextmanager
def reporting(
    *, plain: bool = False, quiet: bool = False, events: bool = False
) -> Iterator[Report]:
    """A report for as long as the block runs; drawn where stderr is a terminal.

    `quiet` is for commands whose own output counts: only warnings are told. `events`: JSON lines.
    """
    if events:
        from remotedl.cli.events import JsonReport

        yield JsonReport()
        return
    if quiet:
        yield QuietReport()
        return
    if plain or not sys.stderr.isatty():
        yield PlainReport()
        return
    report = TerminalReport()
    with report:
        yield report


def amount(value: float, unit: str) -> str:
    """1234567 B → 1.2 MB; other units as they are."""
    if unit != "B":
        return f"{value:,.0f} {unit}".strip()
    for name in _UNITS[:-1]:
        if abs(value) < 1000:
            return f"{value:.0f} {name}" if name == "B" else f"{value:.1f} {name}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"


def lasting(seconds: float) -> str:
    """75 → 1 min 15 s."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@dataclass(slots=True)
class _Bar:
    """One thing that moves. Rate over its whole life: calm, and right at the end."""

    done: float
    total: float | None
    unit: str
    began: float = field(default_factory=time.monotonic)
    first: float = 0.0

    def text(self, now: float) -> str:
        spent = max(now - self.began, 0.001)
        rate = (self.done - self.first) / spent
        parts = [amount(self.done, self.unit)]
        if self.total:
            parts[0] += f" of {amount(self.total, self.unit)}"
        if rate > 0 and spent > 0.5 and self.unit not in UNEVEN:
            parts.append(f"{amount(rate, self.unit)}/s")
            if self.total and self.total > self.done:
                parts.append(f"{lasting((self.total - self.done) / rate)} left")
        return " · ".join(parts)


UNEVEN = ("steps", "packages")
"""Units of which one takes a moment and the next a minute: a rate would only mislead."""


class PlainReport:
    """One line an event, for logs and pipes: nothing is ever drawn over."""

    _every_s = 5.0

    def __init__(self) -> None:
        self._named = NAMED.get()
        self._stage = ""
        self._bars: dict[str, _Bar] = {}
        self._told: dict[str, float] = {}
        self._chatter = Chatter()
        self._lock = threading.Lock()

    def stage(self, name: str, detail: str = "") -> None:
        self._stage = name
        self._say(detail or "…")

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        now = time.monotonic()
        with self._lock:
            bar = self._bars.setdefault(what, _Bar(done, total, unit, first=done))
            bar.done, bar.total = done, total
            ended = total is not None and done >= total
            due = now - self._told.get(what, bar.began) >= self._every_s
            if ended:
                del self._bars[what]
            if ended or due:
                self._told[what] = now
        if ended or due:
            self._say(f"{what}: {bar.text(now)}")

    def note(self, text: str) -> None:
        self._say(text)

    def warn(self, text: str, hint: str = "") -> None:
        hint = completed(hint, self._named)
        self._say(f"warning: {text}" + (f" (next: {hint})" if hint else ""))

    def output(self, line: str) -> None:
        if news := self._chatter.news(line):
            self._say(f"  {news}")

    def _say(self, text: str) -> None:
        with self._lock:
            prefix = f"[{self._stage}] " if self._stage else ""
            say_message(prefix + text)


class QuietReport:
    """Warnings alone."""

    def __init__(self) -> None:
        self._named = NAMED.get()

    def stage(self, name: str, detail: str = "") -> None: ...

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None: ...

    def note(self, text: str) -> None: ...

    def warn(self, text: str, hint: str = "") -> None:
        hint = completed(hint, self._named)
        say_message(f"remotedl: {text}" + (f" (next: {hint})" if hint else ""))

    def output(self, line: str) -> None: ...


class TerminalReport:
    """Finished stages stay as lines; the running one has a spinner, its bars and last output."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console as RichConsole
        from rich.live import Live
        from rich.spinner import Spinner

        self.console = console or RichConsole(stderr=True, highlight=False)
        self._named = NAMED.get()
        self._lock = threading.RLock()
        self._stage: tuple[str, str, float] | None = None
        self._bars: dict[str, _Bar] = {}
        self._last = ""
        self._spinner = Spinner("dots", style="cyan")
        # Draws at once: everything it looks at must be there.
        self._live = Live(
            console=self.console,
            refresh_per_second=8,
            transient=True,
            get_renderable=self._block,
        )

    def __enter__(self) -> TerminalReport:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            self._finish("[red]✗[/]" if kind is not None else "[green]✓[/]")
        self._live.stop()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """While the block runs the terminal belongs to somebody else (a prompt)."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def stage(self, name: str, detail: str = "") -> None:
        with self._lock:
            if self._stage is not None and self._stage[0] == name:
                self._stage = (name, detail or self._stage[1], self._stage[2])
                return
            self._finish("[green]✓[/]")
            self._stage = (name, detail, time.monotonic())

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        with self._lock:
            if total is not None and done >= total:
                self._bars.pop(what, None)
                return
            bar = self._bars.setdefault(what, _Bar(done, total, unit, first=done))
            bar.done, bar.total = done, total

    def note(self, text: str) -> None:
        with self._lock:
            self.console.print(f"  {_plain(text)}")

    def warn(self, text: str, hint: str = "") -> None:
        with self._lock:
            self.console.print(f"[yellow]![/] {_plain(text)}")
            if hint:
                hint = completed(hint, self._named)
                self.console.print(f"  [dim]next:[/] {_plain(hint)}")

    def output(self, line: str) -> None:
        self._last = shown(line)

    def _finish(self, mark: str) -> None:
        if self._stage is None:
            return
        name, detail, began = self._stage
        spent = lasting(time.monotonic() - began)
        self.console.print(f"{mark} {name:<{_NARROW}} {_plain(detail)} [dim]{spent}[/]")
        self._stage, self._last = None, ""
        self._bars.clear()

    def _block(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        with self._lock:
            if self._stage is None:
                return Text("")
            name, detail, began = self._stage
            now = time.monotonic()
            said = f"{name:<{_NARROW}} {shown(detail)} {lasting(now - began)}"
            self._spinner.update(text=Text(said))
            rows: list[RenderableType] = [self._spinner]
            width = self.console.width - 4
            for what, bar in list(self._bars.items())[-6:]:
                rows.append(Text(f"    {shown(what)}: {bar.text(now)}"[:width]))
            if self._last:
                rows.append(Text(f"    {self._last}"[:width], style="dim"))
            return Group(*rows)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(shown_message(text))
