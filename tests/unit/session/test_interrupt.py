"""A session that is starting waits for its host; what is asked to end it must not wait along."""

from __future__ import annotations

import subprocess
import sys

import pytest

WAITS = {
    "for a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "for an event without an end": "threading.Event().wait()",
    "in recv": "pair[0].recv(1)",
    "for a child": "subprocess.run(['sleep', '60'])",
}

PROGRAM = """
import signal, socket, subprocess, sys, threading
from remotedl.cli.exits import end_in_order
from remotedl.session.interrupt import interrupt_main_thread
end_in_order()
asked = threading.Timer(0.2, interrupt_main_thread)
asked.start()
pair = socket.socketpair()
try:
    {wait}
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no signal reaches a thread there")
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_it_ends_whatever_the_main_thread_waits_for(wait: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(wait=wait)], timeout=20, capture_output=True
    )
    assert done.returncode == 130, done.stderr.decode()
