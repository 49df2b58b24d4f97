"""Why a container ended, from what the engine says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remotedl.container.fate import end_of, fate
from remotedl.engine.types import Container, Event, Health

ENDED = Container(
    id="1", name="c", image="i", image_id="sha256:1", labels={}, status="exited", running=False,
    exit_code=137, error="", oom_killed=False, health=Health.NONE, restart_count=0,
    started_at="2026-01-01T00:00:00Z", pid=0, ports=(), mounts=(), address="", user="", env={},
    runtime="", finished_at="2026-01-01T00:00:10.123456789Z",
)  # fmt: skip


def event(action: str, **attributes: str) -> Event:
    return Event("container", action, "1", attributes, 0)


@pytest.mark.parametrize(
    ("container", "events", "said"),
    [
        (ENDED, [event("kill", signal="9"), event("die")], "killed from outside (signal KILL)"),
        (
            replace(ENDED, exit_code=0),
            [event("kill", signal="15"), event("die"), event("stop")],
            "was stopped (docker stop, or the host's shutdown); exit status 0",
        ),
        (
            replace(ENDED, oom_killed=True, memory=2 << 30),
            [event("oom"), event("die")],
            "ran out of memory (its limit of 2g); exit status 137",
        ),
        (replace(ENDED, oom_killed=True), [], "ran out of memory (the host's)"),
        (replace(ENDED, exit_code=3), [event("die")], "ended by itself; exit status 3"),
        (replace(ENDED, error="no such runtime"), [], "could not be started: no such runtime"),
    ],
    ids=["killed", "stopped", "memory limit", "the host's memory", "by itself", "not started"],
)
def test_why_it_ended(container: Container, events: list[Event], said: str) -> None:
    assert said in fate(container, events)


def test_when_it_ended() -> None:
    assert end_of(ENDED) == pytest.approx(1767225610.123456)
    assert end_of(replace(ENDED, finished_at="2026-01-01T01:00:10.5+01:00")) == 1767225610.5
    assert end_of(replace(ENDED, finished_at="0001-01-01T00:00:00Z")) is None
    assert end_of(replace(ENDED, finished_at="")) is None
