"""A file that is open in Jupyter: what both edited is put down there, for Jupyter to merge."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from remotedl.errors import UsageError
from remotedl.session.sync_rows import sync_line, unmerged_row
from remotedl.sync.agent import opened
from remotedl.sync.lanes import Choice
from tests.lab_tests.sync.folders import Folders
from tests.lab_tests.sync.test_table import agree, trash

Opened = Callable[..., Any]


@contextmanager
def opening(host: Path, key: str, sign: str = "sign") -> Iterator[Path]:
    """As dockerfiles/base/jupyter/remotedl_documents.py says it."""
    folder = host / ".remotedl" / "open"
    folder.mkdir(exist_ok=True)
    with (folder / sign).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        file.write(os.fsencode(key))
        file.flush()
        yield folder / sign


def edit_both(folders: Folders) -> None:
    agree(folders, {"a.py": "one"})
    (folders.laptop / "a.py").write_text("laptop's")
    (folders.host / "a.py").write_text("typed in Jupyter")


def test_the_laptops_version_is_put_down_and_the_others_is_in_the_trash(folders: Folders) -> None:
    edit_both(folders)
    with opening(folders.host, "a.py"):
        assert folders.once().conflicts == ()
    assert (folders.host / "a.py").read_text() == "laptop's"
    assert trash(folders.host) == {b"typed in Jupyter"}
    (folders.host / "a.py").write_text("both, merged")
    folders.once()
    folders.assert_equal()


def test_what_is_open_elsewhere_or_no_more_is_a_conflict(folders: Folders) -> None:
    edit_both(folders)
    with opening(folders.host, "b.py") as other:
        dead = other.with_name("dead")
        dead.write_text("a.py")  # no lock: whoever wrote it is gone
        assert [one.key for one in folders.once().conflicts] == ["a.py"]
    assert not dead.exists()


def test_what_is_closed_in_the_last_moment_is_a_conflict(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the decision and the change nobody is left to merge."""
    edit_both(folders)
    with opening(folders.host, "a.py") as sign:
        real = opened._read

        def read(*arguments: Any) -> str | None:
            monkeypatch.setattr(opened, "_read", lambda *_: None)
            return real(*arguments)

        monkeypatch.setattr(opened, "_read", read)
        sync = folders.open()
        assert sync.cycle().pending == 1
        assert sign.exists()
    sync.cycle()
    assert (folders.host / "a.py").read_text() == "typed in Jupyter"
    assert [one.key for one in sync.status().conflicts] == ["a.py"]


def test_signs_that_are_none_change_nothing(folders: Folders) -> None:
    edit_both(folders)
    with opening(folders.host, "../../etc/passwd") as sign:
        os.mkfifo(sign.with_name("fifo"))
        sign.with_name("link").symlink_to("/etc/hostname")
        sign.with_name("folder").mkdir()
        assert [one.key for one in folders.once().conflicts] == ["a.py"]


def test_a_version_that_could_not_be_merged_is_listed_until_it_is_removed(
    folders: Folders,
) -> None:
    agree(folders, {"n/a.py": "lr = 1\n"})
    copy = "n/a.conflict-disk-1f2e3d4c.py"
    (folders.host / "n" / "a.py").write_text("lr = 2\n")
    (folders.host / copy).write_text("lr = 3\n")
    sync = folders.open()
    sync.cycle()
    assert sync.status().unmerged == (copy,)
    assert sync_line(sync.status(), "two-way-safe").conflicts == (copy,)
    assert unmerged_row(copy)["beside"] == "n/a.py"
    assert sync.compare(copy).lines == ("--- file", "+++ copy", "@@ -1 +1 @@", "-lr = 2", "+lr = 3")
    with pytest.raises(UsageError, match="kept beside its file") as refused:
        sync.resolve(copy, Choice.LAPTOP)
    assert refused.value.hint == f"take what you need into n/a.py, then: rm {copy}"
    (folders.laptop / copy).unlink()
    sync.cycle()
    assert sync.status().unmerged == ()
    folders.assert_equal()
