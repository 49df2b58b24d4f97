"""The sync inside a session: opened on each new link, run in a thread, asked about from others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from remotedl.errors import LinkLost, RemotedlError, SessionError, SyncError, UsageError
from remotedl.report import Report
from remotedl.session import seen
from remotedl.session.named_files import named_files
from remotedl.session.project import Project
from remotedl.session.status import SyncLine
from remotedl.session.sync_rows import (
    barrier_row,
    comparison_row,
    conflict_row,
    plan_row,
    step_row,
    sync_line,
    unmerged_row,
)
from remotedl.ssh.remote import Remote
from remotedl.sync.engine import Sync
from remotedl.sync.lanes import Choice
from remotedl.sync.remedies import shown, shown_left_out, still_apart, ways_out
from remotedl.sync.safety import HaltKind
from remotedl.sync.verdict import Where

FLUSH_S = 600.0
BACK_S = 30.0
"""How long a halt that is let pass waits for a session that comes back: longer than its backoff."""
STOP_S = 5.0
"""How long an end waits for what the sync is doing."""
SHOWN = 3
SYNC_REQUESTS = frozenset(
    f"sync-{name}"
    for name in (
        *("flush", "pause", "resume", "allow", "plan"),
        *("conflicts", "resolve", "diff", "history", "undo"),
    )
)


OF_ROOTS = frozenset([HaltKind.ROOT_MISSING, HaltKind.ROOT_REPLACED])
"""Halts that only a new beginning can let pass."""


class SessionSync:
    """One project's sync over whichever link there is. Calls may come from any thread."""

    def __init__(
        self,
        project: Project,
        folder: Path,
        report: Report,
        tell: Callable[[str], None],
        confirm: Callable[[str], bool],
        container: str = "",
    ) -> None:
        """`confirm` asks the user; False where nobody can answer. `container`: for hints; "" where
        there is none."""
        self._confirm, self._container = confirm, container
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
        self._granted: frozenset[HaltKind] = frozenset()
        """Halts that the next opening lets pass."""
        self._in_step = threading.Event()
        self.moved = (0, 0)
        """Files that the first cycle over the present link sent and fetched."""

    def connect(self, remote: Remote, workdir: str) -> None:
        """Open both sides and bring them in step once. Raises SyncError, LinkLost."""
        self.open(remote, workdir)
        self.cycle()

    def open(
        self, remote: Remote, workdir: str, allowed: frozenset[HaltKind] = frozenset()
    ) -> None:
        """Lock and compare both sides; no file of the user is touched yet.

        `allowed`: halts that the user lets pass, this once.
        """
        self._report.stage("sync", "comparing")
        self.disconnect()
        self._remote, self._workdir = remote, workdir
        allowed |= self._granted
        sync = Sync(
            self._project.root,
            remote,
            workdir,
            self._project.config.project.sync,
            state_dir=self._folder,
            corner=f"with-{self._folder.name}",
            named=named_files(self._project),
            container=self._container,
            report=self._report,
            allowed=allowed,
            confirm=self._confirm,
        )
        try:
            opening = sync.open()
        except BaseException:
            sync.close()
            raise
        self._sync = sync
        if not self._files:  # not again after every lost link
            self._report.note(f"left out of the sync: {', '.join(opening.left_out)}")
        self._files = f"{opening.laptop_files} files here, {opening.remote_files} on the host"
        self._report.stage("sync", self._files)

    def look(self) -> None:
        """See what is in conflict, frozen or left out; nothing is moved."""
        self._opened().plan()

    def cycle(self) -> None:
        """Bring both sides in step, from what `open` found; where it is paused, do not."""
        self._granted = frozenset()
        if self._paused:
            self._opened().pause()
            self._in_step.set()
            self.moved = 0, 0
            return
        outcome = self._opened().cycle(scan=False)
        self._in_step.set()
        moved = self.moved = outcome.to_remote.written, outcome.to_laptop.written
        self._report.stage("sync", f"{self._files}; {moved[0]} sent, {moved[1]} fetched")
        for notice in outcome.notices:
            self._report.note(notice)
        for item in outcome.left_out[:SHOWN]:
            self._report.note(f"left where it is: {shown_left_out(item)}")
        if len(outcome.left_out) > SHOWN:
            rest = len(outcome.left_out) - SHOWN
            self._report.note(f"and {rest} more are left where they are: remotedl sync status")

    def start(self) -> None:
        """Go on live, in a thread of its own, from an opened state."""
        sync = self._sync
        if sync is None or self._thread is not None:
            return
        self._stop = threading.Event()
        self._failure = None
        thread = threading.Thread(target=self._run, args=(sync, self._stop), name="sync")
        thread.start()
        self._thread = thread  # only now: what has not begun cannot be waited for

    def lost(self) -> RemotedlError | None:
        """Why the thread ended by itself, if it did. A halt is no reason: it is in `line`."""
        return self._failure

    def disconnect(self) -> None:
        """The link is gone, or the end has come. Idempotent."""
        self._in_step.clear()
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            if self._thread.is_alive() and self._sync is not None:
                self._sync.abort()  # the host's disk hangs
                self._thread.join(STOP_S)
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

    def flush(self, timeout_s: float = FLUSH_S, *, noted: bool = False) -> dict[str, Any]:
        """Everything written before this call is on both sides afterwards, but what is named.

        `noted`: and which versions the host has now is kept; "seen" is the name of that.
        """
        sync = self._opened()
        row = barrier_row(sync.flush(timeout_s))
        status = sync.status()
        row |= {"files": status.files, "left_out": [one.key for one in status.left_out]}
        if noted:
            row["seen"] = seen.keep(self._folder, sync.manifest())
        return row

    def pause(self) -> None:
        """Also while there is no link: the next one changes nothing."""
        self._paused = True
        if self._sync is not None:
            self._sync.pause()
        self._tell("sync paused")

    def resume(self) -> None:
        self._paused = False
        if self._sync is not None:
            self._sync.resume()
        self._tell("sync goes on")

    def requests(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """What other commands may ask of the session's sync."""

        def flush(request: Mapping[str, Any]) -> Any:
            timeout_s = float(request.get("timeout_s", FLUSH_S))
            return self.flush(timeout_s, noted=bool(request.get("noted")))

        def pause(_: Mapping[str, Any]) -> Any:
            return self.pause()

        def resume(_: Mapping[str, Any]) -> Any:
            return self.resume()

        def allow(request: Mapping[str, Any]) -> Any:
            return self.allow(halts_named(request["kinds"]))

        def plan(_: Mapping[str, Any]) -> Any:
            return plan_row(*self._opened().estimate())

        def conflicts(_: Mapping[str, Any]) -> Any:
            status = self._opened().status()
            rows = [conflict_row(one) for one in status.conflicts]
            return rows + [unmerged_row(key) for key in status.unmerged]

        def resolve(request: Mapping[str, Any]) -> Any:
            choice = Choice(request["choice"])
            if request.get("all"):
                return self.resolve_all(request.get("pattern"), choice)
            path = request["path"]
            return self.resolve(
                path, request.get("typed") or path, choice, request.get("seen") or ""
            )

        def diff(request: Mapping[str, Any]) -> Any:
            return comparison_row(self._opened().compare(request["path"]))

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

    def resolve(self, path: str, typed: str, choice: Choice, seen: str = "") -> dict[str, Any]:
        """Settle a conflict and bring it over. Raises UsageError; SyncError where it stays.

        `path`: what is meant from where the user stands; `typed`: what it may mean as well. `seen`:
        see `Sync.resolve`.
        """
        sync = self._opened()
        known = {conflict.key for conflict in sync.status().conflicts}
        meant = typed if typed in known and path not in known else path
        conflict = sync.resolve(meant, choice, seen)
        row = self.flush(FLUSH_S)
        left = still_apart(conflict, choice, sync.status())
        if left is not None:
            message = f"{shown(conflict.key)} is not resolved: {left.what}"
            raise SyncError(message, hint=left.mend)
        return row | {"path": conflict.key}

    def resolve_all(self, pattern: str | None, choice: Choice) -> dict[str, Any]:
        """Settle every conflict that `pattern`, a line of .gitignore, names; all if None.

        What is held back is not taken from the host: somebody has to look at each.
        """
        sync = self._opened()
        meant = sync.conflicts_like(pattern)
        if not meant:
            what = "there is no conflict" if pattern is None else f"no conflict is like {pattern}"
            raise UsageError(what, hint="remotedl sync conflicts")
        left = [one for one in meant if one.held and choice is not Choice.LAPTOP]
        chosen = [one for one in meant if one not in left]
        for conflict in chosen:
            sync.resolve(conflict.key, choice)
        row = self.flush(FLUSH_S)
        status = sync.status()
        apart = [(one, still_apart(one, choice, status)) for one in chosen]
        why = [[one.key, found.what, found.mend] for one, found in apart if found is not None]
        why += [[one.key, one.kind.value, ways_out(one)] for one in left]
        unsettled = {key for key, _, _ in why}
        return row | {"resolved": [o.key for o in meant if o.key not in unsettled], "left": why}

    def allow(self, kinds: frozenset[HaltKind]) -> None:
        """Let these halts pass, once. One that is refused changes nothing.

        Raises SyncHalted for another halt, SyncError, LinkLost.
        """
        if self._sync is None:
            self._grant(kinds)
            return
        halt = self._opened().lost_root()
        if halt is None:
            self._opened().allow(kinds - OF_ROOTS)
        elif halt.kind not in kinds:
            raise halt.error()
        else:
            self._begin_anew(kinds)

    def _grant(self, kinds: frozenset[HaltKind]) -> None:
        """Whoever holds the session tries to come back by itself; the next try has these."""
        self._granted = kinds
        if not self._in_step.wait(BACK_S):
            self._granted = frozenset()
            raise _no_link()

    def _begin_anew(self, kinds: frozenset[HaltKind]) -> None:
        if self._remote is None:
            raise _no_link()
        live = self._thread is not None
        try:
            self.open(self._remote, self._workdir, kinds)
            self.cycle()
        except RemotedlError as exc:
            self.disconnect()
            self._failure = exc  # whoever holds the session comes back when it can
            raise
        if live:
            self.start()

    def _opened(self) -> Sync:
        if self._sync is None:
            raise _no_link()
        return self._sync

    def _run(self, sync: Sync, stop: threading.Event) -> None:
        try:
            sync.run(stop)
        except RemotedlError as exc:
            self._failure = exc
        except Exception as exc:  # noqa: BLE001 - a bug must end the sync loudly, not silently
            self._failure = LinkLost(f"the sync ended: {type(exc).__name__}: {exc}")


def passed_on(
    current: Callable[[], SessionSync | None],
) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
    """What a control channel answers of the sync: `current` is None until there is one."""

    def pass_on(name: str) -> Callable[[Mapping[str, Any]], Any]:
        def ask(request: Mapping[str, Any]) -> Any:
            sync = current()
            if sync is None:
                raise SessionError("the session is still coming up", hint="remotedl status")
            return sync.requests()[name](request)

        return ask

    return {name: pass_on(name) for name in SYNC_REQUESTS}


def _no_link() -> SyncError:
    message = "the link to the host is gone: nothing can be synced"
    return SyncError(message, hint="remotedl status")


def halts_named(kinds: Iterable[str]) -> frozenset[HaltKind]:
    """What `--allow` names. Raises UsageError for what is no halt, or cannot be let pass."""
    known = {kind.value: kind for kind in HaltKind if kind is not HaltKind.UNSOUND}
    unknown = sorted(set(kinds) - known.keys())
    if unknown:
        message = f"there is no halt {unknown[0]!r}; there are: {', '.join(known)}"
        raise UsageError(message, hint="remotedl sync --help")
    return frozenset(known[kind] for kind in kinds)
