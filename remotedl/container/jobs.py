"""Jobs as the laptop sees them: started in the runtime, read from the host's disk.

A job belongs to nobody's connection. `start` returns its id at once; `follow` streams its output
from any offset, as often as the link needs; the files it reads are there after the container has
gone. What runs on the other side is payload/job.py.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from remotedl.container.runtime import Runtime
from remotedl.errors import ContainerError, EngineError, JobNotFound, RemoteCommandFailed
from remotedl.ssh.remote import Chunk, Process, Remote, Result

HEADER = struct.Struct(">cI")
CHUNK = 64 * 1024
GRACE_S = 10.0
NO_SUCH_JOB = 3
FRAME_LIMIT = 1 << 24


class JobState(StrEnum):
    CREATED = "created"
    """Never started: the link or the container went in between."""
    RUNNING = "running"
    EXITED = "exited"
    LOST = "lost"
    """Its container or its host went down under it."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job and how it stands. Times are seconds of the host's clock since 1970."""

    id: str
    argv: tuple[str, ...]
    state: JobState
    created: float
    started: float | None = None
    ended: float | None = None
    code: int | None = None
    """Exit status; 128 + n when signal n ended it."""
    stopped: bool = False
    """Somebody asked for its end."""
    dropped: int = 0
    """Bytes of output that a full disk has cost."""
    left_out: int = 0
    """Bytes of output that the limit has cost: the first and the last parts are kept."""
    note: Mapping[str, Any] = field(default_factory=dict)
    """What whoever started it wanted to remember: the file versions it saw, its GPUs."""


@dataclass
class Position:
    """How far a job's output has been read. Kept by the caller: a new link goes on there."""

    offset: int = 0


class Jobs:
    """The jobs of one project on one host."""

    def __init__(
        self, remote: Remote, runtime: Runtime, run_folder: str, *, host_python: str = "python3"
    ) -> None:
        self._remote = remote
        self._runtime = runtime
        self._run = run_folder
        self._host_python = host_python

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str] | None = None,
        note: Mapping[str, Any] | None = None,
        output_limit: int | None = None,
    ) -> str:
        """Start `argv` in the runtime, in its folder `cwd`; the new job's id.

        A command that cannot be found still is a job: it ends at once with 127, as in a shell.
        `output_limit`: bytes of its output that are kept on the host, the first and the last.
        """
        meta: dict[str, Any] = {"argv": list(argv), "cwd": cwd, "env": dict(env or {})}
        meta |= {"note": dict(note or {}), "output_limit": output_limit}
        job_id = self._host("new", self._run, stdin=json.dumps(meta).encode()).strip()
        try:
            result = self._runtime.run(self._inside("start", job_id))
        except (ContainerError, EngineError):
            self.remove(job_id)
            raise
        if not result.ok:
            self.remove(job_id)
            raise ContainerError(
                f"the job did not start: {result.error_text.strip()}", hint="remotedl up"
            )
        return job_id

    def follow(
        self,
        job_id: str,
        on_stdout: Chunk,
        on_stderr: Chunk,
        *,
        position: Position | None = None,
        tail: int | None = None,
        wait: bool = True,
        on_gap: Callable[[int], None] = lambda size: None,
    ) -> Job:
        """Its output from `position` on (or its last `tail` lines), until it ends.

        With `wait=False` only what there is now. Raises LinkLost; called again on a new link with
        the same position, not a byte comes twice and none is missed. `on_gap` is told of bytes
        that the limit of the output has cost, where they would have come.
        """
        at = position or Position()
        options = [str(at.offset)]
        options += [] if tail is None else ["--tail", str(tail)]
        options += [] if wait else ["--no-wait"]
        process = self._remote.start([*self._program("follow"), job_id, *options])
        try:
            for kind, data in _frames(process):
                if kind == b"s":
                    at.offset = int(json.loads(data)["offset"])
                elif kind == b"x":
                    return _job(self._meta(job_id), json.loads(data))
                elif kind == b"g":
                    size = int(json.loads(data)["bytes"])
                    at.offset += size
                    on_gap(size)
                elif kind in (b"o", b"e"):
                    (on_stdout if kind == b"o" else on_stderr)(data)
                    at.offset += len(data)
            if process.wait(10) == NO_SUCH_JOB:
                raise _not_found(job_id)
            said = process.recv_stderr(CHUNK).decode("utf-8", "replace").strip()
            raise ContainerError(f"the output of job {job_id} cannot be read: {said}")
        finally:
            process.close()

    def all(self) -> list[Job]:
        """All of them, the oldest first."""
        return [_job(row, row) for row in json.loads(self._host("list", self._run))]

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        found = next((job for job in self.all() if job.id == job_id), None)
        if found is None:
            raise _not_found(job_id)
        return found

    def running(self) -> list[Job]:
        return [job for job in self.all() if job.state is JobState.RUNNING]

    def stop(self, job_id: str, grace_s: float = GRACE_S) -> Job:
        """TERM to all of its processes, KILL after `grace_s`.

        One that has ended stays as it is; what it left in the background ends.
        """
        state = self.get(job_id).state
        if state in (JobState.RUNNING, JobState.EXITED):
            try:
                result = self._runtime.run([*self._inside("stop", job_id), f"{grace_s:g}"])
            except (ContainerError, EngineError):
                if state is JobState.RUNNING:
                    raise
                return self.get(job_id)  # nothing runs, so nothing of it does
            if not result.ok:
                raise ContainerError(f"job {job_id}: {result.error_text.strip()}")
        return self.get(job_id)

    def remove(self, job_id: str) -> None:
        """Forget one that has ended, with its output."""
        self._host("remove", self._run, job_id)

    def _meta(self, job_id: str) -> dict[str, Any]:
        path = f"{self._run}/jobs/{job_id}/meta.json"
        found: dict[str, Any] = json.loads(self._remote.run(["cat", path]).stdout)
        return found

    def _program(self, verb: str) -> list[str]:
        return [self._host_python, f"{self._run}/job.py", verb, self._run]

    def _inside(self, verb: str, job_id: str) -> list[str]:
        folder = self._runtime.inside
        return [self._runtime.python, f"{folder}/job.py", verb, folder, job_id]

    def _host(self, verb: str, *args: str, stdin: bytes = b"") -> str:
        argv = [self._host_python, f"{self._run}/job.py", verb, *args]
        result = self._remote.run(argv, stdin=stdin, check=False)
        if result.code == NO_SUCH_JOB:
            raise _not_found(args[-1])
        if not result.ok:
            raise _unreadable(self._remote, result)
        return result.text


def running_jobs(remote: Remote, run_folder: str, host_python: str = "python3") -> tuple[str, ...]:
    """Ids of the jobs that run; () where there never was one. Raises when it can't be told."""
    script = '[ -f "$2/job.py" ] || exit 0; exec "$1" "$2/job.py" list "$2"'
    result = remote.run(["sh", "-c", script, "sh", host_python, run_folder], check=False)
    if not result.ok:
        raise _unreadable(remote, result)
    rows = json.loads(result.text or "[]")
    return tuple(row["id"] for row in rows if row["state"] == JobState.RUNNING)


def _job(meta: Mapping[str, Any], state: Mapping[str, Any]) -> Job:
    return Job(
        id=str(meta["id"]),
        argv=tuple(meta["argv"]),
        state=JobState(state["state"]),
        created=float(meta["created"]),
        started=state.get("started"),
        ended=state.get("ended"),
        code=state.get("code"),
        stopped=bool(state.get("stopped")),
        dropped=int(state.get("dropped", 0)),
        left_out=int(state.get("left_out", 0)),
        note=meta.get("note") or {},
    )


def _frames(process: Process) -> Iterator[tuple[bytes, bytes]]:
    """What job.py sends, whole frames only; a stream that ends within one just ends."""
    held = b""
    while data := process.recv(CHUNK):
        held += data
        while len(held) >= HEADER.size:
            kind, length = HEADER.unpack_from(held)
            if length > FRAME_LIMIT:
                raise ContainerError("the output of a job comes garbled", hint="remotedl doctor")
            if len(held) < HEADER.size + length:
                break
            yield kind, held[HEADER.size : HEADER.size + length]
            held = held[HEADER.size + length :]


def _unreadable(remote: Remote, result: Result) -> RemoteCommandFailed:
    said = result.error_text.strip()
    return RemoteCommandFailed(
        f"{remote.name}: the jobs cannot be read: {said}", hint="remotedl doctor"
    )


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id} here", hint="remotedl jobs")
