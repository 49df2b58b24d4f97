"""Odd names and links on real files; filesystems that fold case or Unicode are played by a disk."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from remotedl.sync.agent.disk import At, Disk
from remotedl.sync.agent.tree import Issue
from remotedl.sync.remedies import shown_frozen
from tests.lab_tests.sync.conftest import MakeFolders
from tests.lab_tests.sync.folders import AgentInThread, Folders, settled, tree

NFC = unicodedata.normalize("NFC", "é")
NFD = unicodedata.normalize("NFD", "é")


def frozen(outcome: object) -> dict[str, Issue]:
    return {item.key: item.issue for item in outcome.frozen}  # type: ignore[attr-defined]


class FoldingDisk(Disk):
    """Looks names up without regard to case, as APFS and NTFS do by default."""

    def lstat(self, name: str, at: At) -> os.stat_result:
        return super().lstat(self._found(name, at), at)

    def open(self, name: str, flags: int, at: At, mode: int = 0o600) -> int:
        found = self._found(name, at)
        if flags & os.O_EXCL and found != name:
            raise FileExistsError(17, "exists", name)
        return super().open(found, flags, at, mode)

    def rename_new(self, name: str, at: At, new_name: str, new_at: At) -> None:
        taken = self._found(new_name, new_at)
        if taken != new_name:
            raise FileExistsError(17, "exists", new_name)
        super().rename_new(name, at, new_name, new_at)

    def mkdir(self, name: str, at: At, mode: int = 0o777) -> None:
        if self._found(name, at) != name:
            raise FileExistsError(17, "exists", name)
        super().mkdir(name, at, mode)

    def _found(self, name: str, at: At) -> str:
        wanted = name.casefold()
        return next((one for one in sorted(os.listdir(at)) if one.casefold() == wanted), name)


def test_names_with_newlines_255_bytes_and_not_utf8(folders: Folders) -> None:
    names = [
        b"line\nbreak",
        b"tab\tand space ",
        b"-rf",
        b"'quote\"$(id)`;&|",
        b"\\back\\slash",
        b"x" * 255,
        "ü".encode() * 127,
        b"not utf-8 \xff\xfe",
        b"\x01\x02\x7f",
        "emoji \U0001f41b".encode(),
        b".hidden",
        b"...",
    ]
    for here in (folders.laptop, folders.host):
        for name in names:
            folder = os.path.join(os.fsencode(here), b"from " + here.name.encode() + b"\n\xff")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, name), "wb") as file:
                file.write(name)
    assert folders.once().pending == 0
    folders.assert_equal()
    assert len(tree(folders.laptop)) == 2 * len(names) + 2
    for folder, _, files in os.walk(os.fsencode(folders.laptop)):
        if b".remotedl" not in folder:
            for name in files:
                os.unlink(os.path.join(folder, name))
    folders.once()
    folders.assert_equal()


def test_twins_by_unicode_form_are_frozen(folders: Folders) -> None:
    (folders.host / f"caf{NFC}").write_text("composed")
    (folders.host / f"caf{NFD}").write_text("decomposed")
    (folders.host / "other").write_text("goes on")
    outcome = folders.once()
    assert frozen(outcome) == {f"caf{NFC}": Issue.COLLIDING}
    (item,) = outcome.frozen
    assert item.spellings == (f"caf{NFD}", f"caf{NFC}")
    assert shown_frozen(item) == r"café (colliding on the host: 'cafe\u0301', 'caf\xe9')"
    assert sorted(tree(folders.laptop)) == ["other"]
    assert len(tree(folders.host)) == 3
    (folders.host / f"caf{NFD}").unlink()
    assert not folders.once().frozen
    assert (folders.laptop / f"caf{NFC}").read_text() == "composed"


def test_twins_by_unicode_form_are_spelled_out_while_live(folders: Folders) -> None:
    (folders.laptop / "dir").mkdir()
    (folders.laptop / "dir" / NFC).write_text("composed")
    sync = folders.live()
    (folders.laptop / "dir" / NFD).write_text("decomposed")
    assert [item.spellings for item in settled(sync).frozen] == [(f"dir/{NFD}", f"dir/{NFC}")]
    (folders.laptop / "dir" / NFC).unlink()
    assert settled(sync).frozen == ()
    assert tree(folders.host)["dir/" + NFC] == "- b'decomposed'"


def test_one_name_in_two_unicode_forms_is_one_file(folders: Folders) -> None:
    for side, form in ((folders.laptop, NFD), (folders.host, NFC)):
        (side / form).mkdir()
        (side / form / f"a{form}").write_text("one")
    (folders.laptop / "keep").touch()
    folders.once()
    assert (folders.host / NFC / f"a{NFC}").read_text() == "one"
    (folders.host / NFC / f"a{NFC}").write_text("two")
    folders.once()
    assert (folders.laptop / NFD / f"a{NFD}").read_text() == "two"
    assert len(tree(folders.laptop)) == 3
    (folders.laptop / NFD / f"a{NFD}").unlink()
    (folders.laptop / NFD).rmdir()
    folders.once()
    assert tree(folders.host).keys() == {"keep"}


def test_twins_by_case_are_frozen_where_a_side_cannot_hold_them(make_folders: MakeFolders) -> None:
    folders = make_folders(remote=AgentInThread(FoldingDisk()))
    (folders.laptop / "README").write_text("one")
    (folders.laptop / "readme").write_text("two")
    (folders.laptop / "other").write_text("goes on")
    outcome = folders.once()
    assert set(frozen(outcome)) == {"README", "readme"}
    assert sorted(tree(folders.host)) == ["other"]
    (folders.laptop / "readme").unlink()
    folders.once()
    folders.assert_equal()


def test_case_only_rename(make_folders: MakeFolders) -> None:
    folders = make_folders(remote=AgentInThread(FoldingDisk()))
    (folders.laptop / "Model.py").write_text("one")
    folders.once()
    (folders.laptop / "Model.py").rename(folders.laptop / "model.py")
    assert not folders.once().frozen
    assert sorted(tree(folders.host)) == ["model.py"]
    assert (folders.host / "model.py").read_text() == "one"


def test_case_twins_are_two_files_where_both_sides_hold_them(folders: Folders) -> None:
    (folders.laptop / "README").write_text("one")
    (folders.laptop / "readme").write_text("two")
    assert not folders.once().frozen
    folders.assert_equal()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "loop", "nowhere", "a/b"])
def test_links_are_copied_as_links(folders: Folders, target: str) -> None:
    """Absolute, escaping, looping, dangling: never followed, never refused."""
    (folders.laptop / "loop").symlink_to(target)
    folders.once()
    assert os.readlink(folders.host / "loop") == target
    (folders.host / "loop").unlink()
    (folders.host / "loop").symlink_to(target + "2")
    folders.once()
    assert os.readlink(folders.laptop / "loop") == target + "2"


def test_link_to_a_dir_is_not_entered(folders: Folders, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not ours")
    (folders.laptop / "data").symlink_to(outside)
    folders.once()
    assert os.readlink(folders.host / "data") == str(outside)
    assert tree(folders.host).keys() == {"data"}
    (folders.laptop / "data").unlink()
    folders.once()
    assert (outside / "secret").read_text() == "not ours"


class SwappingDisk(Disk):
    """Swaps a directory for a link at the worst moment: right before `call` number `at`."""

    def __init__(self, folder: Path, outside: Path) -> None:
        self.folder = folder
        self.outside = outside
        self.calls = 0
        self.swap_at = -1

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.swap_at:
            os.rename(self.folder, str(self.folder) + ".moved")
            os.symlink(self.outside, self.folder)

    def open_dir(self, name: str, at: At) -> At:
        self._count()
        return super().open_dir(name, at)

    def lstat(self, name: str, at: At) -> os.stat_result:
        self._count()
        return super().lstat(name, at)

    def rename_new(self, name: str, at: At, new_name: str, new_at: At) -> None:
        self._count()
        super().rename_new(name, at, new_name, new_at)

    def exchange(self, name: str, at: At, other: str, other_at: At) -> None:
        self._count()
        super().exchange(name, at, other, other_at)

    def open(self, name: str, flags: int, at: At, mode: int = 0o600) -> int:
        self._count()
        return super().open(name, flags, at, mode)


def test_a_link_swapped_in_during_apply(make_folders: MakeFolders, tmp_path: Path) -> None:
    """Wherever it is swapped in, nothing outside the root is touched, nothing inside is lost."""
    for swap_at in range(1, 60):
        outside = tmp_path / f"outside{swap_at}"
        outside.mkdir()
        (outside / "old").write_text("outside")
        folders = make_folders()
        (folders.laptop / "dir").mkdir()
        (folders.laptop / "dir" / "old").write_text("one")
        folders.once()
        disk = SwappingDisk(folders.host / "dir", outside)
        folders.remote = AgentInThread(disk)
        sync = folders.open()
        (folders.laptop / "dir" / "old").write_text("two")
        (folders.laptop / "dir" / "new").write_text("new")
        disk.swap_at = disk.calls + swap_at
        sync.cycle()
        swapped = disk.calls >= disk.swap_at
        assert {path.name: path.read_text() for path in outside.iterdir()} == {"old": "outside"}
        folders.close()
        if not swapped:
            assert swap_at > 8
            return
    raise AssertionError("the swap never came too late")
