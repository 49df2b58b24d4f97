"""Which sessions run: a crash leaves no ghost, a damaged file is never taken for none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remotedl.errors import StateCorrupt
from remotedl.session.registry import (
    FORMAT,
    Record,
    SessionLock,
    died_sessions,
    drop_record,
    live_host,
    read_record,
    running_sessions,
    write_record,
)

RECORD = Record(FORMAT, "0" * 16, "/p", "h1", 1, "/sock", "00", 1.5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where RECORD's session keeps its state."""
    monkeypatch.setenv("REMOTEDL_STATE", str(tmp_path))
    found = tmp_path / "projects" / RECORD.project_id / "h1"
    found.mkdir(parents=True)
    return found


def test_a_record_counts_only_while_its_lock_is_held(tmp_path: Path) -> None:
    lock = SessionLock(tmp_path)
    assert lock.acquire()
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    lock.release()
    assert read_record(tmp_path) is None


def test_a_second_session_of_one_folder_does_not_get_the_lock(tmp_path: Path) -> None:
    first, second = SessionLock(tmp_path), SessionLock(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_a_killed_session_is_no_session(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from remotedl.session.registry import SessionLock\n"
        f"lock = SessionLock(pathlib.Path({str(tmp_path)!r})); assert lock.acquire()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    holder.kill()
    holder.communicate()
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_damaged_record_stops_with_the_way_on(tmp_path: Path, text: str) -> None:
    (tmp_path / "session.json").write_text(text)
    with pytest.raises(StateCorrupt) as caught:
        read_record(tmp_path)
    assert caught.value.hint


def test_running_sessions_are_found_and_private(folder: Path) -> None:
    lock = SessionLock(folder)
    assert lock.acquire()
    write_record(folder, RECORD)
    assert list(running_sessions()) == [(folder, RECORD)]
    assert os.stat(folder / "session.json").st_mode & 0o077 == 0
    drop_record(folder)
    assert list(running_sessions()) == []
    lock.release()


def test_one_damaged_record_hides_no_other_session(tmp_path: Path, folder: Path) -> None:
    lock = SessionLock(folder)
    assert lock.acquire()
    write_record(folder, RECORD)
    other = tmp_path / "projects" / ("f" * 16) / "h1"
    other.mkdir(parents=True)
    (other / "session.json").write_text('{"format": 99}')
    damaged: list[StateCorrupt] = []
    assert list(running_sessions(damaged=damaged)) == [(folder, RECORD)]
    assert str(other) in damaged[0].message
    assert live_host(RECORD.project_id) == RECORD.host
    assert live_host("f" * 16) is None
    lock.release()


def test_a_session_that_was_killed_is_told(folder: Path) -> None:
    write_record(folder, RECORD)  # and nobody holds the lock
    assert list(died_sessions()) == [RECORD]
    lock = SessionLock(folder)
    assert lock.acquire()
    assert list(died_sessions()) == []
    drop_record(folder)
    lock.release()
    assert list(died_sessions()) == []
