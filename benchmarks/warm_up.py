"""A warm `remotedl up` on a lab host: from the key press to Jupyter answering on the laptop.

Warm: the host is provisioned, the image is there, the container runs. What is timed is the whole
process as a user types it, Python's start included. Needs root and Docker, as the lab does.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.table import Row
from tests.lab.host import Host, HostOptions
from tests.lab.laptop import Laptop
from tests.lab.run import LabRun
from tests.lab.sessions import sample_laptop

ROUNDS = 5
COLD_LIMIT_S = 1200
TARGET_S = 3.0


def main() -> list[Row]:
    if os.geteuid() != 0:
        return []
    with tempfile.TemporaryDirectory() as folder:
        run = LabRun()
        host = Host(run, "warm", HostOptions("bookworm", engine=True))
        laptop = sample_laptop(Path(folder))
        try:
            host.create()
            laptop.know("h1", host.login)
            cold = up(laptop, COLD_LIMIT_S)
            warm = statistics.median(up(laptop, 60) for _ in range(ROUNDS))
        finally:
            laptop.close()
            host.remove()
            run.close()
    return [
        Row("warm up to Jupyter answering", warm, "s", TARGET_S, "at most"),
        Row("first up, with Docker there: builds the image", cold, "s", COLD_LIMIT_S, "at most"),
    ]


def up(laptop: Laptop, limit_s: float) -> float:
    """Seconds until Jupyter's /api answers; the session is ended again."""
    began = time.perf_counter()
    command = laptop.start("up", "h1", "--no-open", "--yes")
    try:
        port = command.wait_for(r"127\.0\.0\.1:(\d+)/lab\?token=", limit_s)[1]
        while not _answers(int(port)):
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        command.interrupt()
        command.wait(30)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
