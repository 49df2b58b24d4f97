"""A file that is saved on the laptop does not wait for bulk, whichever way that goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.sshd import Sshd
from tests.lab_tests.ssh.door import open_door
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import Folders, eventually, settled

MANY = int(os.environ.get("REMOTEDL_BULK", "20000"))
SOON_S = 1.0
"""Half of the saves arrive sooner, even while other tests keep the machine busy; on one that is
idle nearly all take less than a third of it. Behind the bulk they would take its time."""


@pytest.fixture
def linked(make_folders: MakeFolders, sshd: Sshd) -> Iterator[Folders]:
    door = open_door(sshd.login)
    folders = make_folders(remote=door)
    folders.host, folders.remote_root = sshd.home / "bulk", "~/bulk"
    yield folders
    folders.close()
    door.close()
    shutil.rmtree(sshd.home / "bulk", ignore_errors=True)


UNPACK = """
import os, sys
for number in range(int(sys.argv[2])):
    folder = f"{sys.argv[1]}/data/{number // 1000}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/f{number}.txt", "w") as file:
        file.write(f"{number} " * 40)
"""
"""As unzip does: one file after the other, in some folders."""


def arrives(saved: Path, there: Path, number: int) -> float:
    """How long a save takes to be seen on the other side."""
    text = f"version {number}"
    began = time.monotonic()
    beside = saved.with_suffix(".tmp")
    beside.write_text(text)
    beside.replace(saved)
    eventually(lambda: there.read_text() == text, 60)
    return time.monotonic() - began


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", ["down", "up"])
def test_saves_overtake_many_files(linked: Folders, way: str) -> None:
    source, target = linked.laptop, linked.host
    if way == "down":
        source, target = target, source
    (linked.laptop / "src").mkdir()
    saved, there = linked.laptop / "src" / "train.py", linked.host / "src" / "train.py"
    saved.write_text("version")
    live = linked.live()
    settled(live)
    bulk = subprocess.Popen([sys.executable, "-c", UNPACK, str(source), str(MANY)])
    took = []
    began = time.monotonic()

    last = target / "data" / str((MANY - 1) // 1000)
    while bulk.poll() is None or len(list(last.glob("*"))) < MANY % 1000 or live.status().pending:
        took.append(arrives(saved, there, len(took)))
        time.sleep(0.1)
        assert time.monotonic() - began < 300
    took.sort()
    p50, p95 = took[len(took) // 2], took[int(len(took) * 0.95)]
    print(
        f"{MANY} files {way} in {time.monotonic() - began:.1f} s, {len(took)} saves: "
        f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, most {took[-1] * 1000:.0f} ms"
    )
    live.flush(60)
    linked.assert_equal()
    assert live.status().conflicts == ()
    assert p50 < SOON_S
    assert linked.run_errors == []
