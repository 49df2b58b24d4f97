"""What goes wrong on the laptop: a killed or stopped session, Ctrl-C, another version, a full disk.

Every one of them is said plainly, loses nothing, and the next `up` reaches the same end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from remotedl.errors import FolderUnusable, SessionError, StateCorrupt, TunnelError
from remotedl.session.status import Phase
from tests.lab.sessions import eventually
from tests.lab_tests.session.conftest import MakeTrip
from tests.lab_tests.session.trip import Trip

pytestmark = pytest.mark.timeout(180)

STAGES = (r"\[connect\]", r"\[native\]", r"waiting for Jupyter", r"\[sync\]", r"\[tunnel\]")


def test_a_killed_background_process_is_no_session_and_up_comes_back(trip: Trip) -> None:
    pid = trip.up_in_background()
    before = trip.status()
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], 10)
    assert trip.statuses() == []
    trip.up_in_background()
    after = trip.status()
    assert after["pid"] != pid
    assert after["tunnels"] == before["tunnels"]  # the ports and, in the address, the token
    assert trip.page("Jupyter").get("/api").text == "{}"
    os.kill(after["pid"], signal.SIGKILL)
    eventually(lambda: "died; the container goes on" in trip.laptop.run("status").text)
    trip.laptop.run("down")
    assert "died" not in trip.laptop.run("status").text  # nothing goes on any more


def test_a_stopped_session_process_is_named_within_seconds(trip: Trip) -> None:
    pid = trip.up_in_background()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    told = trip.status()
    status = trip.laptop.run("status")
    down = trip.laptop.run("down", check=False)
    assert time.monotonic() - began < 30, "each took far more than the two seconds it waits"
    assert (told["phase"], told["pid"]) == ("silent", pid)
    assert down.code == SessionError.exit_code
    for said in (status.text, down.text):
        assert f"process {pid}" in said
        assert f"kill -CONT {pid}" in said
    os.kill(pid, signal.SIGCONT)
    trip.await_phase(Phase.LIVE)
    trip.laptop.run("down")
    assert trip.statuses() == []


def test_ctrl_c_at_each_stage_ends_in_order_and_up_goes_on(trip: Trip) -> None:
    for words in STAGES:
        up = trip.laptop.start("up", "h1", "--no-open")
        up.wait_for(words)
        up.interrupt()
        assert up.wait(30) == 130, up.text
        # At the last stage it may have been up a moment before.
        assert re.search("remotedl up (goes on from there|comes back to it)", up.text)
        assert "Traceback" not in up.text
        assert "internal error" not in up.text
    assert not list(trip.laptop.home.rglob("session.json"))
    trip.up()
    assert trip.page("Jupyter").get("/api").text == "{}"


def test_ctrl_c_on_a_background_up_ends_what_it_began(trip: Trip) -> None:
    up = trip.laptop.start("up", "h1", "-d", "--no-open")
    up.wait_for("waiting for Jupyter")
    children = psutil.Process(up.pid).children(recursive=True)
    assert children
    up.interrupt()
    assert up.wait(30) == 130
    assert psutil.wait_procs(children, 10)[1] == []
    assert trip.statuses() == []
    trip.up_in_background()
    assert trip.page("Jupyter").get("/api").text == "{}"


def test_a_state_folder_of_another_version_is_said_and_left_alone(trip: Trip) -> None:
    pid = trip.up_in_background()
    record = next(trip.laptop.home.rglob("session.json"))
    text = record.read_text()
    record.write_text(json.dumps({**json.loads(text), "format": 99}))
    for words in (["status"], ["down"], ["up", "--no-open"]):
        said = trip.laptop.run(*words, check=False)
        assert said.code == StateCorrupt.exit_code, said.text
        assert f"{record} was written by another version of remotedl" in said.text
        assert "next: " in said.text
    assert trip.laptop.run("jobs").code == 0  # needs no session
    assert psutil.pid_exists(pid)
    record.write_text(text)
    assert trip.look().phase is Phase.LIVE


def test_a_second_up_attaches_and_ctrl_c_leaves_the_session(trip: Trip) -> None:
    pid = trip.up_in_background()
    second = trip.laptop.start("up", "h1", "--no-open")
    second.wait_for(r"runs already: this is it(.|\n)*\[live\]")
    second.interrupt()
    assert second.wait(30) == 130
    assert "was changed since it began" not in second.text
    assert trip.status()["pid"] == pid
    config = trip.laptop.folder / "hosts.toml"
    config.write_text(config.read_text() + "\n")
    third = trip.laptop.run("up", "h1", "-d", "--no-open")
    assert "hosts.toml was changed since it began" in third.text
    refused = trip.laptop.run("up", "h1", "--gpus", "1", check=False)
    assert refused.code == SessionError.exit_code
    assert "count when one begins" in refused.text


def test_ports_that_are_taken_move_and_say_so(make_trip: MakeTrip) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        trip = make_trip(jupyter={"port": port})
        up = trip.up()
        jupyter = next(t for t in trip.status()["tunnels"] if t["name"] == "Jupyter")
        assert jupyter["port"] != port
        moved = f"port {port} is taken by another program: Jupyter is on {jupyter['port']}"
        assert up.text.count(f"warning: {moved}") == 1
        assert f":{jupyter['port']}/lab?token=" in up.stdout
        assert trip.page("Jupyter").get("/api").text == "{}"


def test_a_privileged_port_is_refused_before_anything_takes_time(make_trip: MakeTrip) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("this kernel lets everybody listen on port 80")
    trip = make_trip(jupyter={"port": 80})
    argv = [sys.executable, "-m", "remotedl", "up", "h1", "--no-open"]
    if os.geteuid() == 0:
        argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *argv]
    done = subprocess.run(
        argv,
        cwd=trip.laptop.folder,
        env=trip.laptop.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == TunnelError.exit_code
    assert "ports below 1024 are the administrator's" in done.stderr
    assert "[connect]" not in done.stderr
    assert trip.statuses() == []


def test_a_port_that_a_session_of_ours_has_is_named_as_such(make_trip: MakeTrip) -> None:
    trip = make_trip()
    pid = trip.up_in_background()
    port = next(t.port for t in trip.look().tunnels if t.name == "Jupyter")
    for option in (("-L", f"{port}:8888"), ("-D", f"{port}")):
        refused = trip.laptop.run("tunnel", "h1", *option, check=False)
        assert refused.code == TunnelError.exit_code
        name = f"Jupyter of the session of {trip.laptop.folder.name} with h1 (process {pid})"
        assert name in refused.text
        assert "remotedl down h1" in refused.text
    other = make_trip(laptop=trip.laptop, name="h2").up()
    told = [line for line in other.text.splitlines() if f"port {port} is " in line]
    assert len(told) == 1 and "is Jupyter of the session of" in told[0]
    assert f"end that session (down h1, in {trip.laptop.folder.name})" in told[0]


def test_a_port_that_the_host_refuses_names_the_way_on(trip: Trip) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = trip.laptop.run("tunnel", "h1", "-R", f"{port}:22", check=False)
    assert refused.code == TunnelError.exit_code
    assert f"next: remotedl tunnel h1 -R {port + 1}:127.0.0.1:22" in refused.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB for the state of the laptop."""
    folder = tmp_path / "state"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.lab
@pytest.mark.parametrize("room", [0, 40_960])
def test_a_full_disk_on_the_laptop(trip: Trip, small_disk: Path, room: int) -> None:
    """Full at once, and full when the sync wants to write down what it did."""
    state = {"REMOTEDL_STATE": str(small_disk)}
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    up = trip.laptop.start("up", "h1", "--no-open", env=state)
    assert up.wait(60) == FolderUnusable.exit_code, up.text
    assert str(small_disk) in up.text
    assert "df -h" in up.text
    filler.unlink()
    again = trip.laptop.start("up", "h1", "--no-open", env=state)
    again.wait_for(r"token=")
    there = next(trip.sshd.home.glob("remotedl/project-*")) / "hello.py"
    eventually(there.exists)
    assert (trip.laptop.folder / "hello.py").exists()
    again.interrupt()
    assert again.wait(30) == 130
