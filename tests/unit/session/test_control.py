"""The control channel: requests, errors with their codes, strangers, long paths."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from remotedl.errors import RemotedlError, SessionError, SyncHalted
from remotedl.session.control import ControlServer, ask
from remotedl.session.errands import seen_from_outside, snapshot_of
from remotedl.session.registry import FORMAT, Record
from remotedl.session.status import Phase


def halt(_: object) -> None:
    raise SyncHalted("stopped", hint="look")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    server = ControlServer(
        tmp_path, {"echo": lambda request: request["text"], "halt": halt, "bug": lambda r: r["no"]}
    )
    yield server
    server.close()


def test_a_request_is_answered(server: ControlServer) -> None:
    assert ask(server.address, server.key, "echo", text="hö") == "hö"


def test_an_error_arrives_with_its_hint_and_exit_code(server: ControlServer) -> None:
    with pytest.raises(RemotedlError, match="stopped") as caught:
        ask(server.address, server.key, "halt")
    assert (caught.value.hint, caught.value.exit_code) == ("look", SyncHalted.exit_code)


def test_a_bug_in_one_request_does_not_end_the_session(server: ControlServer) -> None:
    with pytest.raises(RemotedlError, match="KeyError"):
        ask(server.address, server.key, "bug")
    assert ask(server.address, server.key, "echo", text="still here") == "still here"


def test_an_unknown_request_is_refused(server: ControlServer) -> None:
    with pytest.raises(RemotedlError, match="knows no request 'dance'"):
        ask(server.address, server.key, "dance")


def test_a_stranger_without_the_key_gets_nothing(server: ControlServer) -> None:
    with pytest.raises(SessionError):
        ask(server.address, b"guess", "echo", text="x")
    assert ask(server.address, server.key, "echo", text="x") == "x"


def test_a_closed_session_does_not_answer_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    server = ControlServer(tmp_path, {})
    server.close()
    with pytest.raises(SessionError):
        ask(server.address, server.key, "echo")
    assert set(threading.enumerate()) <= before


def test_a_path_too_long_for_a_unix_socket_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    server = ControlServer(deep, {"echo": lambda request: 1})
    assert ask(server.address, server.key, "echo") == 1
    server.close()
    assert not Path(server.address).parent.exists()


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Record]:
    """A session's process that is there, holds its lock, and does nothing (SIGSTOP)."""
    code = (
        "import pathlib, sys, time\n"
        "from remotedl.session.control import ControlServer\n"
        f"server = ControlServer(pathlib.Path({str(tmp_path)!r}), {{}})\n"
        "print(server.address, server.key.hex(), flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address, key = process.stdout.readline().split()
    process.send_signal(signal.SIGSTOP)
    yield Record(FORMAT, "0" * 16, "/thesis", "h1", process.pid, address, key, 1.5)
    process.kill()
    process.communicate()


def test_a_session_that_is_stopped_does_not_hang_whoever_asks(stopped: Record) -> None:
    began = time.monotonic()
    for _ in range(40):  # more than its backlog holds: then connect hangs, not the handshake
        with pytest.raises(SessionError, match="does not answer"):
            ask(stopped.address, bytes.fromhex(stopped.key), "status", hello_s=0.01)
    with pytest.raises(SessionError) as caught:
        snapshot_of(stopped)
    assert time.monotonic() - began < 5
    assert f"thesis with h1 (process {stopped.pid})" in caught.value.message
    assert f"kill -CONT {stopped.pid}" in caught.value.hint
    seen = seen_from_outside(stopped, caught.value)
    assert (seen.phase, seen.pid, seen.project) == (Phase.SILENT, stopped.pid, "thesis")


@pytest.mark.parametrize("answer", [{}, {"phase": "dreaming"}, {"host": "h1", "news": 1}])
def test_a_session_of_another_version_is_said(tmp_path: Path, answer: object) -> None:
    server = ControlServer(tmp_path, {"status": lambda _: answer})
    record = Record(FORMAT, "0" * 16, "/thesis", "h1", 7, server.address, server.key.hex(), 1.5)
    with pytest.raises(SessionError, match="started by another version") as caught:
        snapshot_of(record)
    assert "kill 7" in caught.value.hint
    server.close()


def test_a_client_that_says_nothing_holds_up_no_other(server: ControlServer) -> None:
    with Client(server.address), Client(server.address):
        assert ask(server.address, server.key, "echo", text="x") == "x"
