"""get and put on real files, over a double of the host that runs commands on this machine."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from remotedl.container.spec import Folders
from remotedl.errors import FolderUnusable, SyncError
from remotedl.report import SILENT
from remotedl.session.transfer import PART, fetch_over, get_over, host_path, put_over
from tests.support.local_remote import LocalRemote

BIG = bytes(range(256)) * 20_000


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    home = tmp_path / "host"
    return Folders(str(home / "work"), str(home / "data"), str(home / ".remotedl/run/x"))


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[LocalRemote]:
    remote = LocalRemote()
    yield remote
    remote.close()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/data/a/b", "/h/data/a/b"),
        ("/data", "/h/data"),
        ("/workspace/x", "/h/work/x"),
        ("~/x", "/h/x"),
        ("~", "/h"),
        ("x.zip", "/h/data/x.zip"),
        ("/scratch/x/", "/scratch/x"),
        ("/database", "/database"),
    ],
)
def test_a_path_of_the_container_is_found_on_the_host(text: str, path: str) -> None:
    assert host_path(text, Folders("/h/work", "/h/data", "/h/.remotedl/run/x")) == path


def test_a_file_goes_there_and_comes_back_whole(
    tmp_path: Path, remote: LocalRemote, folders: Folders
) -> None:
    source = tmp_path / "näme with space.bin"
    source.write_bytes(BIG)
    source.chmod(0o755)
    moved = put_over(remote, folders, source, None, SILENT)
    there = Path(folders.data) / source.name
    assert there.read_bytes() == BIG
    assert there.stat().st_mode & 0o100
    assert (moved.files, moved.size, moved.path) == (1, len(BIG), str(there))
    back = tmp_path / "back.bin"
    get_over(remote, folders, source.name, back, SILENT)
    assert back.read_bytes() == BIG


def test_what_is_there_already_is_not_sent_again(
    tmp_path: Path, remote: LocalRemote, folders: Folders
) -> None:
    source = tmp_path / "a"
    source.write_bytes(BIG)
    put_over(remote, folders, source, None, SILENT)
    again = put_over(remote, folders, source, None, SILENT)
    assert (again.files, again.size, again.had) == (0, 0, 1)
    get_over(remote, folders, "a", tmp_path / "b", SILENT)
    assert get_over(remote, folders, "a", tmp_path / "b", SILENT).had == 1


def test_a_broken_off_transfer_goes_on_where_it_stopped(
    tmp_path: Path, remote: LocalRemote, folders: Folders
) -> None:
    source = tmp_path / "a"
    source.write_bytes(BIG)
    data = Path(folders.data)
    data.mkdir(parents=True)
    (data / f"a{PART}").write_bytes(BIG[:1_000_000])
    moved = put_over(remote, folders, source, None, SILENT)
    assert moved.size == len(BIG) - 1_000_000
    assert (data / "a").read_bytes() == BIG
    (tmp_path / f"b{PART}").write_bytes(BIG[:2_000_000])
    moved = get_over(remote, folders, "a", tmp_path / "b", SILENT)
    assert moved.size == len(BIG) - 2_000_000
    assert (tmp_path / "b").read_bytes() == BIG


def test_a_part_of_another_version_is_thrown_away(
    tmp_path: Path, remote: LocalRemote, folders: Folders
) -> None:
    source = tmp_path / "a"
    source.write_bytes(BIG)
    data = Path(folders.data)
    data.mkdir(parents=True)
    (data / f"a{PART}").write_bytes(b"x" * 1_000_000)
    put_over(remote, folders, source, None, SILENT)
    assert (data / "a").read_bytes() == BIG
    (tmp_path / f"b{PART}").write_bytes(b"y" * 500)
    get_over(remote, folders, "a", tmp_path / "b", SILENT)
    assert (tmp_path / "b").read_bytes() == BIG
    assert not list(tmp_path.rglob(f"*{PART}"))


def test_a_folder_with_odd_names_and_an_empty_file(
    tmp_path: Path, remote: LocalRemote, folders: Folders
) -> None:
    source = tmp_path / "set"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "new\nline").write_text("1")
    (source / "deep" / "er" / "empty").touch()
    (source / "link").symlink_to("/etc/passwd")
    assert put_over(remote, folders, source, "/data/", SILENT).files == 2
    there = Path(folders.data) / "set"
    assert (there / "deep" / "new\nline").read_text() == "1"
    assert not (there / "link").exists()
    (tmp_path / "out").mkdir()
    get_over(remote, folders, "/data/set", tmp_path / "out", SILENT)
    assert (tmp_path / "out" / "set" / "deep" / "er" / "empty").read_bytes() == b""


def test_a_missing_source_says_which(tmp_path: Path, remote: LocalRemote, folders: Folders) -> None:
    with pytest.raises(SyncError, match="no such file"):
        get_over(remote, folders, "/data/absent", tmp_path, SILENT)
    with pytest.raises(FolderUnusable, match="absent"):
        put_over(remote, folders, tmp_path / "absent", None, SILENT)


def test_a_host_that_names_files_outside_the_destination_is_refused(
    tmp_path: Path, folders: Folders
) -> None:
    class Liar(LocalRemote):
        """A double of a host whose porter lies about paths."""

        def start(self, argv, **more):  # type: ignore[no-untyped-def]
            said = '{"files": [{"path": "../evil", "size": 1, "mtime_ns": 0, "executable": false}]}'
            return super().start(["sh", "-c", f"echo '{said}'; cat"], **more)

    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(SyncError, match="outside the destination"):
        get_over(Liar(), folders, "/data/x", inner, SILENT)
    assert not (tmp_path / "evil").exists()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server on loopback that knows no ranges; its folder holds `cats.tgz`."""
    served = tmp_path / "web"
    served.mkdir()
    (served / "cats.tgz").write_bytes(BIG)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_host_downloads_by_itself(remote: LocalRemote, folders: Folders, web: str) -> None:
    moved = fetch_over(remote, folders, f"{web}/cats.tgz?x=1", None, SILENT)
    assert Path(moved.path) == Path(folders.data) / "cats.tgz"
    assert Path(moved.path).read_bytes() == BIG
    assert fetch_over(remote, folders, f"{web}/cats.tgz", "/data/cats.tgz", SILENT).had == 1


def test_an_old_part_is_no_harm_where_the_server_knows_no_ranges(
    remote: LocalRemote, folders: Folders, web: str
) -> None:
    Path(folders.data).mkdir(parents=True)
    (Path(folders.data) / f"cats.tgz{PART}").write_bytes(b"old")
    moved = fetch_over(remote, folders, f"{web}/cats.tgz", None, SILENT)
    assert Path(moved.path).read_bytes() == BIG


def test_a_download_that_does_not_exist_fails_at_once(
    remote: LocalRemote, folders: Folders, web: str
) -> None:
    with pytest.raises(SyncError, match="404"):
        fetch_over(remote, folders, f"{web}/absent", None, SILENT)
    with pytest.raises(SyncError, match="not a web address"):
        fetch_over(remote, folders, "file:///etc/passwd", None, SILENT)
