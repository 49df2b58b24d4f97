"""Files of 1 GB: first copy beside scp, changes beside rsync, in a session that is open.

The sender has read the version before (as a live session has), so that only what changed is sent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.sync_once import log_in
from benchmarks.sync_place import Place, has, place, timed
from benchmarks.table import Row
from remotedl.config.models import SyncConfig
from remotedl.sync.engine import Sync

MB = 1 << 20
SIZE = 1 << 30


def main() -> list[Row]:
    with place() as at:
        data = at.laptop / "data.bin"
        with data.open("wb") as file:
            for _ in range(SIZE // (16 * MB)):
                file.write(os.urandom(16 * MB))
        rows = []
        connection = log_in(at.sshd.login)
        sync = Sync(
            at.laptop, connection, "~/project", SyncConfig(), state_dir=at.state, watch=False
        )
        try:
            began = time.perf_counter()
            sync.open()
            sync.cycle(scan=False)
            rows.append(_first(at, time.perf_counter() - began))
            for name, change in CHANGES.items():
                rows.append(_changed(at, sync, name, change))
        finally:
            sync.close()
            connection.close()
        return rows


def _first(at: Place, ours: float) -> Row:
    scp = ["scp", "-q", *_scp_options(at), str(at.laptop / "data.bin")]
    peer = timed([*scp, f"{at.sshd.address}:{at.sshd.home}/scp.bin"])
    (at.sshd.home / "scp.bin").rename(at.sshd.home / "rsynced")
    return Row("1 GB first copy", ours, "s", 1.0, "at most", peer, "scp")


def _changed(at: Place, sync: Sync, name: str, change: Callable[[Path], None]) -> Row:
    """The same change is copied by both, to a copy of the version before."""
    rsynced = at.sshd.home / "rsync"
    rsynced.mkdir(exist_ok=True)
    if (at.sshd.home / "rsynced").exists():
        (at.sshd.home / "rsynced").rename(rsynced / "data.bin")
    change(at.laptop / "data.bin")
    began = time.perf_counter()
    sync.cycle()
    ours = time.perf_counter() - began
    assert (at.host / "data.bin").stat().st_size == (at.laptop / "data.bin").stat().st_size
    for thrown in (at.host / ".remotedl" / "trash").iterdir():
        thrown.unlink()
    peer = None
    if has("rsync"):
        shell = " ".join(at.ssh())
        os.utime(rsynced / "data.bin", (1, 1))  # else a change in the same second is none
        target = f"{at.sshd.address}:{rsynced}/"
        peer = timed(["rsync", "-a", "-e", shell, str(at.laptop / "data.bin"), target])
    return Row(f"1 GB, {name}", ours, "s", 0.6, "at most", peer, "rsync -a")


def _in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(400 * MB + 12345)
        file.write(os.urandom(MB))


def _inserted(path: Path) -> None:
    new = path.with_name(".~new")
    with path.open("rb") as old, new.open("wb") as out:
        out.write(old.read(500 * MB + 777))
        out.write(os.urandom(MB))
        while block := old.read(16 * MB):
            out.write(block)
    new.rename(path)


def _appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(os.urandom(10 * MB))


CHANGES: dict[str, Callable[[Path], None]] = {
    "1 MB changed in place": _in_place,
    "1 MB inserted in the middle": _inserted,
    "10 MB appended": _appended,
}


def _scp_options(at: Place) -> list[str]:
    """OpenSSH's options for scp: the port is spelled otherwise, the user goes as an option."""
    login = at.sshd.login
    return [
        "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
        "-o", f"UserKnownHostsFile={login.known_hosts}", "-o", f"User={login.user}",
        "-i", str(login.key), "-P", str(login.port),
    ]  # fmt: skip
