"""Our terminal joined to a process on the host: raw keys in, bytes out, size changes passed on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from remotedl.errors import LinkLost
from remotedl.ssh.remote import Process, Pty

CHUNK = 32 * 1024


def own_pty() -> Pty | None:
    """What our terminal is; None where stdin is none."""
    if not sys.stdin.isatty():
        return None
    size = shutil.get_terminal_size()
    return Pty(os.environ.get("TERM", "xterm-256color"), size.columns, size.lines)


def interact(process: Process) -> int:
    """Until the process ends; its exit code."""
    with _raw(), _resizing(process):
        threading.Thread(target=_send, args=(process,), daemon=True).start()
        while data := process.recv(CHUNK):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    code = process.wait()
    process.close()
    return code


def _send(process: Process) -> None:
    handle = sys.stdin.fileno()
    try:
        while data := os.read(handle, CHUNK):
            process.sendall(data)
        process.shutdown_write()
    except (OSError, LinkLost):
        return


@contextmanager
def _raw() -> Iterator[None]:
    """Every key goes to the host, Ctrl-C too; the terminal is given back as it was."""
    if os.name != "posix" or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    tty.setraw(handle)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


@contextmanager
def _resizing(process: Process) -> Iterator[None]:
    number = getattr(signal, "SIGWINCH", None)
    if number is None:
        yield
        return

    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        process.resize(size.columns, size.lines)

    before = signal.signal(number, resize)
    try:
        yield
    finally:
        signal.signal(number, before)
