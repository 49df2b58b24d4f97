"""`remotedl sync`: a session that is the sync alone, without container or tunnels.

It leaves a record, answers what a session is asked of its sync, and comes back after a lost link.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from remotedl.container.ground import survey
from remotedl.errors import LinkLost, RemotedlError, SessionError, SyncError
from remotedl.session.backoff import FINAL, delays
from remotedl.session.control import ControlServer
from remotedl.session.errands import Errand
from remotedl.session.pulse import Pulse
from remotedl.session.registry import SessionLock, announce, drop_record
from remotedl.session.status import Phase, Snapshot
from remotedl.session.syncing import SessionSync, passed_on
from remotedl.ssh.remote import Remote

SHOW_S = 1.0
EVENTS_KEPT = 200
ALONE = "the sync alone"

Show = Callable[[Snapshot], None]


class SyncAlone:
    """Use: `bring_up`, `hold`, and `close` in any case. In the foreground only."""

    def __init__(self, errand: Errand, stop: threading.Event) -> None:
        self._errand, self._stop = errand, stop
        self._lock = SessionLock(errand.folder)
        self._sync = SessionSync(
            errand.project,
            errand.folder,
            errand.report,
            self._tell,
            errand.prompt.confirm,
            errand.container,
        )
        self._remote: Remote | None = None
        self._control: ControlServer | None = None
        self._workdir = ""
        self._phase, self._detail, self._since = Phase.STARTING, "", time.time()
        self._events: deque[tuple[float, str]] = deque(maxlen=EVENTS_KEPT)

    def bring_up(self) -> None:
        """Both sides in step. Raises SessionError where another session has the sync."""
        if not self._lock.acquire():
            raise in_use(self._errand)
        self._publish()
        self._join()
        self._live()

    def hold(self, show: Show) -> None:
        """Keep both sides in step until told to stop; `show` is told every second how it stands.

        Raises what trying again cannot mend.
        """
        while not self._stop.is_set():
            why = self._until_lost(show)
            if why is not None:
                self._bring_back(why, show)

    def close(self) -> None:
        """End in order; idempotent."""
        self._phase = Phase.STOPPED
        self._drop_link()
        control, self._control = self._control, None
        if control is not None:
            control.close()
        if self._lock.held:
            drop_record(self._errand.folder)
            self._lock.release()

    def snapshot(self) -> Snapshot:
        """How it stands, as of any session: no container, no tunnels."""
        project, host = self._errand.project, self._errand.host
        return Snapshot(
            host=self._errand.host_name,
            address=host.address,
            project=project.root.name,
            root=str(project.root),
            workdir=self._workdir,
            pid=os.getpid(),
            phase=self._phase,
            detail=self._detail,
            since=self._since,
            runtime="",
            image=None,
            container=None,
            gpus="",
            sync=self._sync.line(),
            events=tuple(self._events),
        )

    def _until_lost(self, show: Show) -> RemotedlError | None:
        """The reason when the link or the agent is gone, None when stopped."""
        if self._remote is None:
            raise SessionError("the sync is not up")
        gone = threading.Event()
        pulse = Pulse(self._remote, gone)
        pulse.start()
        self._sync.start()
        try:
            while not gone.is_set() and not self._stop.wait(SHOW_S):
                show(self.snapshot())
                lost = self._sync.lost()
                if lost is not None:
                    return lost
        finally:
            pulse.stop()
        return None if self._stop.is_set() else pulse.why

    def _bring_back(self, why: RemotedlError, show: Show) -> None:
        self._phase, self._detail, self._since = Phase.RECONNECTING, why.message, time.time()
        said = "the link is lost: " if isinstance(why, LinkLost) else ""
        self._errand.report.warn(f"{said}{why.message}; coming back…")
        self._drop_link()
        for delay in delays(random.random):
            show(self.snapshot())
            if self._stop.wait(delay):
                return
            try:
                self._join()
            except FINAL:
                raise
            except RemotedlError as exc:
                if isinstance(exc, SyncError) and exc.message != self._detail:
                    self._errand.report.warn(exc.message, exc.hint)
                self._detail = exc.message
                self._drop_link()
            else:
                break
        self._live()
        sent, fetched = self._sync.moved
        self._tell(f"the sync is back: {sent} sent, {fetched} fetched")

    def _join(self) -> None:
        errand = self._errand
        self._remote = errand.connect()
        self._workdir = survey(self._remote, errand.name, errand.host).folders.workdir
        self._sync.connect(self._remote, self._workdir)

    def _live(self) -> None:
        self._phase, self._detail, self._since = Phase.LIVE, ALONE, time.time()

    def _drop_link(self) -> None:
        self._sync.disconnect()
        remote, self._remote = self._remote, None
        if remote is not None:
            remote.close()

    def _publish(self) -> None:
        errand = self._errand
        self._control = ControlServer(errand.folder, self._requests())
        project, name = errand.project, errand.host_name
        announce(errand.folder, project, name, self._control, self._since, alone=True)

    def _requests(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        def status(_: Mapping[str, Any]) -> Any:
            return self.snapshot().as_json()

        def stop(_: Mapping[str, Any]) -> Any:
            self._stop.set()
            if self._phase is Phase.STARTING:
                signal.raise_signal(signal.SIGTERM)
            return True

        return {"status": status, "stop": stop, **passed_on(self._current)}

    def _current(self) -> SessionSync | None:
        return None if self._phase is Phase.STARTING else self._sync

    def _tell(self, text: str) -> None:
        self._events.append((time.time(), text))
        self._errand.report.note(text)


def in_use(errand: Errand) -> SessionError:
    """Another remotedl on this laptop has the sync of this project and host."""
    name = f"{errand.project.root.name} with {errand.host_name}"
    record = errand.session()
    if record is None:
        return SessionError(
            f"another command syncs {name} just now", hint="try again when it has ended"
        )
    what = "a sync" if record.alone else "a session"
    message = f"{what} of {name} runs already (process {record.pid})"
    return SessionError(message, hint="remotedl sync status")
