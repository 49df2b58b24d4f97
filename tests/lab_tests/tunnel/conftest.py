"""What every test of the tunnel is watched for."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import psutil
import pytest

from tests.lab_tests.tunnel.far_end import until


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """No thread and no descriptor is left of any tunnel."""
    process = psutil.Process()
    descriptors, threads = process.num_fds(), _our_threads()
    yield
    until(lambda: _our_threads() <= threads, "every thread of the tunnel has ended")
    until(lambda: _descriptors(process) <= descriptors, "every descriptor is closed")


def _our_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("tunnel ")}


def _descriptors(process: psutil.Process) -> int:
    """Those in use: the local double and a server that has just ended leave theirs to gc."""
    gc.collect()
    return process.num_fds()
