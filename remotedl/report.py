"""How long work tells what it does, without knowing who listens.

`cli/render.py` draws it on a terminal or writes plain lines; `SILENT` drops it. Nothing here
formats, and no room below `cli` prints.
"""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Where progress goes. Calls may come from any thread and never raise."""

    def stage(self, name: str, detail: str = "") -> None:
        """A new stage of the way begins (`provision`, `image`, `container`, `sync`, `tunnel`)."""
        ...

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        """`what` stands at `done` of `total` (None: unknown) `unit`s. done == total ends it."""
        ...

    def note(self, text: str) -> None:
        """One line worth reading, once."""
        ...

    def warn(self, text: str, hint: str = "") -> None:
        """Something the user should act on; `hint` is the command that mends it."""
        ...

    def output(self, line: str) -> None:
        """A line that a tool on the host printed (a build's output); shown dimmed, or not."""
        ...


class _Silent:
    def stage(self, name: str, detail: str = "") -> None: ...

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None: ...

    def note(self, text: str) -> None: ...

    def warn(self, text: str, hint: str = "") -> None: ...

    def output(self, line: str) -> None: ...


SILENT: Report = _Silent()
