"""A host changes what the laptop will have built there: no build takes it without a yes.

Attacks: dockerfile, requirements, copied-script, dockerignore-removed, new-file-in-context,
mix-with-own-edit, killed-before-recorded, yes-to-another-version. They must not reach: a build.
Real files, the real sync and its real database; only the terminal is played.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from remotedl.config.models import Config, LocalImage, ProjectConfig, RuntimeKind
from remotedl.errors import ConfigError, StateCorrupt
from remotedl.session.approvals import read_approvals
from remotedl.session.arrivals import ask_about_recipe
from remotedl.session.project import Project
from remotedl.sync.database import Database
from remotedl.sync.opening import DATABASE
from tests.lab_tests.sync.folders import Folders

DOCKERFILE = "FROM debian\nCOPY src /src\nRUN sh /src/setup.sh\n"
ID = "0" * 16


class Terminal:
    """Notes what it shows, and answers as it is told."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.said: list[str] = []
        self.asked = 0

    def confirm(self, question: str) -> bool:
        self.asked += 1
        return self.answer

    def secret(self, question: str) -> str | None:
        return None

    def stage(self, name: str, detail: str = "") -> None: ...

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None: ...

    def note(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str, hint: str = "") -> None:
        self.said.append(text)

    def output(self, line: str) -> None: ...


class Place:
    """A synced project whose image is its own Dockerfile."""

    def __init__(self, folders: Folders, state: Path) -> None:
        self.laptop, self.host = folders.laptop, folders.host
        folders.state = state / "projects" / ID / "h"
        self.sync = folders.once
        self.database = folders.state / DATABASE
        (self.laptop / "src").mkdir()
        for name, text in (
            ("Dockerfile", DOCKERFILE),
            ("src/setup.sh", "echo setup\n"),
            ("requirements.txt", "numpy\n"),
            (".dockerignore", "secret\n"),
            ("train.py", "print()\n"),
        ):
            (self.laptop / name).write_text(text)
        self.sync()

    def up(self, answer: bool = False, runtime: RuntimeKind = RuntimeKind.DOCKER) -> Terminal:
        """What `up` asks; raises ConfigError where it ends there."""
        terminal = Terminal(answer)
        wish = ProjectConfig(image=LocalImage(), requirements="requirements.txt")
        project = Project(self.laptop, ID, Config(project=wish), None)
        ask_about_recipe(project, runtime, terminal, terminal)
        return terminal


@pytest.fixture
def place(folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("REMOTEDL_STATE", str(tmp_path / "state"))
    return Place(folders, tmp_path / "state")


def test_who_works_alone_is_never_asked(place: Place) -> None:
    for text in ("FROM a\n", "FROM b\n"):
        (place.laptop / "Dockerfile").write_text(text)
        (place.host / "train.py").write_text(f"# edited in the container\n{text}")
        (place.host / "result.csv").write_text(text)
        place.sync()
        assert place.up().asked == 0


CHANGES: dict[str, Callable[[Path], object]] = {
    "Dockerfile": lambda host: (host / "Dockerfile").write_text(DOCKERFILE + "RUN evil\n"),
    "requirements.txt": lambda host: (host / "requirements.txt").write_text("numpy\nevil\n"),
    "src/setup.sh": lambda host: (host / "src" / "setup.sh").write_text("evil\n"),
    "src/new.sh": lambda host: (host / "src" / "new.sh").write_text("evil\n"),
    ".dockerignore": lambda host: (host / ".dockerignore").unlink(),
}


@pytest.mark.parametrize("known", [False, True], ids=["first-up", "later"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_from_the_host_needs_a_yes(place: Place, name: str, known: bool) -> None:
    if known:
        place.up()
    CHANGES[name](place.host)
    place.sync()
    with pytest.raises(ConfigError, match="nobody here said yes") as caught:
        place.up()
    assert name in caught.value.message
    yes = place.up(answer=True)
    assert yes.asked == 1
    assert any(name in line for line in yes.said)
    assert place.up().asked == 0, "once"


def test_the_change_is_shown_as_a_diff(place: Place) -> None:
    place.up()
    CHANGES["Dockerfile"](place.host)
    place.sync()
    assert "  +RUN evil" in place.up(answer=True).said
    assert "  +FROM debian" not in place.up(answer=True).said


def test_an_edit_of_ones_own_on_top_makes_it_no_more_trusted(place: Place) -> None:
    place.up()
    CHANGES["Dockerfile"](place.host)
    place.sync()
    text = (place.laptop / "Dockerfile").read_text()
    (place.laptop / "Dockerfile").write_text("# mine\n" + text)
    with pytest.raises(ConfigError):
        place.up()


def test_a_yes_holds_until_the_host_sends_another(place: Place) -> None:
    CHANGES["Dockerfile"](place.host)
    place.sync()
    place.up(answer=True)
    (place.laptop / "Dockerfile").write_text("FROM mine\n")
    place.sync()
    assert place.up().asked == 0
    (place.host / "Dockerfile").write_text("FROM evil\n")
    place.sync()
    with pytest.raises(ConfigError):
        place.up()
    (place.laptop / "Dockerfile").write_text("FROM mine\n")
    assert place.up().asked == 0, "the version that was built before is back"


def test_a_kill_between_file_and_record_hides_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.up()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    CHANGES["Dockerfile"](place.host)
    with monkeypatch.context() as patch:
        for name in ("record", "batch_arrived"):
            patch.setattr(Database, name, killed)
        with pytest.raises(KeyboardInterrupt):
            place.sync()
    assert "evil" in (place.laptop / "Dockerfile").read_text()
    place.sync()
    with pytest.raises(ConfigError):
        place.up()


def test_without_an_image_the_packages_count(place: Place) -> None:
    CHANGES["Dockerfile"](place.host)
    place.sync()
    assert place.up(runtime=RuntimeKind.NATIVE).asked == 0
    CHANGES["requirements.txt"](place.host)
    place.sync()
    with pytest.raises(ConfigError):
        place.up(runtime=RuntimeKind.NATIVE)


def test_damaged_records_are_no_yes(place: Place) -> None:
    place.up()
    path = read_approvals(Project(place.laptop, ID, Config(), None)).path
    path.write_text("{")
    with pytest.raises(StateCorrupt):
        place.up()
    path.unlink()
    with sqlite3.connect(place.database) as database:
        database.execute("DROP TABLE arrived")
    with pytest.raises(StateCorrupt):
        place.up()
