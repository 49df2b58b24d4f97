"""One paragraph about what happened while the link was gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from remotedl.session.digest import digest
from remotedl.session.status import Phase, Snapshot, SyncLine

SYNC = SyncLine("two-way-safe", 1.0, 0, (), (), (), None, False, None)


def job(number: str, state: str, code: int | None = None, took: float = 90) -> dict[str, Any]:
    ended = None if state == "running" else 100.0 + took
    return {
        "id": number,
        "command": "python train.py",
        "state": state,
        "code": code,
        "started": 100.0,
        "ended": ended,
    }


def snapshot(**changes: Any) -> Snapshot:
    base = Snapshot(
        "h1", "x", "p", "/p", "/w", 1, Phase.LIVE, "", 0.0, "docker", "i", "c", "all", sync=SYNC
    )
    return replace(base, **changes)


def test_nothing_but_the_time_when_nothing_happened() -> None:
    assert digest(snapshot(), snapshot(), 12.4) == "back after 12 s"
    assert digest(snapshot(), snapshot(), 7500) == "back after 2 h 5 min"


def test_jobs_that_ended_are_told_and_how() -> None:
    before = snapshot(jobs=(job("1", "running"), job("2", "running"), job("3", "exited", 0)))
    after = snapshot(jobs=(job("1", "exited", 0), job("2", "exited", 137), job("3", "exited", 0)))
    told = digest(before, after, 300)
    assert "job 1 (python train.py) is done after 2 min" in told
    assert "job 2 (python train.py) failed with 137" in told
    assert "job 3" not in told


def test_a_job_that_went_down_with_the_host() -> None:
    told = digest(snapshot(jobs=(job("1", "running"),)), snapshot(jobs=(job("1", "lost"),)), 61)
    assert "went down with its host" in told


def test_only_new_conflicts_and_a_halt_are_told() -> None:
    before = snapshot(sync=replace(SYNC, conflicts=("old.py",)))
    after = snapshot(sync=replace(SYNC, conflicts=("new.py", "old.py"), halted="root is gone"))
    told = digest(before, after, 61)
    assert "1 new conflicts (new.py)" in told
    assert "the sync halted: root is gone" in told


def test_files_that_came_and_went_are_counted() -> None:
    told = digest(snapshot(), snapshot(), 61, moved=(2, 1))
    assert told == "back after 1 min; 1 file came from the host; 2 went there"


def test_a_new_container_and_trouble_of_the_host_are_told() -> None:
    after = snapshot(container="d", warnings=(("disk nearly full", "x"),))
    assert digest(snapshot(), after, 61).endswith("the container was made anew; disk nearly full")
