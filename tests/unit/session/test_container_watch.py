"""A container that ends under a live session is told, once, with why."""

from __future__ import annotations

from typing import Any, cast

import pytest

from remotedl.container.runtime import Runtime, State, Status
from remotedl.session.container_watch import ContainerWatch, change, said_of

RUNS = Status(State.RUNNING, id="1", name="remotedl-cats", since="2026-01-01T00:00:00Z")
KILLED = Status(
    State.STOPPED, id="1", name="remotedl-cats", detail="it was killed; exit status 137"
)
AGAIN = Status(State.RUNNING, id="1", name="remotedl-cats", since="2026-01-01T00:05:00Z")


class Standing:
    """A runtime that stands as the test says."""

    def __init__(self, status: Status) -> None:
        self.now = status
        self.asked = 0

    def status(self) -> Status:
        self.asked += 1
        return self.now


def test_an_end_and_a_return_are_told_once() -> None:
    place, told, clock = Standing(RUNS), [], [0.0]
    watch = ContainerWatch(cast(Runtime, cast(Any, place)), told.append, lambda: clock[0])
    for stands in (RUNS, RUNS, KILLED, KILLED, AGAIN, AGAIN):
        place.now = stands
        clock[0] += 10
        watch.look()
        assert bool(watch.down) is (stands is KILLED)
    assert told == [
        "remotedl-cats does not run: it was killed; exit status 137",
        "remotedl-cats runs again",
    ]


def test_it_is_asked_every_few_seconds_and_at_once_where_that_counts() -> None:
    place, clock = Standing(RUNS), [0.0]
    watch = ContainerWatch(cast(Runtime, cast(Any, place)), lambda _: None, lambda: clock[0])
    watch.look()
    watch.look()
    assert place.asked == 1
    watch.look(now=True)
    assert place.asked == 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (None, RUNS, ""),
        (RUNS, RUNS, ""),
        (RUNS, AGAIN, "remotedl-cats was started again"),
        (RUNS, Status(State.ABSENT), "the container is gone: it was removed"),
        (None, KILLED, said_of(KILLED)),
    ],
)
def test_what_is_worth_a_line(before: Status | None, after: Status, said: str) -> None:
    assert change(before, after) == said
