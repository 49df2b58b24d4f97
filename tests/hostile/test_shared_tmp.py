"""Another user of the host puts things into /tmp, where claims of GPUs lie."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remotedl.provision.gpus import claim, look_at_gpus
from tests.support.local_remote import LocalRemote

TMP = Path("/tmp")
TOLD = {"gpus": ["0"], "until": int(time.time()) + 600, "project": "theirs", "user": "root"}


@pytest.fixture
def place() -> Iterator[Callable[[str], Path]]:
    """Paths where remotedl looks for claims; what was put there is gone afterwards."""
    mark = secrets.token_hex(6)
    yield lambda name: TMP / f".remotedl-claim-{mark}{name}.json"
    for left in TMP.glob(f".remotedl-claim-*{mark}*"):
        left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()


def seen(mark: str) -> list[tuple[str, str]]:
    began = time.monotonic()
    report = look_at_gpus(LocalRemote())
    assert time.monotonic() - began < 20
    return [(one.user, one.project) for one in report.claims if one.project.startswith(mark)]


def test_a_pipe_that_nobody_writes_to(place: Callable[[str], Path]) -> None:
    os.mkfifo(place("pipe"), 0o666)
    place("pipe").chmod(0o666)
    place("good").write_text(json.dumps(TOLD))
    assert seen("theirs") == [(getpass.getuser(), "theirs")]


def test_links_devices_and_folders(place: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(json.dumps(TOLD))
    place("link").symlink_to(tmp_path / "mine")
    place("zero").symlink_to("/dev/zero")
    place("folder").mkdir()
    place("big").write_bytes(b"x" * 5_000_000)
    place("empty").touch()
    assert seen("theirs") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_a_claim_in_somebody_elses_name(place: Callable[[str], Path]) -> None:
    place("forged").write_text(json.dumps(TOLD))
    os.chown(place("forged"), 65534, 65534)
    assert seen("theirs") == [("nobody", "theirs")]


def test_the_place_of_our_own_claim_is_taken(place: Callable[[str], Path]) -> None:
    """A pipe, a folder or a link where ours is written: nothing waits, nothing goes through it."""
    mark = place("x").name.split("-")[-1].removesuffix("x.json")
    mine = TMP / f".remotedl-claim-{getpass.getuser()}_{mark}.json"
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/full")):
        make(mine)
        until = int(time.time()) + 60
        began = time.monotonic()
        claim(LocalRemote(), ["0"], project=mark, user=getpass.getuser(), until=until)
        assert time.monotonic() - began < 5
        if mine.is_dir() and not mine.is_symlink():
            assert not list(mine.iterdir())
            mine.rmdir()
        else:
            assert mine.is_file() and not mine.is_symlink()
            mine.unlink()
        assert not list(TMP.glob(f".remotedl-claim-*{mark}*"))
