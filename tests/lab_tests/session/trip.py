"""Whole sessions for seconds: the real command, a real sshd, the native runtime, a bad link.

The venv of the native runtime is a double (host_double.py): everything else is what users run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from remotedl.container.native import VENVS, _stack
from remotedl.session.errands import snapshot_of
from remotedl.session.registry import Record
from remotedl.session.status import Phase, Snapshot
from tests.lab.badlink import BadLink, login_over
from tests.lab.laptop import CHECKOUT, Command, Laptop
from tests.lab.sessions import Page, eventually
from tests.lab.sshd import Sshd

VENV_PROGRAM = CHECKOUT / "remotedl/container/payload/venv.py"
FINGERPRINT = (
    "import json, runpy, sys; "
    "print(runpy.run_path(sys.argv[1])['fingerprint'](json.load(sys.stdin)))"
)
BACK_S = 40
"""Within which a session is back, on a machine that is busy with other tests."""
REAL_TIME = bool(os.environ.get("REMOTEDL_REAL_TIME"))
FROZEN_S = 300.0 if REAL_TIME else 0.0
"""How long a frozen link stays so; 0: until it is noticed."""
ASLEEP_S = 60.0 if REAL_TIME else 8.0


@dataclass
class Trip:
    """A laptop, a host, and the link between them."""

    sshd: Sshd
    link: BadLink
    laptop: Laptop
    name: str = "h1"
    _pids: set[int] = field(default_factory=set)

    def up(self, *options: str) -> Command:
        """In front, live."""
        command = self.laptop.start("up", self.name, "--no-open", *options)
        command.wait_for(r"token=")
        return command

    def up_in_background(self, *options: str) -> int:
        """`up -d`; the pid of the session's process, which is ended with the test."""
        self.laptop.run("up", self.name, "-d", "--no-open", *options)
        pid = self.look().pid
        self._pids.add(pid)
        return pid

    def statuses(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.laptop.run("status", "--json").stdout)
        return found

    def status(self) -> dict[str, Any]:
        return next(one for one in self.statuses() if one["host"] == self.name)

    def page(self, name: str) -> Page:
        tunnel = next(t for t in self.status()["tunnels"] if t["name"] == name)
        return Page(f"http://127.0.0.1:{tunnel['port']}", "")

    @property
    def workdir(self) -> Path:
        return Path(self.look().workdir)

    def look(self) -> Snapshot:
        """As `status`, without a process of its own: for what is looked at often."""
        path = next(self.laptop.home.rglob(f"projects/*/{self.name}/session.json"))
        return snapshot_of(Record(**json.loads(path.read_text())))

    def await_phase(self, phase: Phase, limit_s: float = BACK_S) -> None:
        eventually(lambda: self.look().phase is phase, limit_s)

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


def new_trip(sshd: Sshd, link: BadLink, laptop: Laptop, name: str = "h1", **settings: Any) -> Trip:
    """`laptop` knows `sshd` over `link`; its project's settings, where they are the first."""
    fresh = not (laptop.folder / "hosts.toml").exists()
    laptop.know(name, login_over(link, sshd), runtime="native", gpus="none")
    if fresh:
        ports = {"jupyter": {"port": free_port()}, "tensorboard": {"port": free_port()}}
        laptop.settings(project={**ports, **settings})
        (laptop.folder / "hello.py").write_text("print('hello')\n")
    return Trip(sshd, link, laptop, name)


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


@contextlib.contextmanager
def whole_trip(folder: Path, **settings: Any) -> Iterator[Trip]:
    """A trip with all that belongs to it, for longer than one test."""
    sshd = Sshd(folder / "sshd")
    sshd.start()
    double_venv(sshd)
    link = BadLink((sshd.address, sshd.port))
    trip = new_trip(sshd, link, Laptop(folder / "laptop"), **settings)
    try:
        yield trip
    finally:
        trip.close()
        trip.laptop.close()
        end_services(sshd)
        link.close()
        sshd.kill()
