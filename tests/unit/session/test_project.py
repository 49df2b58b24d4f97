"""Which folder is meant, and its id that survives renames."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from remotedl.config.load import choose_host
from remotedl.config.models import Config
from remotedl.errors import ConfigNotFound, FolderUnusable, StateCorrupt
from remotedl.session.initial import hosts_text, write_initial
from remotedl.session.project import (
    MARKER,
    open_project,
    project_root,
    slug_of,
)
from remotedl.sync.agent.tree import Entry, Kind
from remotedl.sync.database import Database
from remotedl.sync.opening import DATABASE
from remotedl.sync.proof import place_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("REMOTEDL_CONFIG", str(folder / ".config"))
    monkeypatch.setenv("REMOTEDL_STATE", str(tmp_path.with_name(f"{tmp_path.name}-state")))
    return folder


def test_the_id_is_made_once_and_moves_with_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "My Project"
    folder.mkdir()
    first = open_project(folder)
    moved = folder.rename(tmp_path / "renamed")
    assert open_project(moved).id == first.id
    assert first.label == f"my-project-{first.id[:6]}"


def test_a_subfolder_belongs_to_the_project_above(tmp_path: Path) -> None:
    root = tmp_path / "p"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "hosts.toml").touch()
    assert project_root(root / "src" / "deep") == root


def test_home_is_no_project_even_with_a_hosts_toml_in_it(home: Path) -> None:
    (home / "hosts.toml").touch()
    with pytest.raises(FolderUnusable, match="home folder"):
        project_root(home)
    inner = home / "work"
    inner.mkdir()
    assert project_root(inner) == inner


def test_a_home_folder_is_asked_about_once(home: Path) -> None:
    asked: list[str] = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    with pytest.raises(FolderUnusable, match="home folder"):
        open_project(home)
    assert not (home / MARKER).exists()
    project = open_project(home, confirm=yes)
    assert "all of it would be copied" in asked[0]
    assert open_project(home).id == project.id
    assert len(asked) == 1


def test_the_whole_disk_is_refused() -> None:
    with pytest.raises(FolderUnusable, match="whole disk"):
        project_root(Path("/"))


@pytest.mark.parametrize("text", ["", "id = 5", "id = 'short'", "{"])
def test_a_damaged_marker_is_not_taken_for_a_new_project(tmp_path: Path, text: str) -> None:
    path = tmp_path / MARKER
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(StateCorrupt, match="damaged"):
        open_project(tmp_path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("name", "slug"),
    [("My Project!", "my-project"), ("Café", "cafe"), ("日本", "project"), ("a" * 60, "a" * 40)],
)
def test_slug_is_fit_for_a_container_name(name: str, slug: str) -> None:
    assert slug_of(name) == slug


def test_init_writes_both_files_and_never_overwrites(tmp_path: Path) -> None:
    written = write_initial(tmp_path)
    assert [path.name for path in written.made] == ["hosts.toml", ".remotedlignore"]
    (tmp_path / "hosts.toml").write_text("# mine")
    again = write_initial(tmp_path)
    assert again.made == ()
    assert (tmp_path / "hosts.toml").read_text() == "# mine"


def test_init_suggests_the_hosts_of_ssh_config_as_valid_toml(tmp_path: Path, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Host gpu1 gpu2\n  Port 22\nHost *\n  User x\n")
    written = write_initial(tmp_path)
    assert written.hosts == ("gpu1", "gpu2")
    project = open_project(tmp_path)
    assert sorted(project.config.hosts) == ["gpu1", "gpu2"]
    assert "192.0.2.10" in hosts_text(())


def test_a_copy_of_the_folder_is_a_project_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    first = open_project(folder)
    (folder / MARKER.parent / "marker").write_text("what the sync noted")
    copy = tmp_path / "copies" / "p"
    shutil.copytree(folder, copy)
    second = open_project(copy)
    assert second.copy_of == folder
    assert second.id != first.id
    assert not (copy / MARKER.parent / "marker").exists()
    assert open_project(copy) == dataclasses.replace(second, copy_of=None)
    assert open_project(folder).id == first.id
    assert (folder / MARKER.parent / "marker").exists()


def test_another_way_to_the_same_folder_is_no_copy(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    first = open_project(folder)
    (tmp_path / "link").symlink_to(folder)
    assert open_project(tmp_path / "link").id == first.id


def test_hosts_do_not_share_a_folder_for_their_names(tmp_path: Path) -> None:
    project = open_project(tmp_path)
    names = ["box", "..", ".", "a/b", "a_b", "a b", ".folder", "ada@box", "x" * 300, "x" * 299]
    folders = [project.state_folder(name) for name in names]
    assert len(set(folders)) == len(names)
    assert len({folder.parent for folder in folders}) == 1


def test_a_state_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REMOTEDL_STATE", str(tmp_path / "file" / "state"))
    with pytest.raises(FolderUnusable, match="not a directory") as caught:
        open_project(tmp_path)
    assert "REMOTEDL_STATE" in caught.value.hint


def test_nothing_is_written_where_the_check_refuses(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    seen: list[bool] = []

    def refuse(config: Config, fresh: bool) -> None:
        seen.append(fresh)
        choose_host(config, None)

    with pytest.raises(ConfigNotFound, match="no host is named"):
        open_project(folder, None, refuse)
    assert list(folder.iterdir()) == []
    open_project(folder)
    with pytest.raises(ConfigNotFound):
        open_project(folder, None, refuse)
    assert seen == [True, False]


def test_a_project_whose_corner_was_removed_is_known_by_its_state(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "a.py").write_text("1")
    known = open_project(folder)
    database = Database(known.state_folder("h1") / DATABASE)
    entry = Entry(Kind.FILE, bytes(32), 1)
    database.record({"a.py": entry}, {"a.py": entry}, {}, None, (), ())
    database.note_place(place_of(folder))
    database.close()

    shutil.rmtree(folder / ".remotedl")  # git clean -fdx
    assert open_project(folder).id == known.id
    shutil.rmtree(folder / ".remotedl")
    moved = folder.rename(tmp_path / "moved")
    assert open_project(moved).id == known.id

    shutil.rmtree(moved / ".remotedl")
    shutil.copytree(moved, tmp_path / "copy")
    assert open_project(tmp_path / "copy").id != known.id
    (moved / "a.py").write_text("something else")
    assert open_project(moved).id != known.id
