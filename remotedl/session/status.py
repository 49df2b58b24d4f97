"""What a session says of itself: plain data, the same for the live view, `status` and `--json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Where a session stands."""

    STARTING = "starting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    DOWN = "container down"
    """The link stands, and what the work runs in does not."""
    STOPPED = "stopped"
    SILENT = "silent"
    """Told by others: its process is there and does not answer."""


@dataclass(frozen=True, slots=True)
class TunnelStatus:
    """One listener on the laptop. Byte counts are since the session's start."""

    name: str
    bind: str
    port: int
    wished_port: int
    target: str
    url: str | None
    open_now: int
    total: int
    bytes_up: int
    bytes_down: int
    page: str = ""
    """What `remotedl open` takes for it."""
    open_to: str = ""
    """Who gets in without a link or a token; "": nobody."""
    trouble: str = ""
    """What keeps its clients out, and what to write in hosts.toml about it."""


@dataclass(frozen=True, slots=True)
class SyncLine:
    """The sync in one line. Times are Unix seconds; None: not yet."""

    mode: str
    last_success: float | None
    pending: int
    conflicts: tuple[str, ...]
    frozen: tuple[str, ...]
    left_out: tuple[str, ...]
    degraded: str | None
    paused: bool
    halted: str | None
    note: str = ""
    failures: tuple[str, ...] = ()
    """Paths that could not be brought over, and why."""
    waits: str | None = None
    """For what on the host, and since when."""
    remedies: tuple[tuple[str, str], ...] = ()
    """Each trouble and what to type about it, the gravest first."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole session at one moment."""

    host: str
    address: str
    project: str
    root: str
    workdir: str
    pid: int
    phase: Phase
    detail: str
    since: float
    runtime: str
    image: str | None
    container: str | None
    gpus: str
    tunnels: tuple[TunnelStatus, ...] = ()
    sync: SyncLine | None = None
    jobs: tuple[dict[str, Any], ...] = ()
    gpu_lines: tuple[str, ...] = ()
    events: tuple[tuple[float, str], ...] = ()
    warnings: tuple[tuple[str, str], ...] = field(default=())
    autostop: dict[str, Any] | None = None
    """Whether it will be stopped for idleness, and when; None: not asked for."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Snapshot:
        sync = data.get("sync")
        return cls(
            **{
                **data,
                "phase": Phase(data["phase"]),
                "tunnels": tuple(TunnelStatus(**one) for one in data["tunnels"]),
                "sync": None if sync is None else _sync_line(sync),
                "jobs": tuple(data["jobs"]),
                "gpu_lines": tuple(data["gpu_lines"]),
                "events": tuple((at, text) for at, text in data["events"]),
                "warnings": tuple((text, hint) for text, hint in data["warnings"]),
            }
        )


def _sync_line(data: dict[str, Any]) -> SyncLine:
    lists = ("conflicts", "frozen", "left_out", "failures")
    known = {name: tuple(data[name]) for name in lists}
    remedies = tuple((what, mend) for what, mend in data["remedies"])
    return SyncLine(**{**data, **known, "remedies": remedies})
