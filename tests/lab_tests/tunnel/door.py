"""How these tests log in: with the lab's own known_hosts and nothing of this machine's user."""

from __future__ import annotations

import os
from pathlib import Path

from remotedl.ssh import connect
from remotedl.ssh.connection import Connection
from remotedl.ssh.prompt import NOBODY
from tests.lab.login import Login
from tests.lab_tests.tunnel.far_end import until


def open_door(login: Login) -> Connection:
    return connect(
        login.host_config(),
        prompt=NOBODY,
        known_hosts=login.known_hosts,
        ssh_config=Path(os.devnull),
    )


def hastened(remote: Connection) -> Connection:
    """With its fast lane up, and so with every descriptor that it keeps open."""
    remote.hasten()
    lane = remote.lane
    assert lane is not None
    until(lambda: lane.ready or lane.trouble, "the system's ssh has logged in")
    assert lane.ready, lane.trouble
    return remote


class Listener:
    """A report that keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str, hint: str = "") -> None:
        self.warnings.append(text)

    def stage(self, name: str, detail: str = "") -> None: ...

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None: ...

    def output(self, line: str) -> None: ...
