"""door.py: a port of the loopback comes out at a unix socket, and goes with the list."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remotedl.container.payload import door

LIMIT_S = 10


@pytest.fixture
def echo() -> Iterator[int]:
    """A program of the user's: says everything back, and ends when its client does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    end, _ = listener.accept()
                except OSError:
                    return
                while data := end.recv(4096):
                    end.sendall(data)
                end.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Path]:
    """The list of a running door.py; its sockets are beside it, in `s`."""
    listed = tmp_path / "doors.json"
    listed.write_text("[]")
    (tmp_path / "s").mkdir(mode=0o700)
    running = subprocess.Popen([sys.executable, door.__file__, str(listed), str(tmp_path / "s")])
    yield listed
    running.kill()
    running.wait()


def said(path: Path, words: bytes) -> bytes | None:
    """What comes back, to the end; None where nobody listens."""
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(LIMIT_S)
    with end:
        try:
            end.connect(str(path))
        except OSError:
            return None
        end.sendall(words)
        end.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: end.recv(65536), b""))


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_port_comes_out_and_goes_with_the_list(doors: Path, echo: int) -> None:
    way = doors.parent / "s" / str(echo)
    doors.write_text(json.dumps([echo]))
    until(lambda: said(way, b"x") == b"x")
    much = bytes(range(256)) * 20_000
    assert said(way, much) == much
    assert way.stat().st_mode & 0o777 == 0o700
    doors.write_text("[]")
    until(lambda: not way.exists())
    assert said(way, b"x") is None


def test_a_program_that_does_not_run_yet_is_an_end_without_a_word(doors: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    doors.write_text(json.dumps([port]))
    way = doors.parent / "s" / str(port)
    until(way.exists)
    assert said(way, b"") == b""


def test_a_damaged_list_closes_nothing_and_a_removed_socket_comes_back(
    doors: Path, echo: int
) -> None:
    way = doors.parent / "s" / str(echo)
    doors.write_text(json.dumps([echo]))
    until(lambda: said(way, b"x") == b"x")
    doors.write_text("[80")
    assert said(way, b"x") == b"x"
    doors.write_text(json.dumps([echo]))
    way.unlink()
    until(lambda: said(way, b"y") == b"y")
