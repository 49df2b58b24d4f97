"""What the user said yes to: kept outside of the project, asked about once."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.config.models import Config, ProjectConfig
from remotedl.config.paths import state_dir
from remotedl.errors import ConfigError, StateCorrupt
from remotedl.report import SILENT
from remotedl.session.approvals import ask_about_mounts, read_approvals
from remotedl.session.project import Project


class Answers:
    """A prompt that says what it was given, and keeps what it was asked."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer

    def secret(self, question: str) -> str | None:
        return None


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REMOTEDL_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def project(*mounts: str) -> Project:
    config = Config(project=ProjectConfig(mounts=mounts))
    return Project(Path("/p"), "0" * 16, config, Path("/p/hosts.toml"))


def test_a_risky_mount_is_asked_about_once_on_each_host() -> None:
    yes = Answers(True)
    for host in ("a", "a", "b", "a"):
        ask_about_mounts(project("/etc:/e", "/mnt/x:/x"), host, yes, SILENT)
    assert [question.split()[3] for question in yes.asked] == ["a", "b"]
    ask_about_mounts(project("/etc:/e:ro"), "a", yes, SILENT)
    assert len(yes.asked) == 3, "another mount is another question"


def test_without_a_yes_nothing_is_mounted() -> None:
    with pytest.raises(ConfigError, match=r'mounts holds "/var/run/docker.sock:/s": .* root'):
        ask_about_mounts(project("/var/run/docker.sock:/s"), "a", Answers(False), SILENT)
    assert read_approvals(project()).mounts == {}


def test_it_is_kept_where_nobody_else_looks() -> None:
    ask_about_mounts(project("/etc:/e"), "a", Answers(True), SILENT)
    path = read_approvals(project()).path
    assert path.is_relative_to(state_dir())
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "mounts": {}, "files": {}}', '{"format": 1}']
)
def test_a_damaged_file_is_no_empty_one(text: str) -> None:
    ask_about_mounts(project("/etc:/e"), "a", Answers(True), SILENT)
    path = read_approvals(project()).path
    path.write_text(text)
    with pytest.raises(StateCorrupt, match="damaged"):
        read_approvals(project())
