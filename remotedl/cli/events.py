"""The event stream of `up --json` and `attach --json`: one JSON object a line, on stdout.

Every line has `event` and `at` (Unix seconds). `stage`, `progress`, `note`, `warn` and `output` are
the way up; `plan` is a line of --dry-run; `state` is the whole session, whenever more of it than a
counter has changed; `told` is what the session says of itself (a link lost, a job's end); `end` is
the last line.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from remotedl.cli.next_step import NAMED, completed
from remotedl.session.status import Snapshot

REFRESH_S = 0.5
_COUNTERS = ("open_now", "total", "bytes_up", "bytes_down")


class JsonReport:
    """A Report whose every call is a line."""

    def stage(self, name: str, detail: str = "") -> None:
        emit("stage", name=name, detail=detail)

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        emit("progress", what=what, done=done, total=total, unit=unit)

    def note(self, text: str) -> None:
        emit("note", text=text)

    def __init__(self) -> None:
        self._named = NAMED.get()

    def warn(self, text: str, hint: str = "") -> None:
        emit("warn", text=text, hint=completed(hint, self._named))

    def output(self, line: str) -> None:
        emit("output", line=line)


def emit(event: str, **fields: Any) -> None:
    """One line, whole: calls may come from any thread."""
    line = json.dumps({"event": event, "at": round(time.time(), 3), **fields})
    with _LOCK:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


_LOCK = threading.Lock()


def stream(snapshot: Callable[[], Snapshot], stop: threading.Event) -> None:
    """A line for each change, until `stop` is set."""
    before: dict[str, Any] = {}
    told = 0.0
    while True:
        now = snapshot()
        for when, text in now.events:
            if when > told:
                told = when
                emit("told", text=text, when=when)
        state = calm(now.as_json())
        if state != before:
            before = state
            emit_state(now)
        if stop.wait(REFRESH_S):
            return


def emit_state(now: Snapshot) -> None:
    emit("state", **{key: value for key, value in now.as_json().items() if key != "events"})


def calm(row: dict[str, Any]) -> dict[str, Any]:
    """A snapshot without what changes all the time. Pure."""
    tunnels = [
        {key: value for key, value in tunnel.items() if key not in _COUNTERS}
        for tunnel in row["tunnels"]
    ]
    sync = row["sync"] and {**row["sync"], "last_success": row["sync"]["last_success"] is not None}
    autostop = row["autostop"] and {**row["autostop"], "idle_s": None, "left_s": None}
    quiet = {"tunnels": tunnels, "sync": sync, "autostop": autostop, "events": None}
    return {**row, **quiet, "gpu_lines": None}
