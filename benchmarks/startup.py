"""`remotedl --help` beside a Typer program of one command: what our imports cost.

Both are started as an installed script starts them: one import, one call.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.table import Row, in_turn

ROUNDS = 15
OURS = "import sys; from remotedl.cli import main; sys.argv[0] = 'remotedl'; main()"
TYPER = """
import typer
app = typer.Typer()

@app.command()
def greet(name: str, loud: bool = False) -> None:
    "Say hello."
    typer.echo(name)

app()
"""


def main() -> list[Row]:
    started(OURS)  # the first start writes the .pyc files
    started(TYPER)
    ours, peer = in_turn(ROUNDS, lambda: started(OURS), lambda: started(TYPER))
    return [Row("remotedl --help", ours, "ms", 1.3, "at most", peer, "one Typer command")]


def started(program: str) -> float:
    """ms from the start of the process to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, "--help"], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000
