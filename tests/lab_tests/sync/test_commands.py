"""`remotedl sync …` as it is typed: the real command over a real sshd, no engine needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remotedl.errors import SessionError, SyncPaused
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
    said = place.laptop.run("sync", "history").stdout
    assert "on the host\n" in said and "on the remote" not in said


def test_the_sync_alone_always_says_how_it_stands(place: Place) -> None:
    place.sync("--once")
    (place.here / "b").write_text("laptop's")
    (place.there / "b").write_text("host's")
    nobody = place.laptop.run("sync", "status", check=False)
    assert "next: remotedl sync, or with container and tunnels: remotedl up h1" in nobody.stderr
    command = place.laptop.start("sync")
    command.wait_for(r"0 pending · .* · 1 conflict · 0 frozen · watching")
    command.wait_for(r"changed on both sides: b \(next: remotedl sync conflicts --diff\)")
    (place.there / "b").unlink()
    command.wait_for(r"in step · 0 pending · .* · 0 conflicts")
    command.interrupt()
    assert command.wait() == 130
    assert (place.there / "b").read_text() == "laptop's"


def test_once_says_why_a_path_is_not_in_step_and_what_mends_it(place: Place) -> None:
    place.sync("--once")
    for side in (place.here, place.there):
        (side / "c").write_text(side.name)
    (place.here / "A.txt").write_text("one")
    (place.there / "A.txt").mkdir()
    os.mkfifo(place.here / "pipe")
    (place.there / "pipe").write_text("a file there")
    told = place.laptop.run("sync", "--once", check=False)
    assert told.code == 60
    assert "conflict  c: created on both sides  next: remotedl sync resolve c" in told.stdout
    assert "frozen    pipe: left alone, unsupported on the laptop  next: " in told.stdout
    assert "next: remotedl sync conflicts --diff" in told.stderr
    rows = {row["path"]: row for row in place.sync("--once", code=60)["troubles"]}
    assert rows["pipe"]["kind"] == "frozen" and ".remotedlignore" in rows["pipe"]["mend"]
    for path in ("c", "A.txt"):
        place.sync("resolve", path, "--laptop", code=0)
    last = place.laptop.run("sync", "--once", check=False)
    assert last.stderr.endswith("not all is in step; next: remotedl sync flush\n")
    (place.here / "pipe").unlink()
    assert place.sync("flush")["clean"]


@pytest.mark.timeout(120)
def test_resolve_means_what_is_typed_and_says_when_it_is_not_done(place: Place) -> None:
    (place.here / ".remotedlignore").write_text("*.tmp\n")
    place.sync("--once")
    for side, word in ((place.here, "laptop's"), (place.there, "host's")):
        (side / "c.txt").write_text(word)
        (side / "sub").mkdir()
        (side / "sub" / "f").write_text(word)
    (place.here / "d").write_text("a file")
    (place.there / "d").mkdir()
    (place.there / "d" / "a").write_text("in a folder")
    (place.there / "d" / "x.tmp").write_text("ignored")
    assert place.sync("resolve", str(place.here / "c.txt"), "--both")["path"] == "c.txt"
    (copy,) = [path.name for path in place.there.glob("c.conflict-host-*")]
    for side in (place.here, place.there):
        assert (side / "c.txt").read_text() == "laptop's"
        assert (side / copy).read_text() == "host's"
    inside = place.laptop.run("sync", "resolve", "d/a", "--laptop", check=False)
    assert inside.code == 2 and "remotedl sync resolve d --laptop" in inside.stderr
    blocked = place.laptop.run("sync", "resolve", "d", "--laptop", check=False)
    assert blocked.code == 60, blocked.text
    assert "d is not resolved: left alone, holds-ignored on the host: d" in blocked.stderr
    (place.here / ".remotedlignore").write_text("*.tmp\n*.conflict-*\n")
    refused = place.laptop.run("sync", "resolve", "./sub/f", "--both", check=False)
    assert refused.code == 60
    assert "sub/f is not resolved: the name of the host's copy" in refused.stderr
    assert place.sync("resolve", "./sub/f", "--remote")["path"] == "sub/f"
    assert (place.here / "sub" / "f").read_text() == "host's"


@pytest.mark.timeout(120)
def test_the_sync_alone_is_asked_from_a_second_terminal(place: Place) -> None:
    place.sync("--once")
    for side, word in ((place.here, "laptop's"), (place.there, "host's")):
        (side / "b").write_text(word)
        (side / "c").write_text(word)
    alone = place.laptop.start("sync")
    alone.wait_for("2 conflicts|b, c")
    assert place.sync("status")["conflicts"] == ["b", "c"]
    assert [row["path"] for row in place.sync("conflicts", "--diff")] == ["b", "c"]
    place.sync("resolve", "b", "--laptop")
    assert (place.there / "b").read_text() == "laptop's"
    place.sync("undo")
    assert (place.here / "b").read_text() == "host's"
    assert place.sync("history")[0]["changes"]
    place.sync("resolve", "c", "--remote")
    (place.here / "d").write_text("flushed")
    assert place.sync("flush")["clean"]
    assert (place.there / "d").read_text() == "flushed"
    assert place.sync("--once")["clean"]
    place.sync("pause")
    (place.here / "waits").write_text("for resume")
    for words in (["--once"], ["flush"], ["resolve", "c", "--both"], ["undo"]):
        refused = place.laptop.run("sync", *words, check=False)
        assert refused.code == SyncPaused.exit_code, refused.text
        assert "the sync is paused\n  next: remotedl sync resume" in refused.stderr
    assert place.sync("--dry-run")["to_remote"][0]["path"] == "waits"
    assert place.sync("status")["paused"] and place.sync("status")["pending"] == 1
    assert not (place.there / "waits").exists()
    place.sync("resume")
    (told,) = json.loads(place.laptop.run("status", "--json").stdout)
    assert (told["phase"], told["container"], told["tunnels"]) == ("live", None, [])
    assert "live: the sync alone" in place.laptop.run("status").stdout
    up = place.laptop.run("up", "--no-open", check=False)
    assert up.code == SessionError.exit_code
    assert f"only the sync of project with h1 runs (process {alone.pid})" in up.stderr
    assert f"kill {alone.pid}; then remotedl up" in up.stderr
    second = place.laptop.run("sync", check=False)
    assert f"runs already (process {alone.pid})" in second.stderr
    attached = place.laptop.start("attach")
    attached.wait_for(r"\[live\] the sync alone")
    os.kill(alone.pid, signal.SIGTERM)
    attached.wait_for("the session has ended: remotedl sync comes back to it")
    assert alone.wait() == 130
    assert json.loads(place.laptop.run("status", "--json").stdout) == []


@pytest.mark.timeout(120)
def test_the_sync_alone_comes_back_after_a_lost_link_and_a_killed_agent(place: Place) -> None:
    place.sync("--once")
    alone = place.laptop.start("sync")
    alone.wait_for("in step")
    place.server.kill()
    alone.wait_for(r"the link is lost: .*coming back")
    told = json.loads(place.laptop.run("status", "--json").stdout)
    assert told[0]["phase"] == "reconnecting"
    assert "waits for the link" in place.laptop.run("sync", "status").stdout
    (place.here / "meanwhile").write_text("one")
    place.server.start()
    alone.wait_for(r"the sync is back: 1 sent, 0 fetched")
    assert (place.there / "meanwhile").read_text() == "one"
    (agent,) = [one for one in place.server.processes() if "agent-" in " ".join(one.cmdline())]
    agent.kill()
    alone.wait_for(r"agent .* ended")
    alone.wait_for(r"the sync is back: 0 sent, 0 fetched")
    (place.here / "after").write_text("two")
    assert place.sync("flush")["clean"]
    assert (place.there / "after").read_text() == "two"


@pytest.mark.timeout(120)
def test_a_halt_is_let_pass_in_a_running_sync_and_a_refused_one_changes_nothing(
    place: Place,
) -> None:
    (place.here / "thesis.tex").write_text("a hundred pages")
    place.sync("--once")
    alone = place.laptop.start("sync")
    alone.wait_for("in step")
    there, away = place.there, place.server.home / "away"
    there.rename(away)
    there.mkdir()
    alone.wait_for(r"warning: the host's folder is not the one of the last sync")
    assert "root-replaced" in place.sync("status")["remedies"][0][1]
    refused = place.laptop.run("sync", "--once", "--allow", "root-missing", check=False)
    assert refused.code == 61 and "--allow root-replaced" in refused.stderr
    there.rmdir()
    away.rename(there)
    alone.wait_for(r"goes on")
    (place.here / "new").write_text("new")
    assert place.sync("flush")["clean"]
    assert (there / "new").read_text() == "new"
    there.rename(away)
    there.mkdir()
    alone.wait_for(r"(?s)goes on.*the host's folder is not the one of the last sync")
    assert place.sync("--once", "--allow", "root-replaced")["clean"]
    assert (there / "thesis.tex").read_text() == "a hundred pages"
    (place.here / "newer").write_text("newer")
    assert place.sync("flush")["clean"]
    assert (there / "newer").read_text() == "newer"


@pytest.mark.timeout(120)
def test_a_halt_that_is_met_on_the_way_back_is_let_pass_as_well(place: Place) -> None:
    (place.here / "thesis.tex").write_text("a hundred pages")
    place.sync("--once")
    alone = place.laptop.start("sync")
    alone.wait_for("in step")
    there = place.there
    place.server.kill()
    shutil.rmtree(there)
    place.server.start()
    alone.wait_for(r"warning: the host's folder is not there: .* --allow root-missing")
    said = place.laptop.run("sync", "status").stdout
    assert "reconnecting: the host's folder is not there" in said
    assert place.sync("--once", "--allow", "root-missing")["clean"]
    assert (there / "thesis.tex").read_text() == "a hundred pages"
    alone.wait_for(r"the sync is back: 2 sent, 0 fetched")
    assert alone.text.count("is not there") == 1, "it is told once"


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
