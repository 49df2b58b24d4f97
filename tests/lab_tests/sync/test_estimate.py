"""A dry run over two real folders: figures, and nothing changed."""

from __future__ import annotations

from remotedl.sync.estimate import Way
from remotedl.sync.verdict import Where
from tests.lab_tests.sync.folders import Folders, tree


def test_a_dry_run_says_what_would_move_and_moves_nothing(folders: Folders) -> None:
    (folders.laptop / "moved").write_bytes(b"m" * 5000)
    folders.once()
    (folders.laptop / "moved").rename(folders.laptop / "renamed")
    (folders.laptop / "big").write_bytes(b"b" * 300_000)
    (folders.host / "down").write_bytes(b"d" * 7000)
    before = tree(folders.laptop), tree(folders.host)
    sync = folders.open()
    verdict, found, halt = sync.estimate()
    assert halt is None
    assert found.to_remote == Way(files=2, folders=0, deleted=1, bytes=300_000)
    assert found.to_laptop == Way(files=1, folders=0, deleted=0, bytes=7000)
    assert [(item.path, item.where) for item in found.largest] == [
        ("big", Where.REMOTE),
        ("down", Where.LAPTOP),
    ]
    assert found.seconds is not None and 0 < found.seconds < 5
    assert (tree(folders.laptop), tree(folders.host)) == before
    assert len(verdict.to_remote) == 3 and sync.cycle().to_remote.written == 2


def test_what_was_sent_is_counted_as_what_is_there(folders: Folders) -> None:
    (folders.laptop / "src" / "deep").mkdir(parents=True)
    (folders.laptop / "src" / "deep" / "a.py").write_text("one")
    (folders.laptop / "src" / "to-a").symlink_to("deep/a.py")
    sync = folders.make()
    assert sync.open().laptop_files == sync.cycle().to_remote.written == 2
