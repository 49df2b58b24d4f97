"""`python -m tests.side_by_side [PYTEST_OPTIONS]`: the whole suite as two runs of pytest at once.

Most of the time a lab test waits: for a package manager, a build, a boot. Two at once take little
more than half the time of one after the other. The second's output comes after the first's. With
`--in-turn` they run one after the other, which is how failures are tried once more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from tests.lab.engine import KEEP_DOCKERD, stop_idle_dockerd

TESTS = Path(__file__).parent
FIRST = ("container", "e2e", "images", "readme", "ssh")
"""Rooms of tests/lab_tests in the first run, with tests/hostile: the half that needs the built
images, filled up so that both take the same time. Whatever else there is goes into the second."""
NOTHING_TO_DO = 5
"""pytest's status where no test was selected."""


def main(argv: list[str]) -> int:
    in_turn = "--in-turn" in argv
    options = [word for word in argv if word != "--in-turn"]
    os.environ[KEEP_DOCKERD] = "1"
    with tempfile.TemporaryFile() as later:
        runs: list[subprocess.Popen[bytes]] = []
        for name, folders in halves().items():
            output = None if in_turn or not runs else later
            runs.append(_start(name, folders, options, output))
            if in_turn:
                runs[-1].wait()
        statuses = [run.wait() for run in runs]
        later.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(later.read())
        sys.stdout.flush()
    del os.environ[KEEP_DOCKERD]
    if os.geteuid() == 0:
        stop_idle_dockerd()
    harmless = {0, NOTHING_TO_DO} if in_turn else {0}
    return max((status for status in statuses if status not in harmless), default=0)


def halves() -> dict[str, list[str]]:
    """Every folder and file with tests, once."""
    lab = TESTS / "lab_tests"
    first = [*(lab / name for name in FIRST), TESTS / "hostile"]
    rooms = [folder for folder in sorted(lab.iterdir()) if any(folder.rglob("test_*.py"))]
    second = [room for room in rooms if room not in first]
    second += [TESTS / "contract", TESTS / "unit"]
    return {
        "images": [str(path) for path in first],
        "rest": [str(path) for path in second],
    }


def _start(
    name: str, folders: list[str], options: list[str], output: IO[bytes] | None
) -> subprocess.Popen[bytes]:
    cache = f"cache_dir={TESTS.parent / '.pytest_cache' / name}"
    argv = [sys.executable, "-m", "pytest", "-o", cache, *options, *folders]
    return subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT if output else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
