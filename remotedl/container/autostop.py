"""`autostop`: the container stops when nobody has used it for a while. Seen from the laptop.

What watches is payload/idle.py on the host, so that it also works with the lid closed. Here its
settings are sent and its state is read. It never ends anything while a job runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remotedl.config.models import ProjectConfig
from remotedl.errors import ConfigError, ContainerError
from remotedl.report import Report
from remotedl.ssh.remote import Remote

DURATION = re.compile(r"(?:(?P<h>[0-9]+)h)?\s*(?:(?P<m>[0-9]+)m)?\s*(?:(?P<s>[0-9]+)s)?")
UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Idleness:
    """How the watch stands."""

    watching: bool
    busy: tuple[str, ...] = ()
    """Why it counts as in use."""
    idle_s: float = 0.0
    limit_s: float = 0.0
    ended: float | None = None
    """When it was stopped for idleness (seconds of the host's clock since 1970)."""
    kept_on: str = ""
    """Why the host was not shut down then, though that was asked for."""

    @property
    def left_s(self) -> float:
        """Until it is stopped, if nothing happens."""
        return max(0.0, self.limit_s - self.idle_s)


class Autostop:
    """The watch over one project on one host."""

    def __init__(self, remote: Remote, run_folder: str, *, host_python: str = "python3") -> None:
        self._remote = remote
        self._program = [host_python, f"{run_folder}/idle.py"]

    def apply(
        self,
        config: ProjectConfig,
        container: str | None,
        gpus: Sequence[str],
        report: Report,
        *,
        poweroff: bool = False,
    ) -> None:
        """Watch as the configuration says, or no more. `container` is None natively."""
        if config.autostop is None:
            self.cancel()
            return
        settings: dict[str, Any] = {"limit_s": parse_duration(config.autostop, "autostop")}
        settings["gpus"] = "all" if tuple(gpus) == ("all",) else list(gpus)
        settings["poweroff"] = poweroff
        if container is not None:
            settings["container"] = container
        self._run("start", stdin=json.dumps(settings).encode())
        if not self._told()["can_stop"]:
            report.warn(
                "autostop cannot stop the container: Docker needs a password on this host",
                hint="add the user to the docker group, or leave autostop out of hosts.toml",
            )

    def resume(self) -> None:
        """Watch again as before, after a reboot of the host."""
        self._run("resume")

    def status(self) -> Idleness:
        """A look; nothing is changed by it."""
        told = self._told()
        return Idleness(
            watching=bool(told["watching"]),
            busy=tuple(told.get("busy", ())),
            idle_s=float(told.get("idle_s", 0)),
            limit_s=float(told.get("limit_s", 0)),
            ended=told.get("ended"),
            kept_on=str(told.get("kept_on", "")),
        )

    def postpone(self, seconds: float) -> None:
        """Not before that; the idle time begins anew then."""
        self._run("postpone", f"{seconds:g}")

    def cancel(self) -> None:
        """Watch no more, until the next `up`."""
        self._run("stop")

    def _told(self) -> dict[str, Any]:
        return dict(json.loads(self._run("status")))

    def _run(self, verb: str, *args: str, stdin: bytes = b"") -> str:
        result = self._remote.run([*self._program, verb, *args], stdin=stdin, check=False)
        if not result.ok:
            raise ContainerError(
                f"{self._remote.name}: autostop does not answer: {result.error_text.strip()}",
                hint="remotedl doctor",
            )
        return result.text


def forget_idleness(remote: Remote, run_folder: str, host_python: str = "python3") -> None:
    """Before a runtime is removed; nothing where it never was watched."""
    script = '[ -f "$1/idle-settings.json" ] || exit 0; exec "$2" "$1/idle.py" stop'
    remote.run(["sh", "-c", script, "sh", run_folder, host_python], check=False)


def parse_duration(text: str, key: str) -> float:
    """Seconds out of "90m", "2h", "1h30m". Raises ConfigError naming `key`."""
    match = DURATION.fullmatch(text.strip())
    seconds = (
        0
        if match is None
        else sum(int(match[unit] or 0) * length for unit, length in UNITS.items())
    )
    if seconds <= 0:
        raise ConfigError(f'{key} = "{text}" is no duration', hint='for example "90m" or "2h"')
    return float(seconds)
