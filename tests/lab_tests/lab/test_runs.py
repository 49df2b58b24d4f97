"""Runs of the lab end without a trace, also killed ones, and leave each other alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.engine import docker
from tests.lab.run import LABEL, LabRun, reap, running

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

CHECKOUT = Path(__file__).parents[3]
START_AND_HANG = """\
import time
from tests.lab.host import Host, HostOptions
from tests.lab.run import LabRun
run = LabRun()
Host(run, "orphan", HostOptions(standin=False)).create()
print(run.id, flush=True)
time.sleep(600)
"""


def traces(run_id: str) -> list[str]:
    label = f"label={LABEL}={run_id}"
    return [
        *docker("ps", "-aq", "--filter", label).split(),
        *docker("volume", "ls", "-q", "--filter", label).split(),
        *docker("network", "ls", "-q", "--filter", label).split(),
    ]


def test_what_a_killed_run_left_is_reaped(lab_run: LabRun) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", START_AND_HANG], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    orphan = process.stdout.readline().strip()
    assert len(traces(orphan)) == 3
    assert orphan not in reap()  # it lives
    process.kill()
    process.wait(10)
    process.stdout.close()
    assert orphan in reap()
    assert traces(orphan) == []
    assert orphan not in running() and lab_run.id in running()


def test_two_runs_have_networks_of_their_own(lab_run: LabRun) -> None:
    other = LabRun()
    try:
        assert other.gateway != lab_run.gateway
        assert other.folder != lab_run.folder
    finally:
        other.close()
    assert traces(other.id) == [] and not other.folder.exists()
    assert traces(lab_run.id)


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 failed"), ("", "1 skipped")])
def test_a_skipped_lab_test_fails_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    file = tmp_path / "test_skips.py"
    file.write_text(
        "import pytest\n\n@pytest.mark.lab\ndef test_it() -> None:\n    pytest.skip('no reason')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.lab.plugin", "--rootdir", str(tmp_path),
         "-o", "markers=lab: x", str(file)],
        cwd=CHECKOUT, env={**os.environ, "CI": ci}, capture_output=True, text=True,
    )  # fmt: skip
    assert outcome in done.stdout, done.stdout + done.stderr
