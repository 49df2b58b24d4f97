"""Many layers as a few lines: nothing runs backwards, seconds are no bytes."""

from __future__ import annotations

from remotedl.engine import LayerProgress
from remotedl.images.progress import LayerBoard
from remotedl.report import SILENT


class Seen:
    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float | None, str]] = []
        self.notes: list[str] = []

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        self.rows.append((what, done, total, unit))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def __getattr__(self, name: str) -> object:
        return getattr(SILENT, name)


def layer(
    name: str,
    status: str,
    current: float | None = None,
    total: float | None = None,
    unit: str = "B",
) -> LayerProgress:
    return LayerProgress(name, status, current, total, unit)


def shown(*events: LayerProgress) -> Seen:
    seen = Seen()
    board = LayerBoard("pulling x", seen)  # type: ignore[arg-type]
    for event in events:
        board(event)
    return seen


def test_the_total_is_told_once_every_layer_has_told_its_own() -> None:
    seen = shown(
        layer("a", "Pulling fs layer"),
        layer("b", "Pulling fs layer"),
        layer("c", "Already exists"),
        layer("a", "Downloading", 5, 10),
        layer("b", "Downloading", 1, 30),
        layer("a", "Download complete"),
        layer("b", "Downloading", 30, 30),
    )
    downloads = [row[1:3] for row in seen.rows if row[0] == "pulling x"]
    assert downloads == [(5, None), (6, 40), (11, 40), (40, 40)]


def test_unpacking_counts_layers() -> None:
    seen = shown(
        layer("a", "Pulling fs layer"),
        layer("b", "Pulling fs layer"),
        layer("a", "Extracting", 1, 10),
        layer("a", "Pull complete"),
        layer("b", "Pull complete"),
    )
    assert [row[1:] for row in seen.rows] == [
        (0, 2, "layers"),
        (1, 2, "layers"),
        (2, 2, "layers"),
    ]


def test_seconds_of_the_containerd_store_are_no_bytes() -> None:
    seen = shown(
        layer("a", "Pulling fs layer"),
        layer("a", "Downloading", 10, 10),
        layer("a", "Downloading", 3, None, "s"),
        layer("a", "Extracting", 3, None, "s"),
    )
    assert [row[1:] for row in seen.rows] == [(10, 10, "B"), (10, 10, "B"), (0, 1, "layers")]


def test_what_is_said_about_the_whole_is_a_note() -> None:
    seen = shown(layer("", "Status: Image is up to date for x"), layer("1.2", "Pulling from x"))
    assert seen.notes == ["Image is up to date for x"]
    assert seen.rows == []
