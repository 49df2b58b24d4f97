"""There is one way to the terminal, and it spells out what a terminal would obey."""

from __future__ import annotations

import ast
from pathlib import Path

from remotedl.cli import say

CLI = Path(say.__file__).parent


def test_nothing_else_writes_to_the_terminal() -> None:
    """Whoever prints by another way does so here, with the reason."""
    allowed = {
        "say.py": "the way itself",
        "exits.py": "shown_message, where nothing may be imported early",
        "prompt.py": "shown_message without the end of the line",
        "events.py": "JSON spells out what is not ASCII",
        "terminal.py": "`shell`: a terminal of the host's, as with ssh",
    }
    for path in sorted(CLI.rglob("*.py")):
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        ]
        ways = {"print", "typer.echo", "typer.secho", "click.echo", "sys.stdout.write"}
        ways |= {"sys.stderr.write", "sys.stdout.buffer.write", "sys.stderr.buffer.write"}
        assert path.name in allowed or not ways & set(calls), f"{path}: use cli/say.py"
