"""`up --via-laptop` with the native runtime: the way is there for the venv, and then it is gone."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.sshd import MakeSshd
from tests.lab_tests.session.conftest import MakeTrip
from tests.lab_tests.session.trip import double_venv

pytestmark = pytest.mark.timeout(120)

PYTHON = """\
#!/bin/sh
PATH=${PATH#*:}
case "$1" in */venv-*.py) cat >FOLDER/asked.json; exec python3 "$@" <FOLDER/asked.json;; esac
exec python3 "$@"
"""
"""The host's Python; what the maker of the venv is told is written down on the way."""
NO_WAY = "import os; print([k for k in os.environ if 'proxy' in k.lower()])"


def listening_shell(folder: Path) -> Path:
    folder.mkdir()
    (folder / "python3").write_text(PYTHON.replace("FOLDER", str(folder)))
    shell = folder / "shell"
    shell.write_text(f'#!/bin/sh\nPATH={folder}:$PATH; export PATH; exec /bin/bash "$@"\n')
    for program in ("python3", "shell"):
        (folder / program).chmod(0o755)
    return shell


def test_the_venv_is_made_through_the_laptop_and_the_services_know_nothing_of_it(
    make_trip: MakeTrip, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    shell = listening_shell(tmp_path / "bin")
    sshd = make_sshd(shell=shell)
    double_venv(sshd)
    trip = make_trip(sshd=sshd)
    up = trip.up("--via-laptop")
    assert len(re.findall("MB came through this laptop", up.text)) == 1
    proxy = json.loads((shell.parent / "asked.json").read_text())["proxy"]
    assert re.fullmatch(r"http://remotedl:\S+@127\.0\.0\.1:\d+", proxy)
    assert trip.laptop.run("run", "--", "python3", "-c", NO_WAY).stdout == "[]\n"
    home = sshd.home / ".remotedl"
    kept = subprocess.run(["grep", "-rlF", proxy, home], capture_output=True, text=True)
    assert kept.stdout == ""
    port = proxy.rpartition(":")[2]
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout
    assert f"127.0.0.1:{port} " not in listening, "the way is open still"
