"""What the sync's commands promise by their options alone."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

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
