"""What `get --url --unpack` brings is a stranger's: it is written below its folder or nowhere."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from remotedl.container.spec import Folders
from remotedl.errors import SyncError
from remotedl.report import SILENT
from remotedl.session.payload import porter
from remotedl.session.transfer import Moved, fetch_over
from tests.support.local_remote import LocalRemote

Fetch = Callable[[str], Moved]


def tar_of(*entries: tuple[str, bytes | None, str]) -> bytes:
    """(name, content or None, link target) each; a target that is "device" is a device."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content, target in entries:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.CHRTYPE if target == "device" else tarfile.SYMTYPE
                entry.linkname = target
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content or b""))
    return packed.getvalue()


def zip_of(*entries: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    yield folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "home" / "data"


@pytest.fixture
def fetch(site: Path, data: Path, tmp_path: Path) -> Iterator[Fetch]:
    """`get --url --unpack` of a file of the site, into the data folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    folders = Folders(f"{tmp_path}/home/w", str(data), f"{tmp_path}/home/.remotedl/run/x")
    url = f"http://127.0.0.1:{server.server_port}"
    remote = LocalRemote(tmp_path)
    yield lambda name: fetch_over(remote, folders, f"{url}/{name}", None, SILENT, unpack=True)
    server.shutdown()
    server.server_close()


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_data_set_is_unpacked_into_a_folder_of_its_name(
    fetch: Fetch, site: Path, data: Path
) -> None:
    (site / "cats.tgz").write_bytes(tar_of(("cats/train/1.jpg", b"x", ""), ("cats/b c", b"", "")))
    moved = fetch("cats.tgz")
    assert moved.path == str(data / "cats")
    assert tree(data) == ["cats.tgz", "cats/b c", "cats/train/1.jpg"]
    assert fetch("cats.tgz").had == 1, "the second time nothing is done"
    (site / "dogs.zip").write_bytes(zip_of(("1.jpg", b"x"), ("more/2.jpg", b"y")))
    fetch("dogs.zip")
    assert tree(data / "dogs") == ["1.jpg", "more/2.jpg"]


ESCAPES = {
    "out by dots": tar_of(("../out", b"x", "")),
    "out by dots in the middle": tar_of(("a/../../out", b"x", "")),
    "an absolute path": tar_of(("/tmp/remotedl-archive-out", b"x", "")),
    "a file below a file": tar_of(("a", b"x", ""), ("a/b", b"x", "")),
    "the same file twice": tar_of(("a", b"x", ""), ("a", b"y", "")),
    "no archive": b"<html>not found</html>",
    "a damaged one": tar_of(("a", os.urandom(5000), ""))[:3000],
}


@pytest.mark.parametrize("content", ESCAPES.values(), ids=ESCAPES.keys())
def test_what_leads_out_or_is_damaged_leaves_nothing(
    fetch: Fetch, site: Path, data: Path, tmp_path: Path, content: bytes
) -> None:
    (site / "evil.tgz").write_bytes(content)
    with pytest.raises(SyncError):
        fetch("evil.tgz")
    assert tree(data) == ["evil.tgz"]
    assert not (data / "evil").exists() and not (data / "evil.remotedl-part").exists()
    assert not list(tmp_path.rglob("out")) and not Path("/tmp/remotedl-archive-out").exists()


def test_links_and_devices_are_left_out_and_lead_nowhere(
    fetch: Fetch, site: Path, data: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    planted = tar_of(
        ("l", None, str(outside)),
        ("l/x", b"planted", ""),
        ("null", None, "device"),
        ("ok", b"", ""),
    )
    (site / "links.tar.gz").write_bytes(planted)
    fetch("links.tar.gz")
    assert list(outside.iterdir()) == []
    assert tree(data / "links") == ["l/x", "ok"]
    assert not (data / "links/l").is_symlink()


def test_a_bomb_stops_before_the_disk_is_full(tmp_path: Path) -> None:
    packed = io.BytesIO(zip_of(("zeros", b"\0" * 50_000_000)))
    part = tmp_path / "bomb"
    part.mkdir()
    with (
        (tmp_path / "bomb.zip").open("w+b") as file,
        pytest.raises(ValueError, match="does not fit on the disk"),
    ):
        file.write(packed.getvalue())
        porter.unpack_into(str(part), file, 10_000_000)
    assert sum(path.stat().st_size for path in part.rglob("*")) <= 10_000_000
