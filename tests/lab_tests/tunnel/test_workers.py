"""Threads that are used again."""

from __future__ import annotations

import threading

from remotedl.tunnel.workers import Workers
from tests.lab_tests.tunnel.far_end import until


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "tunnel test"]


def test_a_thread_is_used_again() -> None:
    workers = Workers("tunnel test")
    idents: list[int] = []
    for _ in range(10):
        done = threading.Event()
        workers.do(lambda done=done: (idents.append(threading.get_ident()), done.set()))  # type: ignore[misc]
        assert done.wait(5)
        until(lambda: len(workers._idle) == 1, "it is idle")
    assert len(set(idents)) == 1
    workers.close()
    until(lambda: not ours(), "it has ended")


def test_tasks_that_block_run_side_by_side() -> None:
    workers = Workers("tunnel test")
    barrier = threading.Barrier(5)
    passed = []
    for _ in range(4):
        workers.do(lambda: passed.append(barrier.wait(5)))
    barrier.wait(5)
    until(lambda: len(passed) == 4, "all have passed")
    workers.close()


def test_an_idle_thread_ends_by_itself() -> None:
    workers = Workers("tunnel test", idle_s=0.05)
    workers.do(lambda: None)
    until(lambda: not ours(), "it has ended")
    done = threading.Event()
    workers.do(done.set)
    assert done.wait(5)
    workers.close()
