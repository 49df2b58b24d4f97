"""The agent's file on the host, and its compiled twin, damaged: as after a power cut."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from remotedl.errors import ProtocolError
from remotedl.sync.bundle import agent_bundle
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import Folders, eventually
from tests.support.local_remote import LocalRemote

Damage = Callable[[bytes], bytes]


def zero_page(data: bytes) -> bytes:
    at = len(data) // 3
    return data[:at] + bytes(4096) + data[at + 4096 :]


def is_sound(data: bytes) -> bool:
    return data[:2] == b"PK" and zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "big")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def over_process(make_folders: MakeFolders, home: Path) -> Folders:
    return make_folders(remote=LocalRemote(home))


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda data: bytes(len(data)), lambda data: data[: len(data) // 2], zero_page],
    ids=["empty", "zeroed", "halved", "one page zeroed"],
)
@pytest.mark.parametrize("twin", [False, True], ids=["the agent", "its compiled twin"])
def test_a_damaged_file_is_replaced_once(
    over_process: Folders, home: Path, damage: Damage, twin: bool
) -> None:
    folders = over_process
    (folders.laptop / "a").write_text("1")
    folders.once()
    place = home / ".remotedl" / "agent"
    eventually(lambda: list(place.glob("*.zip")))
    path = next(place.glob("*.zip" if twin else "*.pyz"))
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    (folders.laptop / "a").write_text("2")
    folders.once()
    assert (folders.host / "a").read_text() == "2"
    eventually(lambda: path.read_bytes() == whole if not twin else is_sound(path.read_bytes()))


def test_what_stays_damaged_is_said(
    over_process: Folders, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    put = LocalRemote.put

    def torn(self: LocalRemote, data: bytes, path: str, *, mode: int = 0o600) -> None:
        tries.append(path)
        put(self, zero_page(data), path, mode=mode)

    monkeypatch.setattr(LocalRemote, "put", torn)
    with pytest.raises(ProtocolError, match="did not start"):
        over_process.open()
    assert tries == [f".remotedl/agent/{agent_bundle().name}"]
