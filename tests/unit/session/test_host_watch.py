"""A look at the host never ends a session, whatever is raised in it, and is told."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import pytest

from remotedl.config.models import Config, HostConfig
from remotedl.container.runtime import State, Status
from remotedl.errors import LinkLost, RemoteTimeout
from remotedl.report import SILENT
from remotedl.session.options import UpOptions
from remotedl.session.project import Project
from remotedl.session.session import Session
from remotedl.session.watching import HostWatch
from remotedl.session.workplace import Workplace
from remotedl.ssh.prompt import NOBODY


class Running:
    """A runtime in which all is well."""

    def status(self) -> Status:
        return Status(State.RUNNING)


class PlaceDouble:
    """A workplace whose jobs cannot be told: raises what the test wants."""

    remote = cast(Any, None)
    access = None
    runtime = Running()

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def jobs(self, _: str) -> Any:
        raise self.failure


def watch_of(failure: Exception) -> HostWatch:
    place = cast(Workplace, PlaceDouble(failure))
    watch = HostWatch(place, "/run", None, "box", "c")
    watch._next_guard = float("inf")
    return watch


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (RemoteTimeout("box: python3 did not end in 10 s"), "box: python3 did not end in 10 s"),
        (TimeoutError("10 s"), "internal error: TimeoutError: 10 s"),
        (KeyError("utilization"), "internal error: KeyError: 'utilization'"),
    ],
)
def test_what_a_look_raises_is_told_as_a_warning(failure: Exception, said: str) -> None:
    watch = watch_of(failure)
    watch.look()
    assert [text for text, _ in watch.warnings] == [f"the jobs cannot be looked at: {said}"]


def test_a_lost_link_ends_the_looking_and_says_so() -> None:
    watch = watch_of(LinkLost("gone"))
    with pytest.raises(LinkLost):
        watch.look()


def test_a_bug_in_the_keeping_alive_ends_the_session_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOTEDL_STATE", str(tmp_path / "state"))
    session = bare_session(tmp_path)

    def broken(stop: threading.Event) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(session, "_until_lost", broken)
    with session.held() as stop:
        assert stop.wait(10), "the view ends with it"
    assert session.failure is not None
    assert "internal error: ZeroDivisionError: a bug" in session.failure.message
    session.close()


def bare_session(folder: Path) -> Session:
    project = Project(folder, "0" * 16, Config(), None)
    host = HostConfig(address="192.0.2.1")
    return Session(project, "box", host, UpOptions(), NOBODY, SILENT)
