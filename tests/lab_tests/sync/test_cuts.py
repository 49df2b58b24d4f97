"""A cut between a batch that is in place and the word that it is: no version becomes a conflict."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress

import pytest

from remotedl.errors import ConfigError, LinkLost, StateCorrupt
from remotedl.sync import carry
from remotedl.sync.agent.disk import At, Disk
from remotedl.sync.database import Database
from remotedl.sync.opening import DATABASE
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import AgentInThread, Folders, tree


class AfterFlush(Disk):
    """Calls back once a batch's names are flushed: the next thing would be its acknowledgement."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then
        self.armed = False

    def sync_dir(self, at: At) -> None:
        super().sync_dir(at)
        self._now()

    def syncfs(self, at: At) -> bool:
        done = super().syncfs(at)
        self._now()
        return done

    def _now(self) -> None:
        if self.armed:
            self.then()


@pytest.fixture
def cut(make_folders: MakeFolders) -> tuple[Folders, AfterFlush]:
    """Folders whose link is cut when `armed`, right after the host has put a batch in place."""
    disk = AfterFlush(lambda: None)
    remote = AgentInThread(disk)

    def lose() -> None:
        for process in remote.processes:
            process._ours.close()  # the agent finds that out when it speaks

    disk.then = lose
    return make_folders(remote=remote), disk


def sync_until_cut(folders: Folders, disk: AfterFlush) -> None:
    disk.armed = True
    with suppress(LinkLost, OSError):
        folders.once()
    disk.armed = False


@pytest.mark.parametrize("first", [True, False], ids=["new", "edited"])
@pytest.mark.parametrize("then", ["saved", "removed", "a folder", "put back"])
def test_a_save_that_arrived_unheard_is_the_laptops_own_past(
    cut: tuple[Folders, AfterFlush], first: bool, then: str
) -> None:
    folders, disk = cut
    file = folders.laptop / "train.py"
    if not first:
        file.write_text("v0")
    folders.once()
    file.write_text("v1")
    sync_until_cut(folders, disk)
    assert (folders.host / "train.py").read_text() == "v1"
    file.unlink()
    if then == "a folder":
        file.mkdir()
    elif then != "removed":
        file.write_text("v2" if then == "saved" else "v0")
    wanted = tree(folders.laptop)
    outcome = folders.once()
    assert outcome.conflicts == ()
    assert tree(folders.laptop) == tree(folders.host) == wanted
    assert folders.once().idle


def test_an_edit_of_the_hosts_user_after_the_cut_is_still_a_conflict(
    cut: tuple[Folders, AfterFlush],
) -> None:
    folders, disk = cut
    (folders.laptop / "train.py").write_text("v0")
    folders.once()
    (folders.laptop / "train.py").write_text("v1")
    sync_until_cut(folders, disk)
    (folders.host / "train.py").write_text("the host's")
    (folders.laptop / "train.py").write_text("v2")
    assert [one.key for one in folders.once().conflicts] == ["train.py"]
    assert (folders.host / "train.py").read_text() == "the host's"
    assert (folders.laptop / "train.py").read_text() == "v2"


def test_what_was_agreed_on_is_no_past_any_more(cut: tuple[Folders, AfterFlush]) -> None:
    """The host's user goes back to a version that the laptop once sent: that is an edit."""
    folders, disk = cut
    (folders.laptop / "train.py").write_text("v0")
    folders.once()
    (folders.laptop / "train.py").write_text("v1")
    sync_until_cut(folders, disk)
    (folders.laptop / "train.py").write_text("v2")
    folders.once()
    (folders.host / "train.py").write_text("v1")
    folders.once()
    assert (folders.laptop / "train.py").read_text() == "v1"


def test_a_kill_of_the_laptop_before_it_recorded_what_came_down(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders.host / "plot").write_text("v0")
    folders.once()
    (folders.host / "plot").write_text("v1")
    with monkeypatch.context() as patch:
        patch.setattr(Database, "record", _killed)
        patch.setattr(Database, "batch_arrived", _killed)
        with suppress(KeyboardInterrupt):
            folders.once()
    assert (folders.laptop / "plot").read_text() == "v1"
    (folders.host / "plot").write_text("v2")
    assert folders.once().conflicts == ()
    assert (folders.laptop / "plot").read_text() == "v2"


def test_each_batch_is_recorded_when_it_is_acknowledged(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the end of a long cycle, the next session knows what was done in it."""
    monkeypatch.setattr(carry, "BATCH", 4)
    folders.once()
    for number in range(20):
        (folders.laptop / f"up{number}").write_text(f"{number}")
        (folders.host / f"down{number}").write_text(f"{number}")
    with monkeypatch.context() as patch:
        patch.setattr(Database, "record", _killed)
        with suppress(KeyboardInterrupt):
            folders.once()
    for number in range(20):  # both users go on with what they were given
        (folders.host / f"up{number}").write_text("edited on the host")
        (folders.laptop / f"down{number}").unlink()
    outcome = folders.once()
    assert outcome.conflicts == ()
    assert (folders.laptop / "up19").read_text() == "edited on the host"
    assert not (folders.host / "down0").exists()
    folders.assert_equal()


def test_a_database_of_the_version_before_is_brought_up_to_date(folders: Folders) -> None:
    (folders.laptop / "a").write_text("v0")
    folders.once()
    with sqlite3.connect(folders.state / DATABASE) as database:
        database.executescript("DROP TABLE batch; PRAGMA user_version = 1;")
    (folders.laptop / "a").unlink()
    assert folders.once().to_remote.deleted == 1


def test_a_database_of_a_newer_version_is_not_called_damaged(folders: Folders) -> None:
    folders.once()
    with sqlite3.connect(folders.state / DATABASE) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="newer version") as caught:
        folders.once()
    assert not isinstance(caught.value, StateCorrupt)


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
