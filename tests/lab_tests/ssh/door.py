"""How these tests go through the door: a prompt that answers by script, and `open_door`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from remotedl.config.models import HostConfig
from remotedl.ssh import connect
from remotedl.ssh.connection import Connection
from tests.lab.login import Login

NO_CONFIG = Path(os.devnull)


class Person:
    """A Prompt: gives these secrets in turn, says yes or no, and remembers what it was asked."""

    def __init__(self, secrets: Iterable[str] = (), *, yes: bool = False) -> None:
        self.questions: list[str] = []
        self._secrets = list(secrets)
        self._yes = yes

    def secret(self, question: str) -> str | None:
        self.questions.append(question)
        return self._secrets.pop(0) if self._secrets else None

    def confirm(self, question: str) -> bool:
        self.questions.append(question)
        return self._yes


def open_door(
    where: Login | HostConfig,
    person: Person | None = None,
    *,
    known_hosts: Path | None = None,
    ssh_config: Path = NO_CONFIG,
    accept_new: bool = False,
) -> Connection:
    """Connect with the lab's own known_hosts and no configuration of this machine's user."""
    if isinstance(where, Login):
        known_hosts = known_hosts or where.known_hosts
        where = where.host_config()
    return connect(
        where,
        prompt=person or Person(),
        known_hosts=known_hosts,
        ssh_config=ssh_config,
        accept_new=accept_new,
    )
