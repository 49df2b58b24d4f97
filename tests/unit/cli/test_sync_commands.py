"""What the sync's commands promise by their options alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from remotedl.cli import main
from remotedl.cli.commands.syncing import app


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_every_sync_command_has_json() -> None:
    group: Any = get_command(app)
    assert set(group.commands) == {
        *("status", "conflicts", "resolve", "undo", "history", "pause", "resume", "flush")
    }
    lacking = [name for name, one in group.commands.items() if "--json" not in options(one)]
    assert lacking == []
    assert {"--once", "--dry-run", "--allow", "--json"} <= options(group)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mybox"], 'no host "mybox"'),
        (["mybox", "--once"], 'no host "mybox"'),
        (["--once", "--allow", "mass-delete", "mybox"], 'no host "mybox"'),
        (["mybox", "status"], 'no host "mybox"'),
        (["--host", "mybox", "flush"], 'no host "mybox"'),
        (["status", "-H", "mybox"], 'no host "mybox"'),
        (["statsu"], "No such command 'statsu'. Did you mean 'status'?"),
    ],
)
def test_a_host_may_stand_before_the_command(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["remotedl", "sync", *words])
    with pytest.raises(SystemExit):
        main()
    assert said in capfd.readouterr().err
