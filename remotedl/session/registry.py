"""Which sessions there are on this laptop: one JSON file a project and host, beside its socket.

A session holds a lock on its file's neighbour for as long as it lives, so that a crash releases
it: a file without a holder is a leftover and is read as "not running".
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remotedl.config.files import write_private
from remotedl.config.paths import state_dir
from remotedl.errors import StateCorrupt

if TYPE_CHECKING:
    from remotedl.session.control import ControlServer
    from remotedl.session.project import Project

FORMAT = 1
TRIES = 5
PROBE_S = 0.02


@dataclass(frozen=True, slots=True)
class Record:
    """What a running session leaves for others to find."""

    format: int
    project_id: str
    root: str
    host: str
    pid: int
    address: str
    """Of the control channel, as multiprocessing.connection takes it."""
    key: str
    """Hex; who can read this file (0600) may talk to the session."""
    started: float
    alone: bool = False
    """Only the sync, by `remotedl sync`: no container, no tunnels."""


def announce(
    folder: Path,
    project: Project,
    host_name: str,
    control: ControlServer,
    started: float,
    *,
    alone: bool = False,
) -> None:
    """Leave the record of this process: it may be talked to from now on, by `control`."""
    record = Record(
        format=FORMAT,
        project_id=project.id,
        root=str(project.root),
        host=host_name,
        pid=os.getpid(),
        address=control.address,
        key=control.key.hex(),
        started=started,
        alone=alone,
    )
    write_record(folder, record)


class SessionLock:
    """Held by the one session of a project and host. Released by the kernel on a crash."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "session.lock"
        self._handle: int | None = None

    def acquire(self) -> bool:
        """True when nobody else holds it.

        A reader probes the lock for an instant, so a few tries are made before it counts as held.
        """
        for _ in range(TRIES):
            if self.try_once():
                return True
            time.sleep(PROBE_S)
        return False

    def try_once(self) -> bool:
        """As `acquire`, without patience: how a reader asks whether somebody holds it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        if not _lock(handle):
            os.close(handle)
            return False
        self._handle = handle
        return True

    @property
    def held(self) -> bool:
        return self._handle is not None

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def write_record(folder: Path, record: Record) -> None:
    write_private(folder / "session.json", json.dumps(asdict(record)).encode())


def drop_record(folder: Path) -> None:
    (folder / "session.json").unlink(missing_ok=True)


def read_record(folder: Path) -> Record | None:
    """The session of this folder if one is running, else None. Raises StateCorrupt."""
    record = _noted(folder)
    return record if record is not None and _held(folder) else None


def _noted(folder: Path) -> Record | None:
    """What a session left here, whether it runs or not. Raises StateCorrupt."""
    path = folder / "session.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise StateCorrupt(
            f"{path} is damaged: {exc}", hint=f"end the session's process, then delete {path}"
        ) from exc
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise StateCorrupt(
            f"{path} was written by another version of remotedl",
            hint="remotedl down with that version, or delete the file once no session runs",
        )
    try:
        return Record(**data)
    except TypeError as exc:
        raise StateCorrupt(
            f"{path} is damaged: {exc}", hint=f"end the session's process, then delete {path}"
        ) from exc


def running_sessions(
    project_id: str = "*", damaged: list[StateCorrupt] | None = None
) -> Iterator[tuple[Path, Record]]:
    """Every session of this user on this laptop, or of one project, sorted by folder.

    What is wrong with one goes into `damaged`, so that the others are seen. Without it: raises.
    """
    for folder in _noted_folders(project_id):
        try:
            record = read_record(folder)
        except StateCorrupt as exc:
            if damaged is None:
                raise
            damaged.append(exc)
            continue
        if record is not None:
            yield folder, record


def died_sessions() -> Iterator[Record]:
    """Sessions whose process ended without a word: killed, or the laptop was."""
    for folder in _noted_folders("*"):
        try:
            record = _noted(folder)
        except StateCorrupt:
            continue  # `running_sessions` says what is wrong with it
        if record is not None and not _held(folder):
            yield record


def _noted_folders(project_id: str) -> list[Path]:
    found = (state_dir() / "projects").glob(f"{project_id}/*/session.json")
    return sorted(path.parent for path in found)


def live_host(project_id: str) -> str | None:
    """The host that a project has a session with, where that is exactly one."""
    live = [record.host for _, record in running_sessions(project_id, [])]
    return live[0] if len(live) == 1 else None


def _held(folder: Path) -> bool:
    lock = SessionLock(folder)
    if lock.try_once():
        lock.release()
        return False
    return True


def _lock(handle: int) -> bool:
    if os.name == "nt":
        import msvcrt

        with contextlib.suppress(OSError):
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            return True
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
