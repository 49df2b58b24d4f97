"""Stops what nobody uses: watches one project on its host, and ends it after a time of idleness.

    idle.py start      settings as JSON on stdin; starts watching, or goes on with the new settings
    idle.py resume     the same with the settings of last time; nothing where there were none
    idle.py status     prints JSON
    idle.py postpone S counts from S seconds from now at the earliest
    idle.py stop       watches no more, and forgets the settings

Settings: limit_s, container (its name; absent natively), gpus (indexes, or all), poweroff. Idle is:
no job runs, no kernel computes, no GPU of ours works, nobody is connected to a service. Any one of
them begins the time anew, and what cannot be told counts as in use.

It runs on the host and not in the container, since a container cannot stop itself: its engine would
start it again. After a reboot of the host the next session starts it (`resume`).
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

RUN = os.path.dirname(os.path.abspath(__file__))
CHECK_S = 30.0
GPU_WORKS = 5
"""Per cent; a desktop or a monitor alone keeps a GPU below that."""
SMI = ("nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi", "/usr/bin/nvidia-smi")
ENDS_S = 15.0
PEOPLE = range(1000, 60000)
"""Numbers of users that are people."""
POLL_S = 0.05
ESTABLISHED = "01"


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
    """Look, write down what was seen, and end it when the time has come."""
    # Not the time of day: a clock that is set must not look like hours of idleness.
    since = time.monotonic()
    while True:
        settings = read("idle-settings.json")
        limit = float(settings["limit_s"])
        busy = reasons(settings)
        if busy == GONE:
            return
        if busy:
            since = time.monotonic()
        idle = 0.0 if busy else time.monotonic() - since
        write("idle.json", {"pid": os.getpid(), "busy": busy, "idle_s": idle, "limit_s": limit})
        if idle >= limit:
            print("idle for %.0f s: ending it" % idle, flush=True)  # noqa: UP031
            end(settings)
            return
        time.sleep(min(CHECK_S, limit / 10))


GONE = ["gone"]


def reasons(settings: Dict[str, Any]) -> List[str]:
    """Why it counts as in use; [] when it is idle; GONE when there is nothing to watch."""
    ports = published(settings)
    if ports is None:
        return ["it cannot be told whether it is used"]
    if not ports.pop("running"):
        return GONE
    found = []
    if time.time() < float(read("idle-postponed.json").get("until", 0)):
        found.append("postponed")
    found += jobs()
    if connections(list(ports.values())):
        found.append("somebody is connected")
    if "8888" in ports:
        found += kernels(ports["8888"])
    return found + gpus(settings.get("gpus"))


def published(settings: Dict[str, Any]) -> Optional[Dict[str, int]]:
    """Service port → port on this host, and "running"; None when that cannot be told."""
    name = settings.get("container")
    if name is None:
        argv = [sys.executable, os.path.join(RUN, "keep.py"), "status"]
        state = json.loads(subprocess.check_output(argv))
        return dict(state["ports"], running=int(state["running"]))
    told = engine(["inspect", "-f", "{{json .NetworkSettings.Ports}} {{.State.Running}}", name])
    if told is None:
        return None
    rows, _, running = told.rpartition(" ")
    bound = {
        key.partition("/")[0]: int(ends[0]["HostPort"])
        for key, ends in (json.loads(rows) or {}).items()
        if ends
    }
    return dict(bound, running=int(running == "true"))


def jobs() -> List[str]:
    argv = [sys.executable, os.path.join(RUN, "job.py"), "list", RUN]
    done = subprocess.run(argv, stdout=subprocess.PIPE)
    if done.returncode != 0:
        return ["the jobs cannot be told"]
    return [f"job {row['id']}" for row in json.loads(done.stdout) if row["state"] == "running"]


def connections(ports: List[int]) -> bool:
    """Whether anybody holds a connection to one of our ports."""
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        for row in rows:
            ends = {int(end.rpartition(":")[2], 16) for end in row[1:3]}
            if row[3] == ESTABLISHED and ends & set(ports):
                return True
    return False


def kernels(port: int) -> List[str]:
    """Kernels that compute. A server that does not answer has none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        with open(os.path.join(RUN, "token"), encoding="ascii") as file:
            headers = {"Authorization": "token " + file.read().strip()}
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
    if not ours:
        return []
    query = ["--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits"]
    for smi in SMI:
        try:
            done = subprocess.run([smi, *query], stdout=subprocess.PIPE, timeout=30)
        except FileNotFoundError:
            continue
        except (OSError, subprocess.TimeoutExpired):
            return ["the GPUs cannot be told"]
        rows = [line.split(",") for line in done.stdout.decode("utf-8", "replace").splitlines()]
        at_work = [
            row[0].strip()
            for row in rows
            if len(row) == 2
            and (ours == "all" or row[0].strip() in ours)
            and row[1].strip().isdigit()
            and int(row[1]) >= GPU_WORKS
        ]
        return [f"GPU {one}" for one in at_work]
    return []


def end(settings: Dict[str, Any]) -> None:
    if settings.get("container") is not None:
        engine(["stop", "-t", "10", str(settings["container"])])
    else:
        subprocess.call([sys.executable, os.path.join(RUN, "keep.py"), "stop"])
    ended = {"ended": time.time(), "limit_s": settings["limit_s"]}
    kept_on = others(settings) if settings.get("poweroff") else ""
    write("idle.json", dict(ended, kept_on=kept_on))
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
        write("idle.json", dict(ended, kept_on="it cannot be shut down: " + said))


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


def read(name: str) -> Dict[str, Any]:
    try:
        with open(os.path.join(RUN, name), encoding="utf-8") as file:
            return dict(json.load(file))
    except (FileNotFoundError, ValueError):
        return {}


def write(name: str, value: Dict[str, Any]) -> None:
    temporary = os.path.join(RUN, f"{name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(temporary, os.path.join(RUN, name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
