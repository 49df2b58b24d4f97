"""Work in a thread of its own for as long as a block runs, and not a moment longer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

START_S = 1.0
"""How long a thread may take to begin whose start was broken off."""


@contextmanager
def beside(name: str, work: Callable[[threading.Event], None]) -> Iterator[threading.Event]:
    """`work` is given the event that ends it; it is set, and waited for, whatever happens.

    A failure of `work` sets it too, so that the block does not go on alone, and is raised at the
    end of the block.

    A Ctrl-C may come in the middle of starting the thread: it runs then, although nobody has been
    told so, and cannot be joined.
    """
    stop, begun, over = threading.Event(), threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        begun.set()
        try:
            work(stop)
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            failures.append(exc)
        finally:
            stop.set()
            over.set()

    try:
        threading.Thread(target=run, name=name).start()
        yield stop
    finally:
        stop.set()
        if begun.wait(START_S):
            over.wait()
    if failures:
        raise failures[0]
