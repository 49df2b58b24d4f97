"""Becoming root on the host: who is asked for the password, how often, and when nobody is.

The password goes into sudo's stdin, when sudo has asked for it and at no other time: a command
that needs none must not get it as its input.
"""

from __future__ import annotations

import threading

from remotedl.config.models import SudoMode
from remotedl.errors import RemoteTimeout, SudoRefused
from remotedl.ssh.limit import Limit
from remotedl.ssh.process import RemoteProcess
from remotedl.ssh.prompt import Prompt

TRIES = 3
SILENCE_LIMIT_S = 90.0


class Root:
    """What is known about becoming root on one host."""

    def __init__(self, user: str, host: str, mode: SudoMode, prompt: Prompt) -> None:
        self._user = user
        self._host = host
        self._mode = mode
        self._prompt = prompt
        self._password: str | None = None
        self._lock = threading.Lock()

    def check_allowed(self) -> None:
        """Raises SudoRefused where the configuration forbids sudo, or wants a password now."""
        if self._mode is SudoMode.NONE:
            raise SudoRefused(
                f'{self._host}: this needs root, and hosts.toml says sudo = "none"',
                hint='set sudo = "auto" in hosts.toml, or use runtime = "native"',
            )
        if self._mode is SudoMode.PASSWORD and self._ask(None) is None:
            raise self._nobody()

    def begin(self, process: RemoteProcess, limit: Limit) -> None:
        """See a command that was started with sudo through its questions. Raises SudoRefused."""
        tried: str | None = None

        def answer(number: int) -> str | None:
            nonlocal tried
            tried = self._ask(tried) if number <= TRIES else None
            return tried

        try:
            if process.wait_start(answer, limit.at_most(SILENCE_LIMIT_S)):
                return
        except TimeoutError as exc:
            if limit.over:
                raise RemoteTimeout(
                    f"{self._host}: sudo did not begin {process.argv[0]} in {limit.timeout_s:g} s"
                ) from exc
            raise SudoRefused(
                f"{self._host}: sudo neither begins nor asks for anything"
                + (f"; it says: {process.noise}" if process.noise else ""),
                hint="try it by hand: sudo -k; sudo -S true",
            ) from exc
        if process.prompts and tried is None and process.prompts <= TRIES:
            raise self._nobody()
        self._forget(tried)
        raise self._refused(process)

    def _ask(self, wrong: str | None) -> str | None:
        """The password; asked for when there is none yet, or the one we have was `wrong`."""
        with self._lock:
            if self._password is None or self._password == wrong:
                again = "That was not it. " if wrong is not None else ""
                self._password = self._prompt.secret(
                    f"{again}sudo password of {self._user} on {self._host}: "
                )
            return self._password

    def _forget(self, wrong: str | None) -> None:
        with self._lock:
            if self._password == wrong:
                self._password = None

    def _nobody(self) -> SudoRefused:
        return SudoRefused(
            f"{self._host}: sudo asks for the password of {self._user}, and nobody typed it",
            hint=f"run this in a terminal; if {self._user} may not use sudo there: "
            'runtime = "native" in hosts.toml',
        )

    def _refused(self, process: RemoteProcess) -> SudoRefused:
        said = process.noise
        if "not found" in said and "sudo" in said:
            return SudoRefused(
                f"{self._host} has no sudo, and {self._user} is not root",
                hint='log in as root, or set runtime = "native" in hosts.toml',
            )
        return SudoRefused(
            f"{self._host}: sudo refuses {self._user}: {said or 'it gave no reason'}",
            hint='ask the owner of the host for sudo, or set runtime = "native" in hosts.toml',
        )
