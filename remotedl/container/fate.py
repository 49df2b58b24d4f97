"""Why a container does not run any more, from what it and its engine say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from remotedl.engine.types import Container, Event

SIGNALS = {"9": "KILL", "15": "TERM", "2": "INT", "1": "HUP", "3": "QUIT"}
ASKED_BEFORE_S = 60.0
"""How long before its end something may have been asked of it: a stop has its grace."""


def fate(container: Container, events: Sequence[Event]) -> str:
    """`events`: what the engine remembers of it around its end, oldest first."""
    if container.error:
        return f"it could not be started: {container.error}"
    code = f"exit status {container.exit_code}"
    if container.oom_killed or any(event.action == "oom" for event in events):
        limit = f"its limit of {sized(container.memory)}" if container.memory else "the host's"
        return f"it ran out of memory ({limit}); {code}"
    asked = [event for event in events if event.action in ("kill", "stop")]
    if any(event.action == "stop" for event in asked):
        return f"it was stopped (docker stop, or the host's shutdown); {code}"
    if asked:
        number = asked[-1].attributes.get("signal", "")
        return f"it was killed from outside (signal {SIGNALS.get(number, number)}); {code}"
    return f"its supervisor ended by itself; {code}"


def end_of(container: Container) -> float | None:
    """When it ended, in Unix seconds by the host's clock; None where it never ran."""
    text = container.finished_at.replace("Z", "+00:00")
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        at = datetime.fromisoformat(
            whole + (dot + digits[:6] if digits else "") + rest[len(digits) :]
        )
    except ValueError:
        return None
    return at.timestamp() if at.year > 1 else None


def sized(size: int) -> str:
    """2147483648 → 2g, as `memory` is written."""
    for unit, bytes_ in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size % bytes_ == 0:
            return f"{size // bytes_}{unit}"
    return f"{size}b"
