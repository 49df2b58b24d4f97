"""Links that the host planted, and what else is no file: nothing goes through them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remotedl.config import below as below_module
from remotedl.config.below import Below, read_plain
from remotedl.config.places import Places
from remotedl.container.spec import Folders
from remotedl.errors import ConfigError, FolderUnusable, RemotedlError, SyncError
from remotedl.images.orders import local_order
from remotedl.images.recipe import context_tar
from remotedl.report import SILENT, Report
from remotedl.session.envfile import read_env_file
from remotedl.session.transfer import PART, _checked, fetch_over, get_over, put_over
from remotedl.sync.agent.disk import leads_elsewhere
from tests.support.local_remote import LocalRemote

SECRET = "SECRET=42"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must neither be read nor written."""
    folder = tmp_path / "home/.ssh"
    folder.mkdir(parents=True)
    (folder / "id").write_text(SECRET)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    host = tmp_path / "host"
    found = Folders(str(host / "work"), str(host / "data"), str(host / ".remotedl/run/x"))
    for path in (found.workdir, found.data):
        Path(path).mkdir(parents=True)
    data = Path(found.data)
    (data / "out/deep").mkdir(parents=True)
    (data / "out/authorized_keys").write_text("attacker")
    (data / "out/deep/id").write_text("attacker")
    return found


@pytest.fixture
def remote() -> Iterator[LocalRemote]:
    found = LocalRemote()
    yield found
    found.close()


def untouched(outside: Path) -> bool:
    return [path.name for path in outside.iterdir()] == ["id"] and (
        outside / "id"
    ).read_text() == SECRET


class TestGet:
    @pytest.fixture
    def get(
        self, remote: LocalRemote, folders: Folders, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., Any]:
        monkeypatch.chdir(project)
        return lambda source, dest=".": get_over(
            remote, folders, source, Path(dest), SILENT, project
        )

    def test_without_links_it_works(self, get: Callable[..., Any], project: Path) -> None:
        assert get("/data/out").files == 2
        assert (project / "out/deep/id").read_text() == "attacker"
        assert get("/data/out").had == 2

    @pytest.mark.parametrize("dest", [".", "out", "./out/", "out/deep"])
    def test_through_a_planted_folder(
        self, get: Callable[..., Any], project: Path, outside: Path, dest: str
    ) -> None:
        (project / "out").symlink_to(outside)
        with pytest.raises(FolderUnusable, match=r"is a link to .*ssh: nothing is read"):
            get("/data/out", dest)
        assert untouched(outside)

    def test_from_a_folder_below_the_project(
        self,
        get: Callable[..., Any],
        project: Path,
        outside: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (project / "sub").mkdir()
        (project / "sub/out").symlink_to(outside)
        monkeypatch.chdir(project / "sub")
        with pytest.raises(FolderUnusable):
            get("/data/out")
        assert untouched(outside)

    @pytest.mark.parametrize("name", ["deep", "authorized_keys", "authorized_keys" + PART])
    def test_through_a_link_inside(
        self, get: Callable[..., Any], project: Path, outside: Path, name: str
    ) -> None:
        (project / "out").mkdir()
        (project / "out" / name).symlink_to(outside if name == "deep" else outside / "id")
        with pytest.raises(FolderUnusable):
            get("/data/out")
        assert untouched(outside)

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("name", ["authorized_keys", "authorized_keys" + PART])
    def test_a_fifo_is_not_waited_for(
        self, get: Callable[..., Any], project: Path, name: str
    ) -> None:
        (project / "out").mkdir()
        os.mkfifo(project / "out" / name)
        with pytest.raises(FolderUnusable, match="no regular file"):
            get("/data/out")

    def test_a_folder_that_becomes_a_link_meanwhile(
        self, remote: LocalRemote, folders: Folders, project: Path, outside: Path
    ) -> None:
        class Swapping(Report):
            def progress(self, what: str, done: int, total: int | None) -> None:
                folder = project / "out"
                if folder.is_dir() and not folder.is_symlink():
                    folder.rename(project / "old")
                    folder.symlink_to(outside)

        with pytest.raises((RemotedlError, OSError)):
            get_over(remote, folders, "/data/out", project, Swapping(), project)
        assert untouched(outside)

    def test_instructions_in_a_folder_stay_on_the_host(
        self, get: Callable[..., Any], folders: Folders, project: Path
    ) -> None:
        names = (".envrc", ".git/hooks/pre-commit", "a/.GIT/config", "a/.vscode/tasks.json")
        for name in (*names, "a/code.py"):
            path = Path(folders.data) / "out" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("evil")
        get("/data/out")
        assert (project / "out/a/code.py").exists()
        assert not any((project / "out" / name).exists() for name in names)
        get("/data/out/.envrc", "out")
        assert (project / "out/.envrc").exists(), "named itself, it is the user's own act"

    def test_outside_of_the_project_a_link_is_the_users_own_word(
        self, get: Callable[..., Any], tmp_path: Path
    ) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "disk")
        get("/data/out", str(tmp_path / "link"))
        assert (tmp_path / "disk/out/deep/id").exists()


class TestPut:
    @pytest.mark.parametrize("source", ["out", "out/id", "sub/out"])
    def test_a_planted_link_is_not_read(
        self,
        remote: LocalRemote,
        folders: Folders,
        project: Path,
        outside: Path,
        source: str,
    ) -> None:
        (project / "sub").mkdir()
        for link in (project / "out", project / "sub/out"):
            link.symlink_to(outside)
        with pytest.raises(FolderUnusable, match="is a link to"):
            put_over(remote, folders, project / source, "/data/stolen/", SILENT, project)
        assert not (Path(folders.data) / "stolen").exists()

    def test_links_inside_a_folder_stay(
        self, remote: LocalRemote, folders: Folders, project: Path, outside: Path
    ) -> None:
        (project / "out/x").mkdir(parents=True)
        (project / "out/x/a").write_text("mine")
        (project / "out/link").symlink_to(outside)
        (project / "out/x/file").symlink_to(outside / "id")
        put_over(remote, folders, project / "out", "/data/new/", SILENT, project)
        there = Path(folders.data) / "new/out"
        assert [p.name for p in there.rglob("*") if p.is_file()] == ["a"]


class TestContainer:
    """Code in the container plants links in its own folders: the host's files are out of reach."""

    @pytest.fixture(autouse=True)
    def planted(self, folders: Folders, outside: Path) -> None:
        for base in (folders.data, folders.workdir):
            (Path(base) / "trap").symlink_to(outside)
            (Path(base) / "file").symlink_to(outside / "id")
            os.mkfifo(Path(base) / "pipe")

    @pytest.mark.parametrize("base", ["/data", "/workspace"])
    @pytest.mark.parametrize("dest", ["trap/", "trap/id", "trap/sub/", "file", "pipe"])
    @pytest.mark.timeout(30)
    def test_put_does_not_write_through_them(
        self,
        remote: LocalRemote,
        folders: Folders,
        tmp_path: Path,
        outside: Path,
        base: str,
        dest: str,
    ) -> None:
        (tmp_path / "mine").write_text("mine")
        with pytest.raises(SyncError, match="nothing is read or written there"):
            put_over(remote, folders, tmp_path / "mine", f"{base}/{dest}", SILENT)
        assert untouched(outside)

    @pytest.mark.parametrize(
        "source", ["/data/trap", "/workspace/trap/id", "/data/file", "/data/pipe"]
    )
    @pytest.mark.timeout(30)
    def test_get_does_not_read_through_them(
        self, remote: LocalRemote, folders: Folders, tmp_path: Path, source: str
    ) -> None:
        with pytest.raises(SyncError, match="nothing is read or written there"):
            get_over(remote, folders, source, tmp_path / "stolen", SILENT)
        assert not (tmp_path / "stolen").exists()

    def test_fetch_does_not_write_through_them(
        self, remote: LocalRemote, folders: Folders, outside: Path
    ) -> None:
        for dest in ("/data/trap/", "/data/trap/id", "/data/file"):
            with pytest.raises(SyncError, match="nothing is read or written there"):
                fetch_over(remote, folders, "http://127.0.0.1:1/id", dest, SILENT)
        assert untouched(outside)


WINDOWS = (
    *(
        "..\\x",
        "a\\b",
        "C:\\x",
        "C:x",
        "a:stream",
        "a::$DATA",
        "con",
        "NUL.txt",
        "com1",
        "a/aux.py",
    ),
    *("x.", "x ", "a?b", 'a"b', "a\nb", "lpt9.log", "CONIN$"),
)
EVERYWHERE = ("../x", "/etc/passwd", "a/../b", "a//b", "a\0b", "", ".", "./x")


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_name_from_the_host_that_leads_out(name: str) -> None:
    with pytest.raises(SyncError, match="outside the destination"):
        _checked(name)


@pytest.mark.parametrize("name", WINDOWS)
def test_a_name_from_the_host_that_means_something_else_on_windows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remotedl.session.transfer.ON_WINDOWS", True)
    with pytest.raises(SyncError, match="cannot hold"):
        _checked(name)


@pytest.mark.parametrize("name", [*WINDOWS, *EVERYWHERE])
def test_the_syncs_own_disk_on_windows_takes_no_such_name(name: str) -> None:
    assert any(map(leads_elsewhere, name.split("/"))) or leads_elsewhere(name)


@pytest.mark.parametrize("name", ["a", "a.b", ".env", "com", "com10", "a b", "\xe9", "nul_"])
def test_ordinary_names_are_taken_on_windows(name: str) -> None:
    assert not leads_elsewhere(name)


class TestWhatTheConfigurationNames:
    """Looked at by its path, then swapped for a link before it is opened: the sync may do that."""

    @pytest.fixture
    def places(self, project: Path) -> Places:
        (project / "hosts.toml").write_text("")
        return Places(project, project / "hosts.toml")

    @pytest.mark.parametrize("above", ["", "conf/"])
    def test_env_file(self, places: Places, project: Path, outside: Path, above: str) -> None:
        if above:
            (project / "conf").symlink_to(outside)
        else:
            (project / "id").symlink_to(outside / "id")
        with pytest.raises(ConfigError):
            read_env_file(places, above + "id")

    @pytest.mark.timeout(20)
    def test_a_fifo_is_not_waited_for(self, places: Places, project: Path) -> None:
        os.mkfifo(project / "pipe")
        with pytest.raises((ConfigError, FolderUnusable)):
            read_env_file(places, "pipe")
        with pytest.raises((ConfigError, FolderUnusable)):
            places.read("project.requirements", "pipe")

    def test_a_swap_between_the_look_and_the_open(
        self, places: Places, project: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (project / "conf").mkdir()
        (project / "conf/id").write_text("A=1")
        find = Places.find

        def find_then_swap(self: Places, key: str, name: str) -> Path:
            found = find(self, key, name).resolve()
            (project / "conf").rename(project / "old")
            (project / "conf").symlink_to(outside)
            return found

        monkeypatch.setattr(Places, "find", find_then_swap)
        with pytest.raises((ConfigError, FolderUnusable)):
            read_env_file(places, "conf/id")

    def test_a_build_context(self, project: Path, outside: Path) -> None:
        (project / "Dockerfile").write_text("FROM scratch\n")
        (project / "sub").mkdir()
        (project / "sub/id").write_text("mine")
        (project / "link").symlink_to(outside / "id")
        order = local_order(project, "Dockerfile", ".", "", {})
        (project / "sub").rename(project.parent / "old")
        (project / "sub").symlink_to(outside)
        with pytest.raises(FolderUnusable, match="is a link to"):
            b"".join(context_tar(order.context))

    @pytest.mark.timeout(20)
    def test_a_dockerfile_that_is_a_fifo(self, project: Path) -> None:
        os.mkfifo(project / "Dockerfile")
        with pytest.raises(RemotedlError):
            local_order(project, "Dockerfile", ".", "", {})


@pytest.fixture(params=[True, False], ids=["descriptors", "paths"])
def below(request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch) -> Below:
    """As on POSIX and as on Windows."""
    monkeypatch.setattr(below_module, "_BY_DESCRIPTOR", request.param)
    return Below(project)


class TestBelow:
    def test_ordinary_files(self, below: Below, project: Path) -> None:
        below.make_folders("a/b")
        with below.write("a/b/new") as file:
            file.write(b"1")
        below.replace("a/b/new", "a/b/c", 5)
        with below.read("a/b/c") as file:
            assert file.read() == b"1"
        assert list(below.files()) == ["a/b/c"] and list(below.files("a")) == ["a/b/c"]
        assert (project / "a/b/c").stat().st_mtime_ns == 5
        below.remove("a/b/c")
        assert below.stat("a/b/c") is None and below.is_folder("a/b")

    @pytest.mark.parametrize("path", ["link/id", "file", "a/link/id", "dangling"])
    def test_no_link_is_followed(
        self, below: Below, project: Path, outside: Path, path: str
    ) -> None:
        (project / "a").mkdir()
        for link in (project / "link", project / "a/link"):
            link.symlink_to(outside)
        (project / "file").symlink_to(outside / "id")
        (project / "dangling").symlink_to(outside / "new")
        for attempt in (below.read, below.write):
            with pytest.raises(FolderUnusable, match="nothing is read or written"):
                attempt(path)
        if path != "dangling":
            with pytest.raises(FolderUnusable):
                below.make_folders(path + "/x")
        assert untouched(outside) and list(below.files()) == []

    @pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\0"])
    def test_nothing_leads_out(self, below: Below, path: str) -> None:
        for attempt in (below.read, below.write, below.stat, below.make_folders):
            with pytest.raises(FolderUnusable, match="no path below"):
                attempt(path)

    @pytest.mark.timeout(20)
    def test_what_is_no_file(self, below: Below, project: Path) -> None:
        os.mkfifo(project / "pipe")
        (project / "dir").mkdir()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(project / "sock"))
            for path in ("pipe", "sock", "dir"):
                for attempt in (below.read, below.write):
                    with pytest.raises((FolderUnusable, IsADirectoryError)):
                        attempt(path)
        assert list(below.files()) == []


def test_a_file_without_end_is_not_read(project: Path) -> None:
    (project / "big").write_bytes(b"x" * 100)
    with pytest.raises(FolderUnusable, match="more than 10 bytes"):
        read_plain(project / "big", project, limit=10)
