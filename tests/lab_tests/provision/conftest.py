"""Connections to lab hosts, and a report that remembers what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remotedl.ssh import connect
from remotedl.ssh.connection import Connection
from tests.lab.host import Host


class Told:
    """A Report that keeps everything."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.lines: list[str] = []
        self.waits: list[str] = []
        self.on_stage: Callable[[str], None] = lambda text: None
        self.on_wait: Callable[[str], None] = lambda what: None

    def stage(self, name: str, detail: str = "") -> None:
        self.stages.append(detail or name)
        self.on_stage(detail)

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        self.waits.append(what)
        self.on_wait(what)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str, hint: str = "") -> None:
        self.warnings.append(text)

    def output(self, line: str) -> None:
        self.lines.append(line)


class Password:
    """A Prompt that knows the password and counts how often it is asked."""

    def __init__(self, password: str | None = None) -> None:
        self.password = password
        self.asked = 0

    def secret(self, question: str) -> str | None:
        self.asked += 1
        return self.password

    def confirm(self, question: str) -> bool:
        return False


@pytest.fixture
def told() -> Told:
    return Told()


LogIn = Callable[..., Connection]


@pytest.fixture
def log_in() -> Iterator[LogIn]:
    """`log_in(host, "ada", prompt=…)`: an open connection, closed after the test."""
    opened: list[Connection] = []

    def open_(host: Host, user: str = "ada", prompt: Any = None, **config: Any) -> Connection:
        login = host.login_as(user)
        connection = connect(
            login.host_config(**config),
            prompt=prompt or Password(),
            known_hosts=login.known_hosts,
            ssh_config=Path("/dev/null"),
        )
        opened.append(connection)
        return connection

    yield open_
    for connection in opened:
        connection.close()
