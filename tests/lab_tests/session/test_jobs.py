"""Jobs by the command line: their GPUs, their end on the desktop, Ctrl-C once and twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotedl.errors import SyncError, SyncPaused
from remotedl.session.status import Phase
from tests.lab.gpu import FILES, Gpu
from tests.lab.sessions import eventually
from tests.lab.sshd import MakeSshd
from tests.lab_tests.session.conftest import MakeTrip
from tests.lab_tests.session.trip import Trip, double_venv

pytestmark = pytest.mark.timeout(120)

SHOW = 'echo "sees: $CUDA_VISIBLE_DEVICES"'


@pytest.fixture(autouse=True)
def no_claims() -> Iterator[None]:
    """They lie in /tmp of the host, which is this machine here, and outlive a test by minutes."""
    yield
    for left in Path("/tmp").glob(".remotedl-claim-root_*"):
        left.unlink(missing_ok=True)


def gpu_host(folder: Path) -> Path:
    """A shell that has the lab's nvidia-smi on its PATH: two GPUs, the first one busy."""
    folder.mkdir()
    for name in ("card", "gpu.xml", "nvidia-smi"):
        text = (FILES / name).read_text().replace("/usr/lib/remotedl-lab-gpu", str(folder))
        (folder / name).write_text(text)
    (folder / "gpus").write_text(Gpu(0, used=70_000, utilisation=98).row() + Gpu(1).row())
    shell = folder / "shell"
    shell.write_text(f'#!/bin/sh\nPATH={folder}:$PATH; export PATH; exec /bin/bash "$@"\n')
    for program in ("nvidia-smi", "shell"):
        (folder / program).chmod(0o755)
    return shell


def test_a_job_gets_the_idlest_gpu_and_the_next_job_another(
    make_trip: MakeTrip, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    sshd = make_sshd(shell=gpu_host(tmp_path / "gpu"))
    double_venv(sshd)
    trip = make_trip(sshd=sshd)
    trip.up()
    first = ["run", "-d", "--no-after-sync", "--gpus", "1", "--", "sh", "-c", f"{SHOW}; sleep 60"]
    job = trip.laptop.run(*first).stdout.strip()
    assert holders(trip) == {0: set(), 1: {("claim", project_id(trip))}}
    second = trip.laptop.run("run", "--gpus", "1", "--", "sh", "-c", SHOW)
    assert second.stdout == f"sees: {Gpu(0).uuid}\n"  # the busy one: the idle one is given away
    assert f"sees: {Gpu(1).uuid}" in trip.laptop.run("logs", job).stdout
    assert trip.laptop.run("logs").stdout == second.stdout  # of the newest
    eventually(lambda: len(trip.status()["gpu_lines"]) == 2)
    assert "98 %" in trip.status()["gpu_lines"][0]
    assert trip.laptop.run("run", "--gpus", "none", "--", "sh", "-c", SHOW).stdout == "sees: \n"
    refused = trip.laptop.run("run", "--gpus", "3", "--", "true", check=False)
    assert "3 GPUs are asked for and the host has 2" in refused.text
    trip.laptop.run("stop", job)


def holders(trip: Trip) -> dict[int, set[tuple[str, str]]]:
    """By GPU: of which kind each holder is, and which project's."""
    rows = json.loads(trip.laptop.run("gpus", "h1", "--json").stdout)
    return {
        row["gpu"]["index"]: {(one["kind"], one["project"]) for one in row["holders"]}
        for row in rows
    }


def test_gpus_asked_for_by_number_are_claimed_and_given_back(
    make_trip: MakeTrip, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    """The native runtime: no container's label would tell the host's other users."""
    sshd = make_sshd(shell=gpu_host(tmp_path / "gpu"))
    double_venv(sshd)
    one, two = make_trip(sshd=sshd), make_trip(sshd=sshd)
    show = ("run", "--no-after-sync", "--", "sh", "-c", SHOW)
    one.up_in_background("--gpus", "1,")
    assert one.laptop.run(*show).stdout == "sees: 1\n"
    mine = {("claim", project_id(one))}
    assert holders(one) == {0: set(), 1: mine}

    # The idle one is claimed: who takes what is free gets the busy one, and who insists is told.
    two.up_in_background("--gpus", "auto:1")
    assert two.laptop.run(*show).stdout == "sees: 0\n"
    assert holders(two) == {0: {("claim", project_id(two))}, 1: mine}
    two.laptop.run("down", "h1")
    assert holders(two) == {0: set(), 1: mine}
    insists = two.laptop.run("up", "h1", "-d", "--no-open", "--gpus", "1,")
    assert "GPU 1 of 127.0.0.1 is not yours alone" in insists.text
    two.laptop.run("down", "h1")
    one.laptop.run("down", "h1")
    assert holders(one) == {0: set(), 1: set()}


def project_id(trip: Trip) -> str:
    text = (trip.laptop.folder / ".remotedl/project.toml").read_text()
    return str(tomllib.loads(text)["id"])


def desktop(folder: Path) -> Path:
    """A notify-send that writes down what it was given."""
    folder.mkdir()
    program = folder / "notify-send"
    program.write_text(f'#!/bin/sh\necho "$@" >>{folder}/shown\n')
    program.chmod(0o755)
    return folder


def test_the_end_of_a_job_is_told_on_the_desktop(trip: Trip, tmp_path: Path) -> None:
    """By the session where there is one, else by the command in front."""
    place = desktop(tmp_path / "desktop")
    shown = place / "shown"
    env = {"PATH": f"{place}:{os.environ['PATH']}"}
    up = trip.laptop.start("up", "h1", "--no-open", env=env)
    up.wait_for("token=")
    words = ["run", "--notify", "--no-after-sync", "--", "sh", "-c"]
    trip.laptop.start(*words, "exit 3", env=env).wait()
    trip.laptop.run("run", "--no-after-sync", "--", "true")  # nobody wants to know of this one
    eventually(shown.exists)
    assert re.search(r"remotedl: h1 job \S+ \(sh -c 'exit 3'\) failed with 3", shown.read_text())
    events = json.dumps(trip.status()["events"])
    assert "failed with 3" in events
    up.interrupt()
    up.wait()
    shown.unlink()
    trip.laptop.start(*words, "true", env=env).wait()
    eventually(shown.exists)
    assert "is done" in shown.read_text()
    detached = trip.laptop.run("run", "-d", *words[1:], "true")
    assert "no session runs that could tell" in detached.text


def test_ctrl_c_detaches_and_a_second_one_stops(trip: Trip) -> None:
    trip.up()
    run = trip.laptop.start("run", "--no-after-sync", "--", "sh", "-c", "echo on; sleep 600")
    run.wait_for("on\n")
    run.interrupt()
    said = run.wait_for(r"detached; the job goes on. Back: remotedl logs -f (\S+)")
    assert run.wait() == 130
    assert rows(trip)[said[1]] == "running"
    follow = trip.laptop.start("logs", "-f", said[1])
    follow.wait_for("on\n")
    follow.interrupt()
    follow.wait_for("detached")
    follow.interrupt()
    assert follow.wait() == 130
    assert rows(trip)[said[1]] == "exited"


def rows(trip: Trip) -> dict[str, str]:
    listed = json.loads(trip.laptop.run("jobs", "--json").stdout)
    return {row["id"]: row["state"] for row in listed}


def test_which_versions_of_the_files_a_job_saw(trip: Trip) -> None:
    """Live and without a session; a later edit changes nothing about it."""
    file = trip.laptop.folder / "model.py"
    up = trip.laptop.start("up", "h1", "--no-open")
    up.wait_for("token=")
    file.write_text("first")
    first = trip.laptop.run("run", "-d", "--", "true").stdout.strip()
    up.interrupt()
    up.wait()
    file.write_text("second")
    second = trip.laptop.run("run", "-d", "--", "true").stdout.strip()
    blind = trip.laptop.run("run", "-d", "--no-after-sync", "--", "true").stdout.strip()
    for job, text in ((first, b"first"), (second, b"second")):
        seen = trip.laptop.run("jobs", "--files", job).stdout
        assert f'{hashlib.sha256(text).hexdigest()} {len(text)} - "model.py"' in seen.splitlines()
    refused = trip.laptop.run("jobs", "--files", blind, check=False)
    assert (refused.code, "nobody noted its files" in refused.text) == (52, True)


def test_a_job_does_not_start_with_old_files_behind_a_pause(trip: Trip) -> None:
    trip.up_in_background()
    trip.laptop.run("sync", "pause")
    (trip.laptop.folder / "train.py").write_text("print('new')")
    refused = trip.laptop.run("run", "--", "cat", "train.py", check=False)
    assert refused.code == SyncPaused.exit_code
    assert "the sync is paused\n  next: remotedl sync resume; or start it" in refused.stderr
    assert "remotedl run --no-after-sync" in refused.stderr
    assert trip.laptop.run("run", "--no-after-sync", "--", "true").code == 0
    trip.laptop.run("sync", "resume")
    assert trip.laptop.run("run", "--", "cat", "train.py").stdout == "print('new')"


def test_a_job_does_not_start_with_other_files_than_the_saved_ones(trip: Trip) -> None:
    trip.up_in_background()
    code, there = trip.laptop.folder / "train.py", Path(trip.look().workdir) / "train.py"
    code.write_text("v0")
    trip.laptop.run("sync", "flush")
    trip.laptop.run("sync", "pause")
    code.write_text("mine")
    there.write_text("theirs")
    trip.laptop.run("sync", "resume")
    for how in ((), ("-d",)):
        refused = trip.laptop.run("run", *how, "--", "cat", "train.py", check=False)
        assert (refused.code, refused.stdout) == (SyncError.exit_code, "")
        assert "h1 does not have as saved: train.py (edited on both sides)" in refused.stderr
        assert "remotedl sync resolve train.py --laptop" in refused.stderr
        assert "remotedl run --no-after-sync" in refused.stderr
    assert trip.laptop.run("run", "--no-after-sync", "--", "cat", "train.py").stdout == "theirs"
    trip.laptop.run("sync", "resolve", "train.py", "--laptop")
    assert trip.laptop.run("run", "--", "cat", "train.py").stdout == "mine"


def test_without_a_link_the_jobs_are_told_as_they_were_seen_last(trip: Trip) -> None:
    """At once where the session knows of it; before that, it is said that it is waited."""
    trip.up_in_background()
    job = trip.laptop.run("run", "-d", "--no-after-sync", "--", "sleep", "600").stdout.strip()
    eventually(lambda: any(row["id"] == job for row in trip.look().jobs))
    trip.link.freeze()
    early = trip.laptop.start("jobs")
    early.wait_for("h1 has not answered yet: waiting", 10)
    trip.await_phase(Phase.RECONNECTING)
    late = trip.laptop.run("jobs", "--json", timeout_s=5)
    assert [(row["id"], row["state"]) for row in json.loads(late.stdout)] == [(job, "running")]
    assert re.search(
        r"there is no link to h1 \(.*\): this is how .* stood [\d.]+ s ago", late.stderr
    )
    assert early.wait(5) == 0 and f"{job}  running" in early.stdout
    trip.link.resume()
    trip.await_phase(Phase.LIVE)
    assert f"{job}: exited" in trip.laptop.run("stop", job).text
