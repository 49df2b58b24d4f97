"""How these tests log in: with the lab's own known_hosts and nothing of this machine's user."""

from __future__ import annotations

import os
from pathlib import Path

from remotedl.ssh import connect
from remotedl.ssh.prompt import NOBODY
from remotedl.ssh.remote import Remote
from tests.lab.login import Login


def open_door(login: Login) -> Remote:
    return connect(
        login.host_config(),
        prompt=NOBODY,
        known_hosts=login.known_hosts,
        ssh_config=Path(os.devnull),
    )


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
