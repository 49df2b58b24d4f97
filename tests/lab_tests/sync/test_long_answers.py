"""Answers of the agent that are longer than a frame may be: the limits are a hundredth here."""

from __future__ import annotations

import unicodedata

import pytest

from remotedl.sync.agent import protocol
from tests.lab_tests.sync.folders import Folders, settled, tree

MANY = 400


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "PART", 10 << 10)
    monkeypatch.setattr(protocol, "FRAME_LIMIT", 40 << 10)


def test_history_and_undo_of_a_big_delete(folders: Folders) -> None:
    data = folders.laptop / "data"
    data.mkdir()
    for number in range(MANY):
        (data / f"image_{number:05}.jpg").write_text(str(number))
    before = tree(folders.laptop)
    sync = folders.live()
    settled(sync)
    for file in data.iterdir():
        file.unlink()
    settled(sync)
    displaced = [step for step in sync.history() if any(one.can_return for one in step.changes)]
    assert sum(len(step.changes) for step in displaced) >= MANY
    for step in displaced:
        sync.undo(step.id)
    settled(sync)
    assert tree(folders.laptop) == tree(folders.host) == before
    assert folders.run_errors == []


def test_names_in_decomposed_unicode(folders: Folders) -> None:
    for number in range(MANY):
        name = unicodedata.normalize("NFD", f"Überprüfungsgerät-{number}")
        (folders.host / name).write_text(str(number))
    folders.once()
    assert len(tree(folders.laptop)) == MANY
    assert folders.once().idle
    (folders.host / unicodedata.normalize("NFD", "Überprüfungsgerät-0")).write_text("later")
    assert folders.once().to_laptop.written == 1
    folders.assert_equal()


@pytest.mark.parametrize("side", ["laptop", "host"])
def test_long_paths(folders: Folders, side: str) -> None:
    root = folders.laptop if side == "laptop" else folders.host
    deep = root / ("d" * 190) / ("e" * 190)
    deep.mkdir(parents=True)
    for number in range(MANY):
        (deep / f"{'f' * 190}{number}").write_text(str(number))
    sync = folders.live()
    settled(sync)
    folders.assert_equal()
    for file in (root / ("d" * 190) / ("e" * 190)).iterdir():
        file.write_text("again")
    settled(sync)
    folders.assert_equal()
    assert folders.run_errors == []
