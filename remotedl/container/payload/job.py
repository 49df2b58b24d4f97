"""A job: a command in a session of its own, whose output, status and times are on the host's disk.

    job.py new RUN                    meta as JSON on stdin; prints the new job's id
    job.py start RUN ID               starts it and returns at once
    job.py follow RUN ID [OFFSET] [--tail N] [--no-wait]
    job.py list RUN                   JSON
    job.py stop RUN ID GRACE_S        TERM, then KILL, to all of its processes
    job.py stop-all RUN GRACE_S       the same for every job, also for what ended ones left behind
    job.py remove RUN ID              forgets a job that has ended

RUN/jobs/ID holds: meta.json (what was asked for), state.json (pids), output.log (both streams as
they came), output.idx (which stream each piece is of), exit.json (how it ended), lock. Output is
bounded (meta's output_limit): the first half of it stays in output.log, what comes after that goes
into output.OFFSET.log, of which only the newest are kept.

Decision: whether a job runs is told by a lock that its runner and its processes hold, not by a
pid. Pids of a container mean nothing on the host and are used again after a reboot; a lock is seen
on both sides of a bind mount and goes away with its holders, however they die.

Decision: which processes are a job's is told by three things at once: the session that it began,
its mark in their environment, and the tree below its runner, which adopts what its parents left
(a subreaper). One daemon slips out of a session, `env -i` out of the mark, a killed runner out of
the tree; nothing usual slips out of all three. A cgroup would be tighter, and needs rights that a
user on a foreign host has not.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import selectors
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from typing import IO, Any, Callable, Dict, List, NamedTuple, Optional, Tuple

RECORD = struct.Struct(">BI")
"""Which stream (1 stdout, 2 stderr), and how many bytes of output.log."""
FRAME = struct.Struct(">cI")
CHUNK = 64 * 1024
LONGEST_NOTE = 1 << 20
POLL_S = 0.05
HEARTBEAT_S = 5.0
KEPT = 500
MARK = "REMOTEDL_JOB_FOLDER"
PR_SET_CHILD_SUBREAPER = 36
"""Jobs that are remembered."""
STREAMS = {1: b"o", 2: b"e"}
OUTPUT_LIMIT = 1000**3
"""Bytes of output on the host's disk, where the job does not say."""
LATE_PARTS = 4
"""How many parts after the first are kept; each has an eighth of the limit."""


_MASK: List[int] = []
"""The umask of who started us: the job's files get it, what we note ourselves is private."""


def main(argv: List[str]) -> int:
    _MASK.append(os.umask(0o077))
    if argv[:1] == ["new"]:
        print(new(argv[1], json.load(sys.stdin)))
        return 0
    if argv[:1] == ["list"]:
        print(json.dumps(list_jobs(argv[1])))
        return 0
    if argv[:1] == ["stop-all"]:
        return max([stop(job, float(argv[2])) for job in with_processes(argv[1])], default=0)
    if len(argv) < 3 or not os.path.isdir(folder(argv[1], argv[2])):
        sys.stderr.write("no such job\n" if len(argv) > 2 else __doc__ or "")
        return 3 if len(argv) > 2 else 2
    job = folder(argv[1], argv[2])
    if argv[0] == "start":
        return start(argv[1], job)
    if argv[0] == "follow":
        return follow(job, argv[3:])
    if argv[0] == "stop":
        return stop(job, float(argv[3]))
    if argv[0] == "remove":
        return remove(job)
    return 2


def folder(run: str, job_id: str) -> str:
    if not job_id.isdigit():
        return ""
    return os.path.join(run, "jobs", job_id)


# ---------------------------------------------------------------- new, start


def new(run: str, meta: Dict[str, Any]) -> str:
    """Ids count up; mkdir decides who gets one, so two laptops never share it."""
    jobs = os.path.join(run, "jobs")
    os.makedirs(jobs, mode=0o700, exist_ok=True)
    forget_old(jobs)
    number = max([int(name) for name in os.listdir(jobs) if name.isdigit()], default=0) + 1
    while True:
        try:
            os.mkdir(os.path.join(jobs, str(number)), 0o700)
            break
        except FileExistsError:
            number += 1
    meta = dict(meta, id=str(number), created=time.time())
    write(os.path.join(jobs, str(number), "meta.json"), meta)
    return str(number)


def forget_old(jobs: str) -> None:
    """The host's disk is not for the output of last year's jobs."""
    for number in sorted(int(name) for name in os.listdir(jobs) if name.isdigit())[:-KEPT]:
        job = os.path.join(jobs, str(number))
        if outcome(job)["state"] != "running":
            shutil.rmtree(job, ignore_errors=True)


def start(run: str, job: str) -> int:
    """Returns once the runner holds the lock and has tried to start the command."""
    lock = os.open(os.path.join(job, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    # Whoever lists the jobs just now holds it for a moment.
    if not until(lambda: taken(lock), 1.0):
        sys.stderr.write("it runs already\n")
        return 1
    if os.path.exists(os.path.join(job, "exit.json")):
        sys.stderr.write("it has ended already\n")
        return 1
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        os.setsid()
        # Not a session leader any more, so no terminal can ever become its own.
        if os.fork() == 0:
            quiet()
            run_job(run, job, lock, writing)
        os._exit(0)
    os.close(writing)
    os.wait()
    with os.fdopen(reading, "rb") as told:
        return 0 if told.read() == b"ok" else 1


def taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def quiet() -> None:
    """Let go of the caller's streams: `docker exec` and ssh wait until nobody holds them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def run_job(run: str, job: str, lock: int, told: int) -> None:
    meta = read(os.path.join(job, "meta.json")) or {}
    output = Output(job, int(meta.get("output_limit") or OUTPUT_LIMIT))
    started = time.time()
    adopt()
    child, refusal = spawn(meta, environment(run, meta), lock)
    if child is None:
        output.write(2, (refusal[1] + "\n").encode("utf-8", "replace"))
        finish(job, started, refusal[0], output)
        os.write(told, b"ok")
        return

    def pass_on(number: int, frame: object) -> None:
        signal_all(job, number)

    signal.signal(signal.SIGTERM, pass_on)
    state = {"pid": child.pid, "started": started, "runner": os.getpid(), "born": born()}
    write(os.path.join(job, "state.json"), state)
    os.write(told, b"ok")
    os.close(told)
    pump(child, job, started, output)
    while reap(child, wait=True):
        pass


def adopt() -> None:
    """Become the parent of what our descendants leave behind, so that it stays findable."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass  # not Linux, or a Python without it: the session and the mark are left


def reap(child: subprocess.Popen[bytes], wait: bool) -> bool:
    """Bury one child that has ended, of our own or adopted; False where there is none left."""
    if not hasattr(os, "waitid"):
        (child.wait if wait else child.poll)()
        return child.returncode is None
    flags = os.WEXITED | os.WNOWAIT | (0 if wait else os.WNOHANG)
    try:
        found = os.waitid(os.P_ALL, 0, flags)
        if found is None:
            return True
        if found.si_pid == child.pid:
            child.wait()
        else:
            os.waitpid(found.si_pid, 0)
    except ChildProcessError:
        child.poll()
        return False
    return True


def spawn(
    meta: Dict[str, Any], env: Dict[str, str], lock: int
) -> Tuple[Optional[subprocess.Popen[bytes]], Tuple[int, str]]:
    argv, cwd = [str(part) for part in meta["argv"]], str(meta["cwd"])
    if not os.path.isdir(cwd):
        return None, (126, f"no such folder: {cwd}")
    private = os.umask(_MASK[0])
    try:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # If the runner is killed, the job still counts as running as long as it does.
            pass_fds=(lock,),
        )
    except FileNotFoundError:
        return None, (127, f"{argv[0]}: command not found")
    except OSError as exc:
        return None, (126, f"{argv[0]}: {exc.strerror}")
    finally:
        os.umask(private)
    return child, (0, "")


def environment(run: str, meta: Dict[str, Any]) -> Dict[str, str]:
    # Python holds back what it prints to a pipe; a job's output is wanted as it comes.
    env = dict({"PYTHONUNBUFFERED": "1"}, **os.environ)
    for extra in (read(os.path.join(run, "env.json")), meta.get("env")):
        env.update({str(k): str(v) for k, v in (extra or {}).items()})
    env["REMOTEDL_JOB"] = str(meta["id"])
    env[MARK] = os.path.abspath(folder(run, str(meta["id"])))
    return env


def pump(child: subprocess.Popen[bytes], job: str, started: float, output: Output) -> None:
    """Both streams to the disk until they end. The job's end is its first process's end.

    What that one left in the background may write on: it is still taken, and not recorded as
    part of the job's life.
    """
    assert child.stdout is not None and child.stderr is not None
    reading = selectors.DefaultSelector()
    reading.register(child.stdout, selectors.EVENT_READ, 1)
    reading.register(child.stderr, selectors.EVENT_READ, 2)
    ended = False
    while reading.get_map():
        # Looked at before reading: what it wrote before its end is then certainly in the pipes.
        reap(child, wait=False)
        over = child.returncode is not None
        ready = reading.select(POLL_S if not ended else None)
        for key, _ in ready:
            data = os.read(key.fd, CHUNK)
            if data:
                output.write(key.data, data)
            else:
                reading.unregister(key.fileobj)
        if over and not ready and not ended:
            finish(job, started, child.returncode, output)
            ended = True
    while child.returncode is None:
        reap(child, wait=True)
    if not ended:
        finish(job, started, child.returncode, output)


class Output:
    """The output on the disk, within its limit. A full disk costs output, never the job."""

    def __init__(self, job: str, limit: int = OUTPUT_LIMIT) -> None:
        self._job, self._limit = job, limit
        self.written = 0
        self.dropped = 0
        self.left_out = 0
        """Bytes that were written and had to go again."""
        self._begin(0)

    def write(self, stream: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                if self._size >= self._room:
                    self._roll()
                done = os.write(self._log, view)
                self._record(stream, done)
            except OSError:
                os.ftruncate(self._log, self.written - self._start)
                self.dropped += len(view)
                return
            self.written += done
            self._size += done + RECORD.size
            view = view[done:]

    def _begin(self, start: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = os.open(part(self._job, start, "log"), flags, 0o600)
        try:
            self._index = os.open(part(self._job, start, "idx"), flags, 0o600)
        except OSError:
            os.close(log)
            raise
        self._log, self._start, self._size = log, start, 0
        self._room = max(1, self._limit // (2 * LATE_PARTS if start else 2))

    def _roll(self) -> None:
        """Go on in another part; the oldest but the first makes room."""
        before = self._log, self._index
        self._begin(self.written)
        for old in before:
            os.close(old)
        starts = parts(self._job)
        for start in starts[1:-LATE_PARTS]:
            self.left_out += os.path.getsize(part(self._job, start, "log"))
            for kind in ("log", "idx"):
                os.unlink(part(self._job, start, kind))

    def _record(self, stream: int, length: int) -> None:
        size = os.fstat(self._index).st_size
        try:
            if os.write(self._index, RECORD.pack(stream, length)) != RECORD.size:
                raise OSError(errno.ENOSPC, "torn record")
        except OSError:
            os.ftruncate(self._index, size)
            raise


def part(job: str, start: int, kind: str) -> str:
    """The file of the output from `start` (bytes since the beginning) on."""
    return os.path.join(job, f"output.{start}.{kind}" if start else f"output.{kind}")


def parts(job: str) -> List[int]:
    """Where the parts of the output begin that are there, sorted."""
    names = [name.split(".") for name in os.listdir(job) if name.startswith("output.")]
    return sorted(
        0 if len(words) == 2 else int(words[1])
        for words in names
        if words[-1] == "log" and (len(words) == 2 or words[1].isdigit())
    )


def finish(job: str, started: float, returncode: int, output: Output) -> None:
    """exit.json, tried again while the disk is full: a job must not seem to run for ever."""
    ended = {
        "code": returncode if returncode >= 0 else 128 - returncode,
        "signal": -returncode if returncode < 0 else None,
        "started": started,
        "ended": time.time(),
        "stopped": os.path.exists(os.path.join(job, "stop")),
        "output": output.written,
        "dropped": output.dropped,
        "left_out": output.left_out,
    }
    while True:
        try:
            write(os.path.join(job, "exit.json"), ended)
            return
        except FileNotFoundError:
            return  # its folder was purged: nobody will ever ask
        except OSError:
            time.sleep(5)


# ---------------------------------------------------------------- follow


def follow(job: str, options: List[str]) -> int:
    """Frames on stdout: s (where it begins, JSON), o and e (output), g (bytes that are gone, JSON),
    k (still here), x (how it ended, JSON; the last one)."""
    wait = "--no-wait" not in options
    tail = int(options[options.index("--tail") + 1]) if "--tail" in options else None
    plain = [o for o in options[:1] if o.isdigit()]
    offset = int(plain[0]) if plain else 0
    if tail is not None:
        offset = tail_offset(job, tail)
    reader = Reader(job, offset)
    out = sys.stdout.buffer
    send(out, b"s", json.dumps({"offset": offset}).encode())
    quiet_since = time.monotonic()
    while True:
        ended = outcome(job)
        moved = reader.forward(out)
        if not moved and (ended["state"] != "running" or not wait):
            send(out, b"x", json.dumps(ended).encode())
            return 0
        if moved:
            quiet_since = time.monotonic()
            continue
        if time.monotonic() - quiet_since > HEARTBEAT_S:
            # A reader that has gone is noticed by writing to it, and only so.
            send(out, b"k", b"")
            quiet_since = time.monotonic()
        time.sleep(POLL_S)


class Reader:
    """Reads the output piece by piece as the index has them, from part to part."""

    def __init__(self, job: str, offset: int) -> None:
        self._job = job
        self._log: Optional[IO[bytes]] = None
        self._index: Optional[IO[bytes]] = None
        self._start = -1
        self._at = 0
        """How far the files are read: bytes since the beginning of all output."""
        self._told = offset
        """How far the other side knows them."""

    def forward(self, out: IO[bytes]) -> bool:
        """Send what has come since; whether anything had."""
        try:
            found = parts(self._job)
            if self._log is None and found:
                self._open(max([start for start in found if start <= self._told], default=0), out)
        except FileNotFoundError:
            return False
        if self._log is None or self._index is None:
            return False
        moved = self._pieces(out)
        # Another part is begun only after the last word of the one before.
        later = [start for start in found if start > self._start and start >= self._at]
        if later:
            try:
                self._open(later[0], out)
            except FileNotFoundError:
                return True  # it had to go meanwhile: look again
            return True
        return moved

    def _open(self, start: int, out: IO[bytes]) -> None:
        # Both stay open for as long as the part is read.
        log = open(part(self._job, start, "log"), "rb", opener=regular)  # noqa: SIM115
        try:
            index = open(part(self._job, start, "idx"), "rb", opener=regular)  # noqa: SIM115
        except FileNotFoundError:
            log.close()
            raise
        for before in (self._log, self._index):
            if before is not None:
                before.close()
        if start > self._told:
            send(out, b"g", json.dumps({"bytes": start - self._told}).encode())
            self._told = start
        self._log, self._index, self._start, self._at = log, index, start, start

    def _pieces(self, out: IO[bytes]) -> bool:
        assert self._log is not None and self._index is not None
        moved = False
        while True:
            at = self._index.tell()
            record = self._index.read(RECORD.size)
            if len(record) < RECORD.size:
                self._index.seek(at)
                return moved
            stream, length = RECORD.unpack(record)
            known = min(max(self._told - self._at, 0), length)
            self._log.seek(known, os.SEEK_CUR)
            self._at += length
            if known < length:
                send(out, STREAMS[stream], self._log.read(length - known))
                self._told = self._at
                moved = True


def tail_offset(job: str, lines: int) -> int:
    """Where the last `lines` lines of the output begin, as far as it is there."""
    left, offset, last = lines, 0, True
    try:
        for start in reversed(parts(job)):
            with open(part(job, start, "log"), "rb", opener=regular) as file:
                size = file.seek(0, os.SEEK_END)
                if lines <= 0:
                    return start + size
                if size:
                    found, left = nth_newline(file, size - 1 if last else size, left)
                    last = False
                    if found is not None:
                        return start + found + 1
            offset = start
    except FileNotFoundError:
        pass
    return offset


def nth_newline(file: IO[bytes], at: int, count: int) -> Tuple[Optional[int], int]:
    """Where the `count`-th newline before `at` is, counted backwards, or how many are missing."""
    while at > 0:
        begin = max(0, at - CHUNK)
        file.seek(begin)
        piece = file.read(at - begin)
        for _ in range(piece.count(b"\n")):
            count -= 1
            newline = piece.rfind(b"\n")
            if count == 0:
                return begin + newline, 0
            piece = piece[:newline]
        at = begin
    return None, count


def send(out: IO[bytes], kind: bytes, data: bytes) -> None:
    out.write(FRAME.pack(kind, len(data)) + data)
    out.flush()


# ---------------------------------------------------------------- list, stop, remove


def list_jobs(run: str) -> List[Dict[str, Any]]:
    jobs = os.path.join(run, "jobs")
    try:
        ids = sorted(int(name) for name in os.listdir(jobs) if name.isdigit())
    except FileNotFoundError:
        return []
    found = []
    for number in ids:
        job = os.path.join(jobs, str(number))
        meta = read(os.path.join(job, "meta.json"))
        if meta is not None:
            found.append(dict(meta, **outcome(job)))
    return found


def outcome(job: str) -> Dict[str, Any]:
    """state: created, running, exited, or lost (its container or host went down under it)."""
    running = held(job)
    ended = read(os.path.join(job, "exit.json"))
    if ended is not None:
        return dict(ended, state="exited")
    if running:
        known = read(os.path.join(job, "state.json")) or {}
        return dict(known, state="running", left_out=gap(job))
    # It may have ended between the two looks.
    ended = read(os.path.join(job, "exit.json"))
    if ended is not None:
        return dict(ended, state="exited")
    state = read(os.path.join(job, "state.json"))
    return dict(state, state="lost") if state is not None else {"state": "created"}


def gap(job: str) -> int:
    """Bytes of a running job's output that had to go."""
    try:
        found = parts(job)
        return found[1] - os.path.getsize(part(job, 0, "log")) if len(found) > 1 else 0
    except FileNotFoundError:
        return 0


def held(job: str) -> bool:
    try:
        lock = os.open(os.path.join(job, "lock"), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(lock)


def stop(job: str, grace_s: float) -> int:
    """End it; of one that has ended, what it left in the background."""
    ran = outcome(job)["state"] == "running"
    if ran:
        with open(os.path.join(job, "stop"), "w"):
            pass
    if not signal_all(job, signal.SIGTERM) and not ran:
        return 0
    if not until(lambda: not signal_all(job, 0), grace_s):
        # Whatever was forked meanwhile gets it as well.
        until(lambda: not signal_all(job, signal.SIGKILL), 10.0)
    if until(lambda: outcome(job)["state"] != "running", 10.0) and not signal_all(job, 0):
        return 0
    sys.stderr.write("its processes do not end\n")
    return 1


def until(true: Callable[[], bool], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def signal_all(job: str, number: int) -> bool:
    """Signal every process of the job; whether there was one. Signal 0 only looks."""
    found = False
    for pid in members(job):
        try:
            os.kill(pid, number)
            found = True
        except OSError:
            continue  # it has ended, or it is another user's by now
    return found


def members(job: str) -> List[int]:
    """The processes of a job that live: its session, its mark, and all that is below them."""
    state = read(os.path.join(job, "state.json"))
    alive = processes()
    if state is None:
        return []
    runner = runner_of(state, alive)
    # The kernel gives no process the id of a session that still has members; that of a job which
    # has ended may have lost its last member long ago, and be anybody's.
    session = int(state["pid"]) if outcome(job)["state"] == "running" else 0
    mark = os.fsencode(MARK + "=" + os.path.abspath(job))
    found = {
        pid
        for pid, one in alive.items()
        if one.parent == runner != 0 or one.session == session != 0 or mark in environment_of(pid)
    }
    below = found
    while below:
        below = {pid for pid, one in alive.items() if one.parent in below} - found
        found |= below
    return sorted(found - {runner, os.getpid()})


def runner_of(state: Dict[str, Any], alive: Dict[int, Seen]) -> int:
    """The pid of the job's runner; 0 where it has gone, also where the pid is another's by now."""
    runner = int(state.get("runner", 0))
    return runner if runner in alive and alive[runner].born == state.get("born") else 0


def with_processes(run: str) -> List[str]:
    """The folders of the jobs that have any, in one look at the system."""
    alive, found = processes(), []
    marks = set().union(*(environment_of(pid) for pid in alive)) if alive else set()
    for row in list_jobs(run):
        job = folder(run, str(row["id"]))
        state = read(os.path.join(job, "state.json")) or {}
        mark = os.fsencode(MARK + "=" + os.path.abspath(job))
        if row["state"] == "running" or runner_of(state, alive) or mark in marks:
            found.append(job)
    return found


class Seen(NamedTuple):
    """A process, as /proc has it."""

    parent: int
    session: int
    born: int
    """Ticks since the boot: with the pid, this is one process and no other."""


def processes() -> Dict[int, Seen]:
    """Those that live; zombies do not."""
    found = {}
    names = os.listdir("/proc") if os.path.isdir("/proc") else []
    for pid in (int(name) for name in names if name.isdigit()):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # After the last ")": state, ppid, pgrp, session, …, the start as the 20th.
                fields = file.read().rpartition(b")")[2].split()
            if fields[0] not in (b"Z", b"X"):
                found[pid] = Seen(int(fields[1]), int(fields[3]), int(fields[19]))
        except (OSError, IndexError):
            continue
    return found


def environment_of(pid: int) -> List[bytes]:
    """As it was when its program started; [] for another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def born() -> int:
    return processes().get(os.getpid(), Seen(0, 0, 0)).born


def remove(job: str) -> int:
    if outcome(job)["state"] == "running":
        sys.stderr.write("it is running\n")
        return 1
    shutil.rmtree(job, ignore_errors=True)
    return 0


# ---------------------------------------------------------------- files


def regular(path: str, flags: int) -> int:
    """An opener: a pipe, a device or a link in a file's place is no file."""
    try:
        found = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise FileNotFoundError(errno.ENOENT, "a link", path) from exc
        raise
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise FileNotFoundError(errno.ENOENT, "no regular file", path)
    return found


def read(path: str) -> Optional[Dict[str, Any]]:
    try:
        with open(path, encoding="utf-8", opener=regular) as file:
            return dict(json.loads(file.read(LONGEST_NOTE)))
    except (FileNotFoundError, ValueError):
        return None


def write(path: str, value: Dict[str, Any]) -> None:
    """To a temporary name and renamed: nobody ever reads half of it."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        # The reader has gone; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
