"""Stops what nobody uses: watches one project on its host, and ends it after a time of idleness.

    idle.py start      settings as JSON on stdin; starts watching, or goes on with the new settings
    idle.py resume     the same with the settings of last time; nothing where there were none
    idle.py status     prints JSON
    idle.py postpone S counts from S seconds from now at the earliest
    idle.py stop       watches no more, and forgets the settings

Settings: limit_s, container (its name; absent natively), gpus (indexes, or all), poweroff. Idle is:
no job runs, no kernel computes, no shell or other command is in it, it uses next to no CPU, no GPU
of ours works, nobody is connected to a service. Any one of them begins the time anew, and what
cannot be told counts as in use.

It runs on the host and not in the container, since a container cannot stop itself: its engine would
start it again. After a reboot of the host the next session starts it (`resume`).
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Set

RUN = os.path.dirname(os.path.abspath(__file__))
CHECK_S = 30.0
LONGEST_NOTE = 1 << 20
GPU_WORKS = 5
"""Per cent; a desktop or a monitor alone keeps a GPU below that."""
CPU_WORKS = 0.2
"""Of one core, over the time between two looks; an idle Jupyter stays below a tenth of that."""
SHELL_MARK = "REMOTEDL_SHELL"
"""launch.py puts it into the environment of shells."""
SMI = ("nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi", "/usr/bin/nvidia-smi")
ENDS_S = 15.0
PEOPLE = range(1000, 60000)
"""Numbers of users that are people."""
POLL_S = 0.05
CONNECTED = "03"
TABLE = "/proc/net/unix"


def main(argv: List[str]) -> int:
    os.umask(0o077)
    verb = argv[0] if argv else ""
    if verb == "start":
        write("idle-settings.json", json.load(sys.stdin))
        return start()
    if verb == "resume":
        return start() if read("idle-settings.json") else 0
    if verb == "status":
        print(json.dumps(status()))
        return 0
    if verb == "postpone":
        write("idle-postponed.json", {"until": time.time() + float(argv[1])})
        return 0
    if verb == "stop":
        forget()
        return stop()
    sys.stderr.write(__doc__ or "")
    return 2


def start() -> int:
    """A running one is replaced: its program may be of an older version."""
    stop()
    lock = os.open(os.path.join(RUN, "idle.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0  # another `up` has just started it
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        os.setsid()
        if os.fork() == 0:
            quiet()
            os.chdir(RUN)
            write("idle.json", {"pid": os.getpid(), "busy": ["just started"], "idle_s": 0.0})
            os.write(writing, b"ok")
            os.close(writing)
            watch()
        os._exit(0)
    os.close(writing)
    os.wait()
    os.close(lock)
    with os.fdopen(reading, "rb") as told:
        return 0 if told.read() == b"ok" else 1


def quiet() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(
        os.path.join(RUN, "logs", "idle.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
    )
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def watch() -> None:
    """Look, write down what was seen, and end it when the time has come.

    Nothing but that, or the project's own end, ends this loop: a full disk, an engine that hangs
    and what nobody thought of count as in use, are told, and are looked at again.
    """
    # Not the time of day: a clock that is set must not look like hours of idleness.
    since = time.monotonic()
    limit, before = CHECK_S, {}  # type: float, Dict[str, Any]
    while True:
        try:
            settings = read("idle-settings.json")
            limit = float(settings["limit_s"])
            busy = reasons(settings, before)
            if busy == GONE:
                return
        except Exception as exc:  # noqa: BLE001 - see above
            busy = [f"it cannot be told whether it is used: {type(exc).__name__}: {exc}"]
        if busy:
            since = time.monotonic()
        idle = 0.0 if busy else time.monotonic() - since
        note({"pid": os.getpid(), "busy": busy, "idle_s": idle, "limit_s": limit})
        if idle >= limit:
            say(f"idle for {idle:.0f} s: ending it")
            end(settings)
            return
        time.sleep(min(CHECK_S, limit / 10))


def note(seen: Dict[str, Any]) -> None:
    """For `status`; where it cannot be written, the last one stays, and the watch goes on."""
    try:
        write("idle.json", seen)
    except OSError as exc:
        say(f"what was seen cannot be written: {exc}")


def say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:
        pass  # the log lies on the same full disk


GONE = ["gone"]


def reasons(settings: Dict[str, Any], before: Dict[str, Any]) -> List[str]:
    """Why it counts as in use; [] when it is idle; GONE when there is nothing to watch.

    `before` keeps what the last look saw.
    """
    place = standing(settings)
    if place is None:
        return ["it cannot be told whether it is used"]
    if not place["running"]:
        return GONE
    found = []
    if time.time() < float(read("idle-postponed.json").get("until", 0)):
        found.append("postponed")
    found += jobs()
    if connections(place["inside"], place["pid"]):
        found.append("somebody is connected")
    found += kernels(os.path.join(place["sockets"], "8888"))
    found += programs_at_work(settings, before)
    return found + gpus(settings.get("gpus"))


def standing(settings: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Whether it runs, where its sockets are, and which process is its first (0: natively).

    A path below our own folder is told from there: a socket takes 107 bytes at most.

    None when that cannot be told. `inside`: the same folder as the services call it.
    """
    name = settings.get("container")
    if name is None:
        argv = [sys.executable, os.path.join(RUN, "keep.py"), "status"]
        state = json.loads(subprocess.check_output(argv))
        place = {"running": state["running"], "sockets": state["sockets"]}
        return dict(place, inside=state["sockets"], pid=0)
    told = engine(["inspect", "-f", "{{.State.Pid}} {{.State.Running}}", name])
    if told is None:
        return None
    pid, _, running = told.partition(" ")
    place = {"running": running == "true", "sockets": os.path.join(os.curdir, "s")}
    return dict(place, inside="/run/remotedl/s", pid=int(pid))


def jobs() -> List[str]:
    argv = [sys.executable, os.path.join(RUN, "job.py"), "list", RUN]
    done = subprocess.run(argv, stdout=subprocess.PIPE)
    if done.returncode != 0:
        return ["the jobs cannot be told"]
    return [f"job {row['id']}" for row in json.loads(done.stdout) if row["state"] == "running"]


def connections(folder: str, first: int) -> bool:
    """Whether anybody holds a connection to one of our sockets; True where that is not told.

    A connection is in the table of the network that it was made from, which is the host's, with
    the name that the service gave its socket: the same in each container. Whose it is, is told by
    who holds its other end, among the processes of the container (`first`).
    """
    try:
        with open(TABLE, encoding="utf-8", errors="replace") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        found = {
            f"socket:[{row[6]}]"
            for row in rows
            if len(row) > 7 and row[5] == CONNECTED and row[7].startswith(folder + "/")
        }
        if not found or not first:
            return bool(found)
        return any(found & held_by(pid) for pid in below(first, processes()))
    except OSError:
        return True


def held_by(pid: int) -> Set[str]:
    """What the descriptors of a process are. Raises OSError where that is not told."""
    folder, found = f"/proc/{pid}/fd", set()  # type: str, Set[str]
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return found  # it has just ended
    for name in names:
        try:
            found.add(os.readlink(os.path.join(folder, name)))
        except (FileNotFoundError, ProcessLookupError):
            continue  # just closed
    return found


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("127.0.0.1", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def kernels(path: str) -> List[str]:
    """Kernels that compute. A server that does not answer has none."""
    connection = Connection(path)
    try:
        with open(os.path.join(RUN, "token"), encoding="ascii", opener=regular) as file:
            headers = {"Authorization": "token " + file.read(LONGEST_NOTE).strip()}
        connection.request("GET", "/api/kernels", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            return ["the kernels cannot be told"]
        busy = [row for row in json.load(answer) if row.get("execution_state") == "busy"]
        return [f"{len(busy)} kernels compute"] if busy else []
    except (OSError, http.client.HTTPException, ValueError):
        return []
    finally:
        connection.close()


def gpus(ours: Any) -> List[str]:
    """Which of our GPUs work; one that does not tell (MIG, vGPU) does while programs are on it."""
    if not ours:
        return []
    rows = smi("--query-gpu=index,uuid,utilization.gpu")
    if rows is None:
        return [UNTOLD]
    named = ours if ours == "all" else {str(one) for one in ours}
    if named != "all":
        rows = [row for row in rows if named & set(row[:2])]
    if not rows or any(len(row) != 3 for row in rows):
        return [UNTOLD]
    found = [f"GPU {row[0]}" for row in rows if row[2].isdigit() and int(row[2]) >= GPU_WORKS]
    silent = {row[1] for row in rows if not row[2].isdigit()}
    if silent:
        programs = smi("--query-compute-apps=gpu_uuid,pid")
        if programs is None or any(not row[-1].isdigit() for row in programs):
            return [*found, UNTOLD]
        held = silent & {row[0] for row in programs}
        found += [f"a program is on GPU {row[0]}" for row in rows if row[1] in held]
    return found


UNTOLD = "the GPUs cannot be told"


def smi(query: str) -> Optional[List[List[str]]]:
    """The rows of an answer of nvidia-smi; None where there is none to be had."""
    for program in SMI:
        argv = [program, query, "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=60)
        except FileNotFoundError:
            continue
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0:
            return None
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        return [[cell.strip() for cell in line.split(",")] for line in lines if line.strip()]
    return None


def programs_at_work(settings: Dict[str, Any], before: Dict[str, Any]) -> List[str]:
    """Terminals and other commands in it, and computing. `before`: what the last look saw."""
    name, found = settings.get("container"), []
    alive = processes()
    if name is None:
        top = int(read("keep.json").get("pid", 0))
        spent = spent_below(top, alive)
    else:
        told = engine(["inspect", "-f", "{{.State.Pid}} {{json .ExecIDs}}", str(name)])
        if told is None:
            return ["the commands in it cannot be told"]
        pid, _, execs = told.partition(" ")
        ids = set(json.loads(execs) or [])
        # Our own looks are commands too; they are over at the next one.
        if ids & before.get("execs", set()):
            found.append("a command or a shell runs in it")
        before["execs"] = ids
        top, spent = int(pid), spent_by_group(pid)
    if any(one.terminal and one.session != number for number, one in below(top, alive).items()):
        found.append("a program runs in a terminal")
    if name is None and shells():
        found.append("a shell is open")
    if computes(spent, before):
        found.append("it computes" if spent is not None else "its use of the CPU cannot be told")
    return found


def computes(spent: Optional[float], before: Dict[str, Any]) -> bool:
    """Whether more than next to nothing was computed since the last look; True if untold."""
    now = time.monotonic()
    since, last = before.get("cpu", (now, spent))
    before["cpu"] = now, spent
    if spent is None or last is None:
        return True
    return bool(now > since and (spent - last) / (now - since) > CPU_WORKS)


class Seen(NamedTuple):
    """A process, as /proc has it."""

    parent: int
    session: int
    terminal: int
    """Its number; 0 for none."""
    ticks: int
    """Of CPU, with those of its children that have ended."""


def processes() -> Dict[int, Seen]:
    found = {}
    for name in os.listdir("/proc"):
        row = slurp(f"/proc/{name}/stat").rpartition(")")[2].split() if name.isdigit() else []
        if len(row) > 15:
            ticks = sum(int(one) for one in row[11:15])
            found[int(name)] = Seen(int(row[1]), int(row[3]), int(row[4]), ticks)
    return found


def below(top: int, alive: Dict[int, Seen]) -> Dict[int, Seen]:
    """A process and all that it has begun."""
    found = {top} & alive.keys()
    fresh = found
    while fresh:
        fresh = {number for number, one in alive.items() if one.parent in fresh} - found
        found |= fresh
    return {number: alive[number] for number in found}


def shells() -> bool:
    """Whether a `remotedl shell` of this project is open, or what it has begun still runs."""
    mark = f"{SHELL_MARK}={RUN}"
    names = (name for name in os.listdir("/proc") if name.isdigit())
    return any(mark in slurp(f"/proc/{name}/environ").split("\0") for name in names)


def spent_by_group(pid: str) -> Optional[float]:
    """CPU seconds of a container since its start, from its cgroup."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            rows = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    for _, controllers, path in rows:
        if not controllers:
            text = slurp(f"/sys/fs/cgroup{path}/cpu.stat")
            if text.startswith("usage_usec "):
                return int(text.split()[1]) / 1e6
        elif "cpuacct" in controllers.split(","):
            text = slurp(f"/sys/fs/cgroup/cpuacct{path}/cpuacct.usage")
            if text:
                return int(text) / 1e9
    return None


def spent_below(top: int, alive: Dict[int, Seen]) -> Optional[float]:
    """CPU seconds of a process, of all that is below it, and of what of it has ended."""
    found = below(top, alive)
    ticks = sum(one.ticks for one in found.values())
    return ticks / os.sysconf("SC_CLK_TCK") if found else None


def slurp(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def end(settings: Dict[str, Any]) -> None:
    if settings.get("container") is not None:
        engine(["stop", "-t", "10", str(settings["container"])])
    else:
        subprocess.call([sys.executable, os.path.join(RUN, "keep.py"), "stop"])
    ended = {"ended": time.time(), "limit_s": settings["limit_s"]}
    kept_on = others(settings) if settings.get("poweroff") else ""
    note(dict(ended, kept_on=kept_on))
    if not settings.get("poweroff") or kept_on:
        return
    done = subprocess.run(
        ["sudo", "-n", "systemctl", "poweroff"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        note(dict(ended, kept_on="it cannot be shut down: " + said))


def others(settings: Dict[str, Any]) -> str:
    """Who else is on this host, or may be: then it is not ours to shut down."""
    running = engine(["ps", "-q"])
    if running is None and settings.get("container") is not None:
        return "it cannot be told whether other containers run"
    if running:
        return f"{len(running.split())} other containers run"
    for name in os.listdir("/proc"):
        try:
            owner = os.stat(f"/proc/{name}").st_uid if name.isdigit() else 0
        except OSError:
            continue
        if owner in PEOPLE and owner != os.getuid():
            return f"the user with the number {owner} is on it"
    return ""


def engine(argv: List[str]) -> Optional[str]:
    """The output of a docker command, with sudo where that is the only way; None if it failed."""
    for first in ([], ["sudo", "-n"]):
        try:
            done = subprocess.run(
                [*first, "docker", *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=60,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace").strip()
    return None


def status() -> Dict[str, Any]:
    found = read("idle.json")
    found["watching"] = held()
    found["can_stop"] = can_stop()
    return found


def can_stop() -> bool:
    name = read("idle-settings.json").get("container")
    return name is None or engine(["inspect", "-f", "{{.Id}}", str(name)]) is not None


def stop() -> int:
    if not held():
        return 0
    pid = read("idle.json").get("pid")
    if pid is not None:
        try:
            os.kill(int(pid), signal.SIGTERM)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + ENDS_S
    while held() and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return 0


def forget() -> None:
    for name in ("idle-settings.json", "idle-postponed.json"):
        try:
            os.unlink(os.path.join(RUN, name))
        except FileNotFoundError:
            pass


def held() -> bool:
    try:
        lock = os.open(os.path.join(RUN, "idle.lock"), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(lock)


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


def read(name: str) -> Dict[str, Any]:
    try:
        with open(os.path.join(RUN, name), encoding="utf-8", opener=regular) as file:
            return dict(json.loads(file.read(LONGEST_NOTE)))
    except (FileNotFoundError, ValueError):
        return {}


def write(name: str, value: Dict[str, Any]) -> None:
    temporary = os.path.join(RUN, f"{name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(temporary, os.path.join(RUN, name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
