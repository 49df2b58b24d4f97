"""Two real folders and the sync between them; the agent runs in a thread, or as a real process.

`AgentInThread` is a `Remote` whose only program is the agent, run in this process over a socket
pair. So a test can hand it a faulty disk, and starts it in milliseconds. What it cannot show:
anything about links, uploads and signals; those tests use a real sshd.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from remotedl.config.models import SyncConfig
from remotedl.errors import LinkLost
from remotedl.report import SILENT, Report
from remotedl.sync.agent import protocol
from remotedl.sync.agent.disk import Disk
from remotedl.sync.agent.serve import Agent
from remotedl.sync.engine import Sync
from remotedl.sync.status import Outcome, SyncStatus

LIMIT_S = 10.0


class AgentInThread:
    """As much of a `Remote` as a sync needs."""

    name = "host"
    user = "user"

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk
        self.processes: list[ThreadProcess] = []
        self.lost = False

    def start(self, argv: Iterable[str], **_: Any) -> ThreadProcess:
        if self.lost:
            raise LinkLost("the test cut the link")
        process = ThreadProcess(self.disk)
        self.processes.append(process)
        return process

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        raise AssertionError("an agent in a thread is never uploaded")

    def lose_link(self) -> None:
        """Every connection breaks; the agents end as if their host had noticed."""
        for process in self.processes:
            process.lose()


class ThreadProcess:
    """The agent in a thread, as a Process."""

    def __init__(self, disk: Disk | None) -> None:
        self._ours, theirs = socket.socketpair()
        self._lost = False
        for end in (self._ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.sendall(protocol.MAGIC)
        agent = Agent(_until_closed(theirs), theirs.sendall, disk=disk)
        self.thread = threading.Thread(target=self._run, args=(agent, theirs), daemon=True)
        self.thread.start()

    def recv(self, size: int) -> bytes:
        try:
            data = self._ours.recv(size)
        except OSError as exc:
            raise LinkLost("the test cut the link") from exc
        if not data and self._lost:
            raise LinkLost("the test cut the link")
        return data

    def sendall(self, data: Any) -> None:
        try:
            self._ours.sendall(data)
        except OSError as exc:
            raise LinkLost("the test cut the link") from exc

    def recv_stderr(self, size: int) -> bytes:
        return b""

    def shutdown_write(self) -> None:
        try:
            self._ours.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def wait(self, timeout_s: float | None = None) -> int:
        self.thread.join(timeout_s)
        if self.thread.is_alive():
            raise TimeoutError
        return 0

    def close(self) -> None:
        try:
            self._ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join(10)

    def resize(self, columns: int, rows: int) -> None: ...

    def lose(self) -> None:
        self._lost = True
        self.close()

    def _run(self, agent: Agent, end: socket.socket) -> None:
        try:
            agent.run()
        finally:
            end.close()


def _until_closed(end: socket.socket) -> Callable[[int], bytes]:
    def receive(size: int) -> bytes:
        try:
            return end.recv(size)
        except OSError:
            return b""

    return receive


class Folders:
    """A laptop's folder, a host's folder, and what is needed to sync them."""

    def __init__(
        self, base: Path, remote: Any | None = None, remote_root: str | None = None
    ) -> None:
        self.base = base
        self.laptop = base / "laptop"
        self.host = base / "host"
        self.state = base / "state"
        self.laptop.mkdir(parents=True, exist_ok=True)
        self.host.mkdir(exist_ok=True)
        self.remote = AgentInThread() if remote is None else remote
        self.remote_root = str(self.host) if remote_root is None else remote_root
        self.config = SyncConfig()
        self._open: list[Sync] = []
        self._runs: list[tuple[threading.Event, threading.Thread]] = []
        self.run_errors: list[BaseException] = []

    def make(self, *, watch: bool = False, report: Report = SILENT, **options: Any) -> Sync:
        """A session that is not open yet."""
        sync = Sync(
            self.laptop,
            self.remote,
            self.remote_root,
            options.pop("config", self.config),
            state_dir=self.state,
            watch=watch,
            report=report,
            **options,
        )
        self._open.append(sync)
        return sync

    def open(self, **options: Any) -> Sync:
        sync = self.make(**options)
        sync.open()
        return sync

    def once(self, **options: Any) -> Outcome:
        """A whole session with one cycle, as `sync --once`."""
        sync = self.make(**options)
        sync.open()
        try:
            return sync.cycle(scan=False)
        finally:
            sync.close()

    def live(self, **options: Any) -> Sync:
        """An open session that runs in a thread until the test ends."""
        sync = self.open(watch=True, **options)
        sync.cycle(scan=False)
        stop = threading.Event()

        def run() -> None:
            try:
                sync.run(stop)
            except BaseException as exc:
                self.run_errors.append(exc)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._runs.append((stop, thread))
        return sync

    def close(self) -> None:
        for stop, thread in self._runs:
            stop.set()
            thread.join(10)
        self._runs.clear()
        for sync in self._open:
            sync.close()
        self._open.clear()

    def tree(self, side: Path) -> dict[str, str]:
        return tree(side)

    def assert_equal(self) -> None:
        assert tree(self.laptop) == tree(self.host)


def tree(root: Path) -> dict[str, str]:
    """What is in a folder, without our own corner: "dir", "link TARGET", or content and x bit."""
    found = {}
    for folder, dirs, files in os.walk(os.fsencode(root)):
        if folder == os.fsencode(root) and b".remotedl" in dirs:
            dirs.remove(b".remotedl")
        for name in dirs + files:
            path = os.path.join(folder, name)
            key = os.fsdecode(os.path.relpath(path, os.fsencode(root)))
            found[key] = _what(path)
    return found


def _what(path: bytes) -> str:
    if os.path.islink(path):
        return f"link {os.fsdecode(os.readlink(path))}"
    if os.path.isdir(path):
        return "dir"
    if not os.path.isfile(path):
        return "special"
    with open(path, "rb") as file:
        data = file.read()
    return f"{'x' if os.stat(path).st_mode & 0o100 else '-'} {data!r}"


def trash(root: Path) -> set[bytes]:
    """The contents in a side's trash."""
    folder = root / ".remotedl" / "trash"
    if not folder.is_dir():
        return set()
    return {
        path.read_bytes()
        for path in folder.iterdir()
        if path.name != "journal" and path.is_file() and not path.is_symlink()
    }


def eventually(check: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until `check` is true. The only clock in these tests: a deadline."""
    deadline = time.monotonic() + limit_s
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def settled(sync: Sync) -> SyncStatus:
    """Both sides have seen everything that was written before."""
    sync.flush(LIMIT_S)
    return sync.status()
