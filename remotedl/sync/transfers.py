"""Big files on their way, in the background, so that a small save never waits for a checkpoint.

A transfer brings content into the other side's staging area, by digest. It changes nothing that
a user sees: the cycle that finds it there puts it in place. So it may be lost, repeated, or be
of a version that nobody wants any more.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import NamedTuple

from remotedl.errors import LinkLost, SyncError
from remotedl.sync.agent.protocol import Content
from remotedl.sync.agent.replica import Replica
from remotedl.sync.agent.transfer import GONE, SMALL, Basis, Wanted
from remotedl.sync.agent.tree import Entry, Kind
from remotedl.sync.agent.wire import Closed
from remotedl.sync.peer import Peer
from remotedl.sync.status import Progress
from remotedl.sync.verdict import Where

BIG = 4 << 20
"""Bytes; from here on a file is brought over in the background."""
RETRY_S = 30.0
GONE_S = 0.5
"""The same for a file that was another one by the time that it was to be sent."""
ANSWER_S = 600.0

assert BIG > SMALL


class Job(NamedTuple):
    """One content that goes one way."""

    key: str
    where: Where
    """Where it goes."""
    path: str
    """Where it comes from, as spelled there."""
    entry: Entry
    basis: Basis | None
    """An earlier version that stands on the receiving side."""


class Transfers:
    """Runs one transfer a direction at a time. `want` and `state` from the cycle's thread."""

    def __init__(
        self, replica: Replica, peer: Peer, clock: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        self._replica = replica
        self._peer = peer
        self._clock = clock
        self._wake = wake
        self._lock = threading.Lock()
        self._jobs: dict[tuple[Where, bytes], Job] = {}
        self._done: dict[tuple[Where, bytes], str] = {}
        """Why a transfer failed, "" where it did not."""
        self._failed_at: dict[tuple[Where, bytes], float] = {}
        self._finished = False
        self._active: dict[Where, Job] = {}
        self._outflow = peer.outflow(replica)
        self._queues: dict[Where, queue.SimpleQueue[Job | None]] = {}
        for where in Where:
            self._queues[where] = queue.SimpleQueue()
            run = threading.Thread(
                target=self._run, args=(where,), name=f"sync-to-{where.value}", daemon=True
            )
            run.start()

    def want(self, job: Job) -> str | None:
        """Whether the content is in place: "" if so, None while it is not, else why it failed."""
        assert job.entry.digest is not None
        name = (job.where, job.entry.digest)
        with self._lock:
            why = self._done.get(name)
            wait_s = GONE_S if why == GONE else RETRY_S
            if why and self._clock() - self._failed_at[name] > wait_s:
                del self._done[name]
                why = None
            if why is None and name not in self._jobs:
                self._jobs[name] = job
                self._queues[job.where].put(job)
        return why

    def forget(self, where: Where, digest: bytes) -> None:
        """It was put in place, or has gone from where it waited."""
        with self._lock:
            self._done.pop((where, digest), None)

    def take_finished(self) -> bool:
        """Whether any transfer has ended since the last call."""
        with self._lock:
            finished, self._finished = self._finished, False
        return finished

    @property
    def running(self) -> int:
        with self._lock:
            return len(self._jobs)

    def progress(self) -> tuple[Progress, ...]:
        with self._lock:
            jobs = list(self._jobs.values())
        return tuple(
            Progress(one.key, one.where, self._so_far(one), one.entry.size) for one in jobs
        )

    def close(self) -> None:
        for waiting in self._queues.values():
            waiting.put(None)

    def _run(self, where: Where) -> None:
        bring = self._upload if where is Where.REMOTE else self._download
        while (job := self._queues[where].get()) is not None:
            assert job.entry.digest is not None
            name = (where, job.entry.digest)
            self._active[where] = job
            try:
                why = bring(job)
            except (LinkLost, Closed):
                return
            except Exception as exc:  # noqa: BLE001
                # Whatever it is: a job that never ends would be waited for for ever.
                why = str(exc) or type(exc).__name__
            with self._lock:
                del self._jobs[name]
                self._done[name] = why
                self._finished = True
                if why:
                    self._failed_at[name] = self._clock()
            self._wake()

    def _so_far(self, job: Job) -> int:
        if self._active.get(job.where) is not job:
            return 0
        if job.where is Where.REMOTE:
            return self._outflow.done
        try:
            return self._replica.staging.resumes_at(_content(job))
        except OSError:
            return 0

    def _upload(self, job: Job) -> str:
        """Raises LinkLost, Closed, SyncError, OSError."""
        content = _content(job)
        asked = self._peer.ops("offsets", contents=[[content.digest.hex(), content.size]])
        start = int(asked.wait(ANSWER_S)["offsets"][0])
        if not 0 <= start <= content.size:
            raise SyncError("the agent claims to have more than there is")
        why = self._send(job, content, start)
        return self._send(_anew(job), content, 0) if why and (start or job.basis) else why

    def _send(self, job: Job, content: Content, start: int) -> str:
        stream = self._peer.new_stream()
        arrived = self._peer.expect(stream)
        why = self._outflow.send_big(Wanted(job.path, job.entry, start, job.basis), stream)
        if why:
            self._peer.expect_no_more(stream)
            return why
        failed = arrived.wait(ANSWER_S).get("failed", {})
        return str(failed.get(content.digest.hex(), ""))

    def _download(self, job: Job) -> str:
        """Raises LinkLost, Closed, SyncError, OSError."""
        content = _content(job)
        start = self._replica.staging.resumes_at(content)
        why = self._receive(job, content, start)
        return self._receive(_anew(job), content, 0) if why and (start or job.basis) else why

    def _receive(self, job: Job, content: Content, start: int) -> str:
        if self._replica.staging.has(content.digest):
            return ""
        answer = self._peer.get([Wanted(job.path, job.entry, start, job.basis)]).wait()
        failed = answer.get("failed", {})
        why = str(failed.get(content.digest.hex(), ""))
        if not why and not self._replica.staging.has(content.digest):
            return self._peer.not_taken.get(content.digest, "it did not arrive whole")
        return why


def is_big(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.FILE and entry.size >= BIG


def _anew(job: Job) -> Job:
    """Nothing is taken for granted any more: what a crash left of an earlier try may be zeros, an
    earlier version may have changed. The digest of the whole has said so."""
    return job._replace(basis=None)


def _content(job: Job) -> Content:
    assert job.entry.digest is not None
    return Content(job.entry.digest, job.entry.size)
