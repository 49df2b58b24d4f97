"""`remotedl sync …` as it is typed: the real command over a real sshd, no engine needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.laptop import Laptop
from tests.lab.sshd import MakeSshd, Sshd


class Place:
    """A laptop's project and its folder on the host."""

    def __init__(self, laptop: Laptop, server: Sshd) -> None:
        self.laptop = laptop
        self.here = laptop.folder
        self.server = server

    @property
    def there(self) -> Path:
        (found,) = (self.server.home / "remotedl").glob("project-*")
        return found

    def sync(self, *argv: str, code: int = 0) -> Any:
        """Run it, with --json; what it printed."""
        command = self.laptop.run("sync", *argv, "--json", check=False)
        assert command.code == code, command.text
        return json.loads(command.stdout)


@pytest.fixture
def place(make_sshd: MakeSshd, tmp_path: Path) -> Iterator[Place]:
    laptop, server = Laptop(tmp_path / "laptop"), make_sshd()
    laptop.know("h1", server.login, runtime="native", gpus="none")
    yield Place(laptop, server)
    laptop.close()


def test_once_says_what_will_move_before_the_first_byte(place: Place) -> None:
    for number in range(12):
        (place.here / f"f{number}").write_bytes(b"x" * (1000 * number))
    told = place.laptop.run("sync", "--dry-run").stdout
    assert "to the host: 13 files; " in told and "to the laptop: nothing" in told
    assert "as measured just now" in told
    largest = told.split("the largest:\n")[1].splitlines()[:10]
    assert [line.split()[-1] for line in largest] == [f"f{n}" for n in range(11, 1, -1)]
    assert not (place.there / "f0").exists()
    plan = place.sync("--dry-run")
    assert plan["estimate"]["to_remote"]["files"] == 13
    assert plan["estimate"]["rate"] > 0 and plan["halt"] is None
    once = place.laptop.run("sync", "--once")
    assert "to the host: 13 files" in once.stderr
    assert once.stdout == "in step\n"
    assert (place.there / "f11").read_bytes() == b"x" * 11000
    again = place.sync("--once")
    assert again["clean"] and again["plan"]["estimate"]["to_remote"]["files"] == 0


def notebook(source: str) -> str:
    cell = {"cell_type": "code", "id": "c1", "metadata": {}, "outputs": [], "source": source}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_conflicts_resolve_history_and_undo(place: Place) -> None:
    place.sync("--once")
    for side, word in ((place.here, "laptop"), (place.there, "host")):
        (side / "a.ipynb").write_text(notebook(f"x = {word!r}"))
        (side / "b\x1b[2J.txt").write_text(f"{word}\n")
    (place.here / "not asked for").touch()
    assert len(place.sync("conflicts")) == 2
    assert not (place.there / "not asked for").exists(), "looking moves nothing"
    assert not place.sync("--once", code=60)["clean"]
    assert (place.there / "not asked for").exists()
    told = place.laptop.run("sync", "conflicts", "--diff").stdout
    assert "@@ code cell 1 @@\n-x = 'laptop'\n+x = 'host'" in told
    assert "b\\x1b[2J.txt: created on both sides" in told and "\x1b[2J" not in told
    assert "-laptop\n+host" in told
    found = {row["path"]: row for row in place.sync("conflicts", "--diff")}
    assert found["a.ipynb"]["diff"]["how"] == "notebook"
    assert place.sync("resolve", "a.ipynb", "--laptop", code=0)["choice"] == "laptop"
    assert "laptop" in (place.there / "a.ipynb").read_text()
    (step,) = [one for one in place.sync("history") if one["side"] == "remote"][:1]
    assert [one["path"] for one in step["changes"]] == ["a.ipynb"]
    assert step["changes"][0]["can_undo"]
    undone = place.sync("undo", step["id"], "--side", "remote")
    assert undone["back"] == ["a.ipynb"]
    assert "host" in (place.here / "a.ipynb").read_text()


def test_the_sync_alone_always_says_how_it_stands(place: Place) -> None:
    place.sync("--once")
    (place.here / "b").write_text("laptop's")
    (place.there / "b").write_text("host's")
    command = place.laptop.start("sync")
    command.wait_for(r"0 pending · .* · 1 conflicts · 0 frozen · watching")
    command.wait_for(r"changed on both sides: b \(next: remotedl sync conflicts --diff\)")
    (place.there / "b").unlink()
    command.wait_for(r"in step · 0 pending · .* · 0 conflicts")
    command.interrupt()
    assert command.wait() == 130
    assert (place.there / "b").read_text() == "laptop's"


def test_a_root_that_is_gone_is_let_pass_when_asked_for(place: Place) -> None:
    (place.here / "thesis.tex").write_text("a hundred pages")
    place.sync("--once")
    shutil.rmtree(place.there)
    halted = place.laptop.run("sync", "--once", check=False)
    assert halted.code == 61
    assert "--allow root-missing" in halted.stderr
    assert (place.here / "thesis.tex").exists()
    kind = halted.stderr.split("--allow ")[1].split()[0]
    assert place.sync("--once", "--allow", kind)["clean"]
    assert (place.there / "thesis.tex").read_text() == "a hundred pages"
    wrong = place.laptop.run("sync", "--once", "--allow", "everything", check=False)
    assert wrong.code == 2
    assert "root-missing" in wrong.stderr
