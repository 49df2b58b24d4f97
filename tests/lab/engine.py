"""This machine's Docker Engine, through the docker command: started if need be, asked, told.

The lab uses the plain CLI on purpose: what it does by hand can be repeated by hand.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.lab.cache import cache_folder, locked

KEEP_DOCKERD = "REMOTEDL_LAB_KEEP_DOCKERD"
START_LIMIT_S = 60.0
# The old builder: buildx is not in every Debian, and caching is all that is wanted.
ENVIRONMENT = {**os.environ, "DOCKER_BUILDKIT": "0"}


class DockerFailed(RuntimeError):
    """The docker command ended with a status other than 0; the message holds its stderr."""


def docker(*argv: str, stdin: bytes | None = None, timeout_s: float = 300) -> str:
    """Run `docker ARGV…` and return its stdout. Raises DockerFailed."""
    return docker_bytes(*argv, stdin=stdin, timeout_s=timeout_s).decode("utf-8", "replace").strip()


def docker_bytes(*argv: str, stdin: bytes | None = None, timeout_s: float = 300) -> bytes:
    done = subprocess.run(
        ["docker", *argv],
        input=b"" if stdin is None else stdin,
        capture_output=True,
        timeout=timeout_s,
        env=ENVIRONMENT,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise DockerFailed(f"docker {' '.join(argv[:3])}… ended with {done.returncode}: {said}")
    return done.stdout


def docker_ok(*argv: str) -> bool:
    """Whether `docker ARGV…` succeeds; its output is dropped."""
    try:
        docker(*argv)
    except DockerFailed:
        return False
    return True


def piped(producer: Sequence[str], consumer: Sequence[str]) -> str:
    """`producer | consumer`; the consumer's stdout. Raises DockerFailed if either fails."""
    with subprocess.Popen(producer, stdout=subprocess.PIPE, env=ENVIRONMENT) as source:
        done = subprocess.run(consumer, stdin=source.stdout, capture_output=True, env=ENVIRONMENT)
    if source.returncode or done.returncode:
        raise DockerFailed(f"{producer[0]} | {consumer[0]}: {done.stderr.decode()}")
    return done.stdout.decode().strip()


def ensure_dockerd() -> None:
    """Start dockerd in the background if none answers. `stop_idle_dockerd` ends that one."""
    if docker_ok("version"):
        return
    with locked("dockerd"):
        if docker_ok("version"):
            return
        log_path = cache_folder() / "dockerd.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                ["dockerd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        _dockerd_record().write_text(identity(psutil.Process(process.pid)))
        deadline = time.monotonic() + START_LIMIT_S
        while not docker_ok("version"):
            if time.monotonic() > deadline:
                tail = log_path.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"dockerd did not start; {log_path} ends with:\n{tail}")
            time.sleep(0.2)


def stop_idle_dockerd() -> None:
    """Stop the dockerd that the lab started, unless some container still runs in it.

    Nothing is done where somebody above us will do it (`KEEP_DOCKERD` in the environment).
    """
    if os.environ.get(KEEP_DOCKERD) or not docker_ok("version"):
        return
    with locked("dockerd"):
        record = _dockerd_record()
        owner = record.read_text() if record.exists() else ""
        if not alive(owner) or docker("ps", "-q"):
            return
        process = psutil.Process(int(owner.split("-")[0]))
        process.terminate()
        process.wait(30)
        record.unlink()


def identity(process: psutil.Process) -> str:
    """A name for a process that no later one can have."""
    return f"{process.pid}-{process.create_time():.2f}"


def alive(owner: str) -> bool:
    """Whether the process of that `identity` still runs."""
    try:
        process = psutil.Process(int(owner.split("-")[0]))
        return identity(process) == owner and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False


def _dockerd_record() -> Path:
    return cache_folder() / "dockerd.owner"


def mounted_cgroup_v2() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()
