"""The sync inside a session: opened on each new link, run in a thread, asked about from others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from remotedl.errors import LinkLost, RemotedlError, SyncError, UsageError
from remotedl.report import Report
from remotedl.session.diffs import LARGEST, diff
from remotedl.session.project import Project
from remotedl.session.status import SyncLine
from remotedl.ssh.remote import Remote
from remotedl.sync.agent.tree import Entry
from remotedl.sync.engine import Sync
from remotedl.sync.history import PastStep, what_happened
from remotedl.sync.lanes import Choice
from remotedl.sync.safety import HaltKind
from remotedl.sync.status import Barrier, State, SyncStatus
from remotedl.sync.verdict import Conflict, Operation, Verdict, Where

FLUSH_S = 600.0
FAILED_LIMIT = 1000
"""Paths that a snapshot names of each kind; more would not be read."""
SYNC_REQUESTS = frozenset(
    f"sync-{name}"
    for name in (
        *("flush", "pause", "resume", "allow", "plan"),
        *("conflicts", "resolve", "diff", "history", "undo"),
    )
)


class SessionSync:
    """One project's sync over whichever link there is. Calls may come from any thread."""

    def __init__(
        self, project: Project, folder: Path, report: Report, tell: Callable[[str], None]
    ) -> None:
        self._project, self._folder, self._report, self._tell = project, folder, report, tell
        self._sync: Sync | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._failure: RemotedlError | None = None
        self._last: SyncLine | None = None
        self._paused = False
        self._files = ""
        self._remote: Remote | None = None
        self._workdir = ""

    def connect(self, remote: Remote, workdir: str) -> None:
        """Open both sides and bring them in step once. Raises SyncError, LinkLost."""
        self.open(remote, workdir)
        self.cycle()

    def open(self, remote: Remote, workdir: str) -> None:
        """Lock and compare both sides; no file of the user is touched yet."""
        self._report.stage("sync", "comparing")
        self.disconnect()
        self._remote, self._workdir = remote, workdir
        sync = Sync(
            self._project.root,
            remote,
            workdir,
            self._project.config.project.sync,
            state_dir=self._folder,
            report=self._report,
        )
        try:
            opening = sync.open()
        except BaseException:
            sync.close()
            raise
        self._sync = sync
        self._files = f"{opening.laptop_files} files here, {opening.remote_files} on the host"
        self._report.stage("sync", self._files)

    def cycle(self) -> None:
        """Bring both sides in step, from what `open` found."""
        outcome = self._opened().cycle(scan=False)
        if self._paused:
            self._opened().pause()
        moved = outcome.to_remote.written, outcome.to_laptop.written
        self._report.stage("sync", f"{self._files}; {moved[0]} sent, {moved[1]} fetched")
        for notice in outcome.notices:
            self._report.note(notice)

    def start(self) -> None:
        """Go on live, in a thread of its own, from an opened state."""
        sync = self._sync
        if sync is None or self._thread is not None:
            return
        self._stop = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, args=(sync, self._stop), name="sync")
        self._thread.start()

    def lost(self) -> RemotedlError | None:
        """Why the thread ended by itself, if it did. A halt is no reason: it is in `line`."""
        return self._failure

    def disconnect(self) -> None:
        """The link is gone, or the end has come. Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._sync is not None:
            self._last = self.line()
            self._sync.close()
            self._sync = None
        self._failure = None

    def close(self) -> None:
        self.disconnect()

    def line(self) -> SyncLine | None:
        """How it stands; while there is no link, how it stood."""
        if self._sync is None:
            return self._last
        return sync_line(self._sync.status(), self._project.config.project.sync.mode.value)

    def flush(self, timeout_s: float = FLUSH_S) -> dict[str, Any]:
        """Everything written before this call is on both sides afterwards, but what is named."""
        sync = self._opened()
        row = barrier_row(sync.flush(timeout_s))
        status = sync.status()
        return {**row, "files": status.files, "left_out": [one.key for one in status.left_out]}

    def pause(self) -> None:
        self._opened().pause()
        self._paused = True
        self._tell("sync paused")

    def resume(self) -> None:
        self._opened().resume()
        self._paused = False
        self._tell("sync goes on")

    def requests(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """What other commands may ask of the session's sync."""

        def flush(request: Mapping[str, Any]) -> Any:
            return self.flush(float(request.get("timeout_s", FLUSH_S)))

        def pause(_: Mapping[str, Any]) -> Any:
            return self.pause()

        def resume(_: Mapping[str, Any]) -> Any:
            return self.resume()

        def allow(request: Mapping[str, Any]) -> Any:
            return self.allow(request["kinds"])

        def plan(_: Mapping[str, Any]) -> Any:
            return plan_row(self._opened().plan())

        def conflicts(_: Mapping[str, Any]) -> Any:
            return [conflict_row(one) for one in self._opened().status().conflicts]

        def resolve(request: Mapping[str, Any]) -> Any:
            self._opened().resolve(request["path"], Choice(request["choice"]))
            return self.flush(FLUSH_S)

        def diff(request: Mapping[str, Any]) -> Any:
            return self.diff(request["path"])

        def history(request: Mapping[str, Any]) -> Any:
            steps = self._opened().history(int(request.get("limit", 100)))
            return [step_row(step) for step in steps]

        def undo(request: Mapping[str, Any]) -> Any:
            where = request.get("where")
            undone = self._opened().undo(
                request.get("step"), None if where is None else Where(where), request["paths"]
            )
            self.flush(FLUSH_S)
            left = [[one.path, one.why] for one in undone.paths if one.why]
            back = [one.path for one in undone.paths if not one.why]
            return {"step": undone.step, "where": undone.where.value, "back": back, "left": left}

        handlers = (flush, pause, resume, allow, plan, conflicts, resolve, diff, history, undo)
        found = {f"sync-{handler.__name__}": handler for handler in handlers}
        assert found.keys() == SYNC_REQUESTS
        return found

    def diff(self, key: str) -> str:
        """The laptop's version of a conflict beside the host's. Raises UsageError."""
        known = {conflict.key for conflict in self._opened().status().conflicts}
        if key not in known or self._remote is None:
            raise UsageError(f"{key} is no conflict", hint="remotedl sync conflicts")
        limit = str(LARGEST + 1)
        there = self._remote.run(["head", "-c", limit, "--", f"{self._workdir}/{key}"], check=False)
        try:
            with (self._project.root / key).open("rb") as file:
                here = file.read(LARGEST + 1)
        except OSError as exc:
            return f"{key}: {exc.strerror} on the laptop\n"
        return diff(key, here, there.stdout)

    def allow(self, kinds: Iterable[str]) -> None:
        """Let these halts pass, once. Raises UsageError for one that there is not."""
        try:
            self._opened().allow([HaltKind(kind) for kind in kinds])
        except ValueError as exc:
            known = ", ".join(kind.value for kind in HaltKind if kind is not HaltKind.UNSOUND)
            raise UsageError(f"{exc}; there are: {known}", hint="remotedl sync -h") from None

    def _opened(self) -> Sync:
        if self._sync is None:
            raise SyncError(
                "the link to the host is gone: nothing can be synced", hint="remotedl status"
            )
        return self._sync

    def _run(self, sync: Sync, stop: threading.Event) -> None:
        try:
            sync.run(stop)
        except RemotedlError as exc:
            self._failure = exc
        except Exception as exc:  # noqa: BLE001 - a bug must end the sync loudly, not silently
            self._failure = LinkLost(f"the sync ended: {type(exc).__name__}: {exc}")


def sync_line(status: SyncStatus, mode: str) -> SyncLine:
    """What the live view and `status` show of a SyncStatus. Pure."""
    failed = tuple(f"{failure.key} ({failure.why})" for failure in status.failures)
    frozen = tuple(f"{frozen.key} ({frozen.issue.value})" for frozen in status.frozen)
    note = ", ".join(
        f"{one.key} {100 * one.done // max(one.size, 1)} %" for one in status.transfers[:3]
    )
    return SyncLine(
        mode=mode,
        last_success=status.last_success,
        pending=status.pending,
        conflicts=tuple(c.key for c in status.conflicts)[:FAILED_LIMIT],
        frozen=(frozen + failed)[:FAILED_LIMIT],
        left_out=tuple(left.key for left in status.left_out)[:FAILED_LIMIT],
        degraded=_degraded(status),
        paused=status.state is State.PAUSED,
        halted=None if status.halt is None else status.halt.error().message,
        note=note,
    )


def barrier_row(barrier: Barrier) -> dict[str, Any]:
    """A barrier for JSON: what it could not bring over is named."""
    return {
        "clean": barrier.clean,
        "pending": barrier.pending,
        "failures": [failure.key for failure in barrier.failures],
        "conflicts": [conflict.key for conflict in barrier.conflicts],
        "frozen": [frozen.key for frozen in barrier.frozen],
    }


def conflict_row(conflict: Conflict) -> dict[str, Any]:
    """A conflict for JSON."""
    sides = {"ancestor": conflict.ancestor, "laptop": conflict.laptop, "remote": conflict.remote}
    row: dict[str, Any] = {"path": conflict.key, "kind": conflict.kind.value}
    return row | {
        side: None if entry is None else entry_row(entry) for side, entry in sides.items()
    }


def entry_row(entry: Entry) -> dict[str, Any]:
    digest = entry.digest.hex() if entry.digest is not None else None
    return {"kind": entry.kind.value, "size": entry.size, "sha256": digest, "target": entry.target}


def step_row(step: PastStep) -> dict[str, Any]:
    """A step of the history for JSON."""
    changes = [
        {"path": one.path, "did": what_happened(one), "why": one.reason, "can_undo": one.can_return}
        for one in step.changes
    ]
    return {"id": step.id, "side": step.where.value, "at": step.at, "changes": changes}


def plan_row(verdict: Verdict) -> dict[str, Any]:
    """What a cycle would do, for JSON: sizes in bytes, the largest first."""

    def side(operations: Iterable[Operation]) -> list[dict[str, Any]]:
        rows = [
            {
                "path": one.key,
                "does": "delete" if one.new is None else "write",
                "size": one.new.size if one.new is not None else 0,
                "reason": one.reason.value,
            }
            for one in operations
        ]
        return sorted(rows, key=lambda row: (-int(str(row["size"])), str(row["path"])))

    return {
        "to_remote": side(verdict.to_remote),
        "to_laptop": side(verdict.to_laptop),
        "conflicts": [conflict_row(conflict) for conflict in verdict.conflicts],
        "frozen": [f"{one.key} ({one.issue.value})" for one in verdict.frozen],
        "left_out": [f"{one.key} ({one.why.value})" for one in verdict.left_out],
    }


def _degraded(status: SyncStatus) -> str | None:
    sides = (("laptop", status.laptop_watching), ("host", status.remote_watching))
    polled = [f"{side}: {how}" for side, how in sides if how.startswith("poll")]
    return "changes are looked for by polling: " + "; ".join(polled) if polled else None
