"""Whole sessions for seconds: the real command, a real sshd, the native runtime, a bad link.

The venv of the native runtime is a double (host_double.py): everything else is what users run.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from remotedl.container.native import VENVS, _stack
from tests.lab.badlink import BadLink, MakeBadLink, login_over
from tests.lab.laptop import CHECKOUT, Command, Laptop
from tests.lab.sessions import Page, eventually
from tests.lab.sshd import MakeSshd, Sshd

VENV_PROGRAM = CHECKOUT / "remotedl/container/payload/venv.py"
FINGERPRINT = (
    "import json, runpy, sys; "
    "print(runpy.run_path(sys.argv[1])['fingerprint'](json.load(sys.stdin)))"
)
BACK_S = 40
"""Within which a session is back, on a machine that is busy with other tests."""


@dataclass
class Trip:
    """A laptop, a host, and the link between them."""

    sshd: Sshd
    link: BadLink
    laptop: Laptop
    _pids: set[int] = field(default_factory=set)

    def up(self, *options: str) -> Command:
        """In front, live."""
        command = self.laptop.start("up", "h1", "--no-open", *options)
        command.wait_for(r"token=")
        return command

    def up_in_background(self, *options: str) -> int:
        """`up -d`; the pid of the session's process, which is ended with the test."""
        self.laptop.run("up", "h1", "-d", "--no-open", *options)
        pid = int(self.status()["pid"])
        self._pids.add(pid)
        return pid

    def statuses(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.laptop.run("status", "--json").stdout)
        return found

    def status(self) -> dict[str, Any]:
        return self.statuses()[0]

    def is_live(self) -> bool:
        return bool(self.status()["phase"] == "live")

    def await_live(self) -> None:
        eventually(self.is_live, BACK_S)

    def await_gone(self) -> None:
        """Until the session has noticed that its link is gone."""
        eventually(lambda: self.status()["phase"] == "reconnecting", BACK_S)

    def page(self, name: str) -> Page:
        tunnel = next(t for t in self.status()["tunnels"] if t["name"] == name)
        return Page(f"http://127.0.0.1:{tunnel['port']}", "")

    @property
    def workdir(self) -> Path:
        return Path(self.status()["workdir"])

    def close(self) -> None:
        for pid in self._pids:
            kill_if_ours(pid)


def kill_if_ours(pid: int) -> None:
    """A session's process that a test left running."""
    try:
        process = psutil.Process(pid)
        if "remotedl" in process.cmdline():
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    except psutil.NoSuchProcess:
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
        return port


def double_venv(sshd: Sshd) -> None:
    """Put what looks like a finished venv where the native runtime looks for it."""
    asked = json.dumps({**asdict(_stack())})
    python = " ".join(["python3", "-c", f'"{FINGERPRINT}"', str(VENV_PROGRAM)])
    named = subprocess.run(
        sshd.login.ssh_argv(python), input=asked, capture_output=True, text=True, check=True
    )
    venv = sshd.home / VENVS / named.stdout.strip()
    (venv / "bin").mkdir(parents=True)
    program = venv / "bin" / "supervisord"
    double = Path(__file__).parent / "host_double.py"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {double} "$@"\n')
    program.chmod(0o755)
    (venv / ".complete").touch()


MakeTrip = Callable[..., Trip]


@pytest.fixture
def make_trip(make_sshd: MakeSshd, bad_link: MakeBadLink, tmp_path: Path) -> Iterator[MakeTrip]:
    """`make_trip(laptop=…, sshd=…, name="h1", jupyter={…})`: project settings as keywords."""
    made: list[Trip] = []

    def make(
        laptop: Laptop | None = None, sshd: Sshd | None = None, name: str = "h1", **settings: Any
    ) -> Trip:
        if sshd is None:
            sshd = make_sshd()
            double_venv(sshd)
        fresh = laptop is None
        laptop = laptop or Laptop(tmp_path / f"laptop{len(made)}")
        link = bad_link(sshd)
        laptop.know(name, login_over(link, sshd), runtime="native", gpus="none")
        if fresh:
            ports = {"jupyter": {"port": free_port()}, "tensorboard": {"port": free_port()}}
            laptop.settings(project={**ports, **settings})
            (laptop.folder / "hello.py").write_text("print('hello')\n")
        trip = Trip(sshd, link, laptop)
        made.append(trip)
        return trip

    yield make
    for trip in made:
        trip.close()
        trip.laptop.close()
        end_services(trip.sshd)


def end_services(sshd: Sshd) -> None:
    """The native runtime's keepers live on by design: those of this home are ended here."""
    for run in sshd.home.glob(".remotedl/run/*"):
        for program, verb in (("idle.py", "stop"), ("keep.py", "stop")):
            if (run / program).exists():
                subprocess.run(
                    [sys.executable, run / program, verb],
                    env={**os.environ, "HOME": str(sshd.home)},
                    check=False,
                    timeout=30,
                )


@pytest.fixture
def trip(make_trip: MakeTrip) -> Trip:
    """One laptop and one host."""
    return make_trip()
