"""One project on one host, from nothing to live, and kept alive until it is told to stop.

    connect → provision → image → container → sync → tunnels → (live ⇄ reconnecting)

Each stage converges, so that a session which was killed at any line is simply started again. The
container is never stopped here; that is `down`'s.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from remotedl.config.models import HostConfig, RuntimeKind
from remotedl.container.jobs import Job
from remotedl.container.runtime import Running
from remotedl.errors import RemotedlError, SessionError
from remotedl.provision.via_laptop import Door
from remotedl.report import Report
from remotedl.session import stages
from remotedl.session.approvals import ask_about_mounts
from remotedl.session.arrivals import ask_about_recipe
from remotedl.session.backoff import FINAL, delays
from remotedl.session.beside import beside
from remotedl.session.control import ControlServer
from remotedl.session.digest import digest, job_end_line
from remotedl.session.errands import NOTIFY
from remotedl.session.gate_key import gate_key
from remotedl.session.gpu_claims import Claim, released_on_failure
from remotedl.session.hearing import Heard
from remotedl.session.interrupt import interrupt_main_thread
from remotedl.session.memory import give_back
from remotedl.session.notify import notify
from remotedl.session.options import UpOptions
from remotedl.session.own_ports import holder_of, moved_line
from remotedl.session.project import Project
from remotedl.session.prompting import RememberingPrompt
from remotedl.session.pulse import Pulse
from remotedl.session.registry import SessionLock, announce, drop_record, read_record
from remotedl.session.status import Phase, Snapshot
from remotedl.session.syncing import SessionSync, passed_on
from remotedl.session.tunnels import (
    JUPYTER,
    SessionTunnels,
    check_ports,
    wanted_tunnels,
)
from remotedl.session.watching import HostWatch, idleness_row, job_row
from remotedl.session.workplace import Workplace, remember_access
from remotedl.ssh.prompt import Prompt

LOOK_EVERY_S = 0.5
EVENTS_KEPT = 200
TIDY_EVERY_S = 600.0
GPU_ANSWER_S = 1.0
"""What a look at the host's GPUs is worth to who asks for the status."""
LONG_AWAY_S = 60.0
"""An absence that is worth a notification on the desktop."""


class Session:
    """Made in the foreground or the background process; one a project and host."""

    def __init__(
        self,
        project: Project,
        host_name: str,
        host: HostConfig,
        options: UpOptions,
        prompt: Prompt,
        report: Report,
    ) -> None:
        self.project, self.host_name, self.host, self.options = project, host_name, host, options
        self.failure: RemotedlError | None = None
        self._prompt = RememberingPrompt(prompt)
        self._report: Report = Heard(report, self._hear)
        self._folder = project.state_folder(host_name)
        self._lock = SessionLock(self._folder)
        self._stop = threading.Event()
        self._reviving = threading.Lock()
        self._phase, self._detail = Phase.STARTING, ""
        self._since = time.time()
        self._events: deque[tuple[float, str]] = deque(maxlen=EVENTS_KEPT)
        self._place: Workplace | None = None
        self._links: stages.Links | None = None
        self._ready: stages.Ready | None = None
        self._running: Running | None = None
        self._image = ""
        self._sync: SessionSync | None = None
        self._tunnels: SessionTunnels | None = None
        self._watch: HostWatch | None = None
        self._control: ControlServer | None = None

    # ---------------------------------------------------------------- the way up

    def bring_up(self) -> None:
        """Everything up to live. Raises the error of the stage that failed; `close` then."""
        self._claim()
        self._publish()
        stages.check_project(self.project)
        if self.host.runtime is RuntimeKind.DOCKER:
            ask_about_mounts(self.project, self.host_name, self._prompt, self._report)
        ask_about_recipe(self.project, self.host.runtime, self._prompt, self._report)
        check_ports(wanted_tunnels(self.project.config.project, self.host))
        links = stages.connect(
            self.host,
            self._prompt,
            self._report,
            name=self.host_name,
            options=self.options,
        )
        self._links = links
        place, ready, running = self._start_work(links.work)
        self._ready = ready
        self._sync = SessionSync(
            self.project,
            self._folder,
            self._report,
            self._tell,
            self._prompt.confirm,
            "" if place.engine is None else running.name,
        )
        self._sync.connect(place.remote, running.folders.workdir)
        self._open_tunnels(ready.forward_ports)
        run_folder, container = running.folders.run, running.name
        given = place.runtime.status().gpus if place.engine is None else ()
        self._watch = HostWatch(
            place,
            run_folder,
            ready.facts,
            self.host_name,
            container,
            on_end=self._job_ended,
            autostop=self.project.config.project.autostop is not None,
            claim=self._gpu_claim(given) if place.engine is None else None,
            on_change=self._tell,
        )
        self._phase, self._detail, self._since = Phase.LIVE, "", time.time()

    def _start_work(self, link: Door) -> tuple[Workplace, stages.Ready, Running]:
        """The host made ready, the image there, the container or the native services running."""
        host, report = self.host, self._report
        with released_on_failure(link, self.project.id):
            place, ready = stages.prepare(
                link, self.project, host, self.options, self._prompt, report
            )
            self._place = place
            if ready.access is not None:
                remember_access(self._folder, ready.access)
            self._image = ready.image_name
            consent = stages.consent_of(self.options, self._prompt, report)
            door = link if self.options.via_laptop else None
            self._running = stages.start_runtime(place, host, ready, report, consent, door)
        return place, ready, self._running

    def preview(self) -> list[str]:
        """What `up` would do on the host, and why. Nothing is changed."""
        links = stages.connect(
            self.host,
            self._prompt,
            self._report,
            name=self.host_name,
            options=self.options,
        )
        try:
            stages.check_project(self.project)
            through = self.options.via_laptop
            return stages.preview(links.work, self.project, self.host, through_laptop=through)
        finally:
            links.close()

    def _claim(self) -> None:
        if read_record(self._folder) is not None or not self._lock.acquire():
            raise SessionError(
                f"a session of {self.project.root.name} with {self.host_name} runs already",
                hint=f"remotedl attach {self.host_name}",
            )

    def _open_tunnels(self, forward_ports: tuple[int, ...]) -> None:
        self._report.stage("tunnel")
        config = stages.with_ports(self.project.config.project, forward_ports)
        wants = wanted_tunnels(config, self.host)
        self._tunnels = SessionTunnels(wants, self.host_name, gate_key(self._folder), self._report)
        for name, wished, port in self._tunnels.moved():
            self._report.warn(*moved_line(name, wished, port, holder_of(wished)))
        self._connect_tunnels()
        ports = ", ".join(str(self._tunnels.port(want.name)) for want in wants)
        self._report.stage("tunnel", f"127.0.0.1: {ports}" if wants else "none wanted")

    def _connect_tunnels(self) -> None:
        if self._tunnels is None or self._running is None or self._links is None:
            raise SessionError("the session is not up")
        self._tunnels.connect(self._links.tunnels.wait(), self._running.sockets)

    def _gpu_claim(self, given: Sequence[str]) -> Claim:
        return Claim(self.project.id, given, name=self.project.label)

    def _publish(self) -> None:
        self._control = ControlServer(self._folder, self._requests())
        announce(self._folder, self.project, self.host_name, self._control, self._since)

    # ---------------------------------------------------------------- staying alive

    def hold(self, stop: threading.Event) -> None:
        """Keep everything alive until `stop` is set or something final happens (`failure`)."""
        self._stop = stop
        try:
            while not stop.is_set():
                why = self._until_lost(stop)
                if why is not None:
                    self._bring_back(stop, why)
        except Exception as exc:  # noqa: BLE001 - a bug ends the session properly, and is told
            message = f"the session ended: internal error: {type(exc).__name__}: {exc}"
            self.failure = SessionError(message, hint=f"remotedl up {self.host_name}")
            self.failure.__cause__ = exc
            stop.set()

    def held(self) -> AbstractContextManager[threading.Event]:
        """Keep it alive in a thread while the block runs; the event is set when it has ended."""
        return beside("session", self.hold)

    def _until_lost(self, stop: threading.Event) -> RemotedlError | None:
        """Look after the host; the reason when the link is gone, None when stopped."""
        if self._place is None or self._sync is None or self._watch is None or self._links is None:
            raise SessionError("the session is not up")
        gone = threading.Event()
        pulses = [Pulse(link, gone) for link in (self._links.work, self._links.tunnels.wait())]
        for pulse in pulses:
            pulse.start()
        self._sync.start()
        self._watch.start()
        try:
            tidy_at = 0.0
            while not gone.wait(LOOK_EVERY_S) and not stop.is_set():
                if time.monotonic() >= tidy_at:
                    give_back()
                    tidy_at = time.monotonic() + TIDY_EVERY_S
                lost = self._sync.lost() or self._watch.lost()
                if lost is not None:
                    return _first(pulses) or lost
        finally:
            self._watch.close()
            for pulse in pulses:
                pulse.stop()
        return None if stop.is_set() else _first(pulses)

    def _bring_back(self, stop: threading.Event, why: RemotedlError) -> None:
        before, began = self.snapshot(), time.time()
        self._phase, self._detail, self._since = Phase.RECONNECTING, why.message, time.time()
        self._tell(f"link lost: {why.message}")
        self._drop_links()
        for delay in delays(random.random):
            if stop.wait(delay):
                return
            try:
                self._reconnect()
            except FINAL as exc:
                self.failure = exc
                stop.set()
                return
            except RemotedlError as exc:
                self._detail = exc.message
                self._drop_links()
                continue
            break
        self._phase, self._detail, self._since = Phase.LIVE, "", time.time()
        self._welcome(before, time.time() - began)

    def _reconnect(self) -> None:
        """The same container, ports and token, over new links."""
        self._prompt.begin()
        silent = stages.QUIET
        links = stages.connect(
            self.host, self._prompt, silent, name=self.host_name, options=self.options
        )
        self._links = links
        if self._sync is None or self._watch is None or self._running is None:
            raise SessionError("the session is not up")
        place, running = stages.rejoin(links.work, self.project, self.host, self._folder)
        self._place, self._running = place, running or self._running
        self._sync.connect(place.remote, self._running.folders.workdir)
        self._connect_tunnels()
        self._watch.move(place)

    def _welcome(self, before: Snapshot, away_s: float) -> None:
        """Say what happened meanwhile; after a real absence also on the desktop."""
        if self._watch is not None:
            try:
                self._watch.look()
            except RemotedlError:
                pass  # the link is gone again: the next ping says so
        moved = self._sync.moved if self._sync is not None else (0, 0)
        told = digest(before, self.snapshot(), away_s, moved)
        self._tell(told)
        if away_s >= LONG_AWAY_S:
            notify(f"remotedl: {self.host_name}", told)

    def _job_ended(self, job: Job) -> None:
        line = job_end_line(job_row(job))
        self._tell(line)
        if job.note.get(NOTIFY):
            notify(f"remotedl: {self.host_name}", line)

    def _drop_links(self) -> None:
        if self._tunnels is not None:
            self._tunnels.disconnect()
        if self._sync is not None:
            self._sync.disconnect()
        if self._place is not None:
            self._place.close()
        if self._links is not None:
            self._links.close()
            self._links = None

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """End the session in order; the container goes on. Idempotent."""
        self._phase = Phase.STOPPED
        for part in (self._watch, self._tunnels, self._sync):
            if part is not None:
                part.close()
        self._tunnels = self._sync = None
        self._drop_links()
        # Up to here whoever is attached is told that it ends.
        control, self._control = self._control, None
        if control is not None:
            control.close()
        if self._lock.held:
            drop_record(self._folder)
            self._lock.release()

    # ---------------------------------------------------------------- what it says

    @property
    def up(self) -> bool:
        """Whether `bring_up` came to its end, and `close` was not called yet."""
        return self._phase in (Phase.LIVE, Phase.RECONNECTING)

    @property
    def jupyter_url(self) -> str | None:
        return self._url(JUPYTER)

    def addresses(self) -> list[str]:
        """The lines to print once it is up."""
        tunnels = self._tunnels.status(self._url_on) if self._tunnels is not None else ()
        return [f"{one.name:<12} {one.url}" for one in tunnels if one.url is not None]

    def snapshot(self, wait_s: float = 0.0) -> Snapshot:
        """How everything stands right now; from any thread, never blocks on the link.

        `wait_s`: how long the host's GPUs may take to be looked at once more.
        """
        running, tunnels, sync, watch = self._running, self._tunnels, self._sync, self._watch
        down = self._down()
        return Snapshot(
            host=self.host_name,
            address=self.host.address,
            project=self.project.root.name,
            root=str(self.project.root),
            workdir=running.folders.workdir if running else "",
            pid=os.getpid(),
            phase=Phase.DOWN if down else self._phase,
            detail=down or self._detail,
            since=self._since,
            runtime=self.host.runtime.value,
            image=self._image or None,
            container=running.name if running else None,
            gpus=str(self.host.gpus),
            tunnels=tunnels.status(self._url_on) if tunnels else (),
            sync=sync.line() if sync else None,
            jobs=watch.jobs if watch else (),
            gpu_lines=watch.gpu_lines(wait_s) if watch else (),
            events=tuple(self._events),
            warnings=(*_way_back(down, self.host_name), *(watch.warnings if watch else ())),
            autostop=idleness_row(watch.idleness) if watch and watch.idleness else None,
        )

    def _down(self) -> str:
        """What became of the container of a session that is live otherwise; "" where it runs."""
        watch = self._watch
        if watch is None or self._phase is not Phase.LIVE or not watch.down:
            return ""
        idle = watch.idleness is not None and watch.idleness.ended is not None
        return "it was stopped for idleness" if idle else watch.down

    def _url(self, name: str) -> str | None:
        port = self._tunnels.port(name) if self._tunnels is not None else None
        return None if port is None else self._url_on(name, port)

    def _url_on(self, name: str, port: int) -> str | None:
        if name == JUPYTER and self._running is not None:
            return f"http://127.0.0.1:{port}/lab?token={self._running.token}"
        return self._tunnels.link(name) if self._tunnels is not None else None

    def _hear(self, stage: str, detail: str) -> None:
        if self._phase is Phase.STARTING:
            self._detail = f"{stage} {detail}".rstrip()

    def _tell(self, text: str) -> None:
        self._events.append((time.time(), text))

    def _requests(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """What other commands on this laptop may ask of this session."""

        def status(_: Mapping[str, Any]) -> Any:
            return self.snapshot(GPU_ANSWER_S).as_json()

        def stop(_: Mapping[str, Any]) -> Any:
            self._stop.set()
            if self._phase is Phase.STARTING:
                # The stages wait for the host, not for us: end them as Ctrl-C would.
                interrupt_main_thread()
            return True

        def revive(_: Mapping[str, Any]) -> Any:
            return self._revive()

        own = {"status": status, "stop": stop, "revive": revive}
        return {**own, **passed_on(lambda: self._sync)}

    def _revive(self) -> str:
        """Bring back the container of a live session; what was done. For the control channel."""
        place, ready, links, watch = self._place, self._ready, self._links, self._watch
        if place is None or ready is None or links is None or watch is None:
            raise SessionError(
                f"there is no link to {self.host_name} at the moment", hint="remotedl status"
            )
        with self._reviving:
            watch.look_at_container()
            if not watch.down:
                return "it runs already"
            consent = stages.consent_of(self.options, self._prompt, stages.QUIET)
            running = stages.start_runtime(place, self.host, ready, stages.QUIET, consent)
            if self._running is not None and self._running.sockets != running.sockets:
                self._running = running
                self._connect_tunnels()
            self._running = running
            watch.look_at_container()
        return f"{running.name} ({running.change.value})"


def _way_back(down: str, host: str) -> tuple[tuple[str, str], ...]:
    return ((down, f"remotedl up {host}"),) if down else ()


def _first(pulses: list[Pulse]) -> RemotedlError | None:
    return next((pulse.why for pulse in pulses if pulse.why is not None), None)
