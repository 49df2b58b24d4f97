"""A merge is put into the live document as edits of what changed; a save overwrites nothing new."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("merge3", reason="make unit installs it")
pytest.importorskip("jupyter_server_documents", reason="make unit installs it")

import remotedl_replace
from jupyter_ydoc import YNotebook, YUnicode
from pycrdt import Doc
from remotedl_documents import live, put
from remotedl_replace import (
    EXPECTED,
    CarefulContentsManager,
    Expected,
    Unseen,
    is_being_written,
    keep_beside,
    look,
)


def test_text_is_edited_in_place_and_a_caret_stays() -> None:
    document = YUnicode()
    document.set("ä😀 first\nsecond")
    text = document.ydoc["source"]
    place = text.sticky_index(len("ä😀 first".encode()))
    put(document, "# laptop\nä😀 first\nsecond\n# ö", 1 << 52)
    assert document.get() == "# laptop\nä😀 first\nsecond\n# ö"
    with document.ydoc.transaction():
        assert place.get_index() == len("# laptop\nä😀 first".encode())


def test_what_is_on_its_way_from_a_keyboard_stays_with_its_word() -> None:
    """Both put text in at the same place, and neither knows of the other yet."""
    for client in (1, 2**31, 2**32 - 1):
        room = YUnicode()
        room.set("a wor")
        browser: Any = Doc(client_id=client)
        browser.apply_update(room.ydoc.get_update())
        typed = YUnicode(browser)
        browser["source"].insert(5, "d")
        put(room, "a wor\n# laptop", (1 << 52) + 7)
        room.ydoc.apply_update(browser.get_update())
        browser.apply_update(room.ydoc.get_update())
        assert room.get() == typed.get() == "a word\n# laptop"


def cell(key: str, source: str, **more: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": key,
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        **more,
    }


def book(*cells: dict[str, Any], minor: int = 5) -> dict[str, Any]:
    spec = {"kernelspec": {"name": "python3", "display_name": ""}, "language_info": {"name": ""}}
    return {"cells": list(cells), "metadata": spec, "nbformat": 4, "nbformat_minor": minor}


def test_cells_that_did_not_change_stay_the_same_objects() -> None:
    document = YNotebook()
    document.set(book(cell("a", "one"), cell("b", "two"), cell("c", "three")))
    seen: list[Any] = []
    running = document.ycells[1]
    running["execution_state"] = "running"
    document.ydoc.observe(lambda event: seen.append(event.update))
    out = {"output_type": "stream", "name": "stdout", "text": "1\n"}
    wanted = book(
        cell("new", "zero"),
        cell("a", "one"),
        cell("b", "two # laptop"),
        cell("d", "four", outputs=[out]),
    )
    put(document, wanted, 1 << 52)
    assert live(document) == wanted
    assert len(seen) == 1
    assert document.ycells[2]["execution_state"] == "running"
    running["outputs"].append(out)  # the one that the kernel's output still goes to
    assert document.get()["cells"][2]["outputs"] == [out]


def test_outputs_types_and_metadata_follow() -> None:
    document = YNotebook()
    document.set(book(cell("a", "one", metadata={"tags": ["x"]})))
    out = {"output_type": "stream", "name": "stdout", "text": "1\n"}
    wanted = book(cell("a", "one", outputs=[out], execution_count=2, metadata={"n": 1}))
    put(document, wanted, 1 << 52)
    assert live(document) == wanted
    text = {"cell_type": "markdown", "id": "a", "source": "# one", "metadata": {}}
    put(document, book(text), 1 << 52)
    assert live(document) == book(text)


def test_an_older_notebook_keeps_its_cells_apart_by_the_rooms_own_ids() -> None:
    plain = cell("", "one")
    del plain["id"]
    document = YNotebook()
    document.set(book(plain, minor=4))
    now = live(document)
    assert now["cells"][0]["id"]
    now["cells"][0]["source"] = "one # laptop"
    put(document, now, 1 << 52)
    assert document.get()["cells"][0]["source"] == "one # laptop"
    assert "id" not in document.get()["cells"][0]


# --- files


@pytest.fixture
def manager(tmp_path: Path) -> CarefulContentsManager:
    return CarefulContentsManager(root_dir=str(tmp_path))


def write(manager: CarefulContentsManager, expected: Expected, text: str) -> None:
    token = EXPECTED.set(expected)
    try:
        with manager.atomic_writing(expected.path, encoding="utf-8") as file:
            file.write(text)
    finally:
        EXPECTED.reset(token)


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    os.replace(new, path)


def files(path: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in path.parent.iterdir()}


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "by link"])
class TestReplacing:
    @pytest.fixture(autouse=True)
    def _filesystem(self, exchanges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if not exchanges:
            monkeypatch.setattr(remotedl_replace, "_exchange", lambda *_: False)

    def test_what_was_seen_is_replaced(
        self, tmp_path: Path, manager: CarefulContentsManager
    ) -> None:
        path = tmp_path / "a.py"
        path.write_text("old")
        path.chmod(0o751)
        expected = Expected(str(path), look(str(path)).digest)
        write(manager, expected, "new")
        assert files(path) == {"a.py": "new"}
        assert path.stat().st_mode & 0o777 == 0o751
        assert expected.written == look(str(path))

    def test_what_was_not_seen_stays(self, tmp_path: Path, manager: CarefulContentsManager) -> None:
        path = tmp_path / "a.py"
        path.write_text("old")
        expected = Expected(str(path), look(str(path)).digest)
        replace(path, "laptop")
        with pytest.raises(Unseen):
            write(manager, expected, "new")
        assert (files(path), expected.missed) == ({"a.py": "laptop"}, True)

    def test_what_comes_in_the_last_moment_stays(
        self, tmp_path: Path, manager: CarefulContentsManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After the last look, before the two change places."""
        path = tmp_path / "a.py"
        path.write_text("old")
        expected = Expected(str(path), look(str(path)).digest)
        _before(monkeypatch, "_swap", lambda: replace(path, "laptop"))
        with pytest.raises(Unseen):
            write(manager, expected, "new")
        assert files(path) == {"a.py": "laptop"}

    def test_a_file_that_went_away_is_not_made_anew_unseen(
        self, tmp_path: Path, manager: CarefulContentsManager
    ) -> None:
        path = tmp_path / "a.py"
        path.write_text("old")
        expected = Expected(str(path), look(str(path)).digest)
        path.rename(tmp_path / "b.py")
        with pytest.raises(Unseen):
            write(manager, expected, "new")
        assert files(path) == {"b.py": "old"}

    def test_a_new_file_overwrites_none(
        self, tmp_path: Path, manager: CarefulContentsManager
    ) -> None:
        path = tmp_path / "a.py"
        write(manager, Expected(str(path), None), "new")
        with pytest.raises(Unseen):
            write(manager, Expected(str(path), None), "newer")
        assert files(path) == {"a.py": "new"}

    def test_a_link_stays_one(self, tmp_path: Path, manager: CarefulContentsManager) -> None:
        path, link = tmp_path / "a.py", tmp_path / "link.py"
        path.write_text("old")
        link.symlink_to("a.py")
        write(manager, Expected(str(link), look(str(link)).digest), "new")
        assert link.is_symlink()
        assert path.read_text() == "new"


def test_what_a_program_writes_at_that_moment_stays_its_file(
    tmp_path: Path, manager: CarefulContentsManager
) -> None:
    path = tmp_path / "a.py"
    path.write_text("old")
    expected = Expected(str(path), look(str(path)).digest)
    assert not is_being_written(str(path))
    with path.open("a") as program:
        assert is_being_written(str(path))
        with pytest.raises(Unseen):
            write(manager, expected, "new")
        program.write(" and more")
    assert files(path) == {"a.py": "old and more"}
    with path.open("a") as program:
        kept = Expected(str(path), look(str(path)).digest, in_place=True)
        write(manager, kept, "new")
        program.write(" and more")
    assert files(path) == {"a.py": "new and more"}


def test_two_newer_versions_are_both_kept(
    tmp_path: Path, manager: CarefulContentsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.py"
    path.write_text("old")
    expected = Expected(str(path), look(str(path)).digest)
    real, calls = remotedl_replace._exchange, []

    def exchange(one: str, other: str) -> bool:
        calls.append(one)
        if len(calls) < 3:
            replace(path, f"laptop {len(calls)}")
        return real(one, other)

    monkeypatch.setattr(remotedl_replace, "_exchange", exchange)
    with pytest.raises(Unseen):
        write(manager, expected, "new")
    found = files(path)
    assert found.pop("a.py") == "laptop 2"
    assert list(found.values()) == ["laptop 1"]


def test_other_files_are_written_as_ever(tmp_path: Path, manager: CarefulContentsManager) -> None:
    path = tmp_path / "a.py"
    path.write_text("old")
    with manager.atomic_writing(str(path), encoding="utf-8") as file:
        file.write("new")
    assert files(path) == {"a.py": "new"}


def test_a_version_that_is_kept_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "no tes.ipynb"
    first = keep_beside(str(path), b"one")
    assert first.endswith("no tes.conflict-disk-7692c3ad.ipynb")
    assert keep_beside(str(path), b"one") == first
    assert keep_beside(first, b"two").endswith("no tes.conflict-disk-3fc4ccfe.ipynb")
    long = tmp_path / ("ä" * 120 + ".py")
    assert len(os.fsencode(Path(keep_beside(str(long), b"x")).name)) <= 255


def _before(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None]) -> None:
    real = getattr(remotedl_replace, name)

    def first(*arguments: Any) -> Any:
        act()
        return real(*arguments)

    monkeypatch.setattr(remotedl_replace, name, first)
