"""What every test of the tunnel is watched for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psutil
import pytest

from tests.lab_tests.tunnel.far_end import until


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """No thread and no descriptor is left of any tunnel."""
    process = psutil.Process()
    descriptors = process.num_fds()
    yield
    until(lambda: not _our_threads(), "every thread of the tunnel has ended")
    until(lambda: process.num_fds() <= descriptors, "every descriptor is closed")


def _our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("tunnel ")]
