"""SQLite databases that a program has open (MLflow): read on the other side, never harmed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.lab_tests.sync.folders import Folders, eventually, tree


def opened(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    assert connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0] == mode
    connection.execute("CREATE TABLE IF NOT EXISTS runs (number INTEGER)")
    return connection


def count(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        found = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    connection.close()
    return int(found)


@pytest.mark.parametrize("side", ["laptop", "host"])
def test_reading_a_live_database_on_the_other_side_is_no_conflict(
    folders: Folders, side: str
) -> None:
    here, there = folders.laptop, folders.host
    if side == "host":
        here, there = there, here
    sync = folders.live()
    writer = opened(here / "mlflow.db", "wal")
    for number in range(200):
        writer.execute("INSERT INTO runs VALUES (?)", (number,))
        if number % 50 == 49:
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            eventually(lambda: (there / "mlflow.db").exists())
            assert sync.flush(10).clean
            assert count(there / "mlflow.db") == number + 1
    writer.execute("INSERT INTO runs VALUES (200)")
    assert (here / "mlflow.db-wal").stat().st_size
    reader = sqlite3.connect(there / "mlflow.db")  # makes a log of its own
    assert reader.execute("SELECT count(*) FROM runs").fetchone()[0] == 200
    assert sync.flush(10).clean
    assert writer.execute("SELECT count(*) FROM runs").fetchone()[0] == 201
    reader.close()
    writer.close()
    assert sync.flush(10).clean
    assert not sync.status().conflicts and not folders.run_errors
    assert count(here / "mlflow.db") == count(there / "mlflow.db") == 201
    folders.assert_equal()


def test_a_rollback_journal_stays_where_it_is(folders: Folders) -> None:
    writer = opened(folders.host / "study.db", "persist")
    writer.execute("INSERT INTO runs VALUES (1)")
    assert (folders.host / "study.db-journal").exists()
    folders.once()
    assert sorted(tree(folders.laptop)) == ["study.db"]
    writer.close()


def test_files_that_only_look_like_it_are_files(folders: Folders) -> None:
    for name in ("travel-journal", "a-wal", "-wal", "b-shm"):
        (folders.laptop / name).write_text(name)
    (folders.laptop / "travel").write_text("not a database")
    (folders.laptop / "a").mkdir()
    folders.once()
    folders.assert_equal()
    (folders.laptop / "travel").write_bytes(b"SQLite format 3\0" + bytes(100))
    folders.once()
    folders.assert_equal()  # what was synced is never taken away
    assert (folders.laptop / "travel-journal").exists()
