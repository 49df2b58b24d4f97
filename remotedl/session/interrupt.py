"""Ends what the main thread waits for, from another thread, as Ctrl-C in its terminal would."""

from __future__ import annotations

import signal
import threading


def interrupt_main_thread() -> None:
    """SIGTERM to the main thread itself.

    A signal that another thread raises in itself is only noted: a main thread that waits in a
    system call or for a lock goes on waiting.
    """
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGTERM)
    else:
        # Windows: nothing there interrupts a wait; Python's own waits look every so often.
        signal.raise_signal(signal.SIGTERM)
