"""The control channel: requests, errors with their codes, strangers, long paths."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotedl.errors import RemotedlError, SessionError, SyncHalted
from remotedl.session.control import ControlServer, ask


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
    before = threading.active_count()
    server = ControlServer(tmp_path, {})
    server.close()
    with pytest.raises(SessionError):
        ask(server.address, server.key, "echo")
    assert threading.active_count() == before


def test_a_path_too_long_for_a_unix_socket_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    server = ControlServer(deep, {"echo": lambda request: 1})
    assert ask(server.address, server.key, "echo") == 1
    server.close()
    assert not Path(server.address).parent.exists()
