"""Keeps the services of a native project alive: supervisord's own keeper, detached from any login.

    keep.py start ID BIN   starts them unless they run; prints the state
    keep.py status         prints the state as JSON: running, id, sockets, started
    keep.py stop
    keep.py forget         stops them, and removes what lies outside of this folder

A container has an engine that starts it again; without one, this process does it. It holds the lock
`keep.lock`, so that whether the services run is told by the lock and never by a pid file alone.
The services listen on unix sockets, since a port would be every user's of the host. Where the path
of our own folder is too long for a socket, they lie in a private folder below /tmp (sockets.json).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List

RUN = os.path.dirname(os.path.abspath(__file__))
STOP_S = 20.0
POLL_S = 0.05
SHORT = "s"
LONGEST = 103
"""Bytes of a socket's path: Linux takes 107, macOS 103."""


def main(argv: List[str]) -> int:
    os.umask(0o077)
    if argv[:1] == ["start"]:
        return start(argv[1], argv[2])
    if argv[:1] == ["status"]:
        print(json.dumps(state()))
        return 0
    if argv[:1] == ["stop"]:
        return stop()
    if argv[:1] == ["forget"]:
        return stop() or forget()
    sys.stderr.write(__doc__ or "")
    return 2


def start(identity: str, tools: str) -> int:
    lock = open_lock()
    if not taken(lock):
        print(json.dumps(state()))
        return 0
    end_orphan()
    write("sockets.json", {"folder": chosen_folder()})
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        os.setsid()
        if os.fork() == 0:
            quiet()
            keep(identity, tools, writing)
        os._exit(0)
    os.close(writing)
    os.wait()
    # From here on the keeper alone holds the lock.
    os.close(lock)
    with os.fdopen(reading, "rb") as told:
        told.read()
    print(json.dumps(state()))
    return 0


def quiet() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(os.path.join(RUN, "logs", "keep.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def keep(identity: str, tools: str, told: int) -> None:
    """Run supervisord for ever, a little later after each end, until we are told to stop."""
    children: List[subprocess.Popen[bytes]] = []

    def end(number: int, frame: object) -> None:
        if children:
            children[0].terminate()
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    mine = {"id": identity, "pid": os.getpid(), "tools": tools, "started": time.time()}
    write("keep.json", mine)
    os.write(told, b"ok")
    os.close(told)
    path = os.pathsep.join([tools, os.environ.get("PATH", os.defpath)])
    argv = [os.path.join(tools, "supervisord"), "--nodaemon", "--configuration"]
    pause = 1.0
    try:
        while True:
            began = time.monotonic()
            try:
                child = subprocess.Popen(
                    [*argv, os.path.join(RUN, "services.conf")],
                    cwd=RUN,
                    env=dict(os.environ, PATH=path),
                    stdin=subprocess.DEVNULL,
                )
                children[:] = [child]
                child.wait()
            except OSError as exc:
                print(exc, flush=True)
            pause = 1.0 if time.monotonic() - began > 60 else min(pause * 2, 60.0)
            time.sleep(pause)
    finally:
        for child in children:
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()


def stop() -> int:
    found = state()
    if not found["running"]:
        end_orphan()
        return 0
    os.kill(int(found["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + STOP_S + 10
    while state()["running"]:
        if time.monotonic() > deadline:
            sys.stderr.write("the services do not end\n")
            return 1
        time.sleep(POLL_S)
    return 0


def end_orphan() -> None:
    """A supervisord whose keeper was killed: it would still have our ports."""
    deadline = time.monotonic() + STOP_S
    while True:
        left = orphans()
        if not left:
            return
        for pid in left:
            os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(POLL_S)


def orphans() -> List[int]:
    """Processes that were started with our services.conf, which is nobody else's."""
    conf = os.fsencode(os.path.join(RUN, "services.conf"))
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                argv = file.read().split(b"\0")
        except OSError:
            continue
        if name.isdigit() and b"--configuration" in argv and conf in argv:
            found.append(int(name))
    return found


def state() -> Dict[str, Any]:
    found = dict(read("keep.json"), running=False)
    found["sockets"] = read("sockets.json").get("folder", os.path.join(RUN, SHORT))
    if os.path.exists(os.path.join(RUN, "keep.lock")):
        lock = open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            found["running"] = True
        finally:
            os.close(lock)
    return found


def open_lock() -> int:
    return os.open(os.path.join(RUN, "keep.lock"), os.O_RDWR | os.O_CREAT, 0o600)


def taken(lock: int) -> bool:
    """Tried for a second: whoever asks for the state holds the lock for a moment."""
    for _ in range(20):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(POLL_S)
    return False


def chosen_folder() -> str:
    """Where the sockets lie: in our own folder, unless its path is too long for them."""
    own = os.path.join(RUN, SHORT)
    if len(os.fsencode(own)) + len("/65535") <= LONGEST:
        return own
    before = str(read("sockets.json").get("folder", ""))
    return before if is_private(before) else tempfile.mkdtemp(prefix="remotedl-")


def forget() -> int:
    folder = str(read("sockets.json").get("folder", ""))
    if os.path.dirname(folder) != RUN and is_private(folder):
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def is_private(folder: str) -> bool:
    """Whether it is a folder, no link, and ours alone: below /tmp anybody can make anything."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    mine = found.st_uid == os.getuid() and found.st_mode & 0o077 == 0
    return stat.S_ISDIR(found.st_mode) and mine


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
