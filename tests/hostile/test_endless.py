"""A host that never stops, never starts, or sends more than it may: each ends in a named error."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from remotedl.config.models import HostConfig
from remotedl.errors import HostUnreachable, LinkLost, RemoteTimeout, SshError
from remotedl.ssh import process
from remotedl.ssh.channel import Channel
from remotedl.ssh.connection import Connection
from remotedl.ssh.embedded import EmbeddedHost
from tests.lab_tests.ssh.door import open_door

pytestmark = pytest.mark.timeout(90)
MOST_MEMORY = 140e6
"""Above what the process had: 200 MB in all, of a remotedl that does nothing else."""


class Memory:
    """The most memory that this process takes while the block runs."""

    def __enter__(self) -> Memory:
        self._process = psutil.Process()
        self._before = self.peak = self._process.memory_info().rss
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        assert self.peak - self._before < MOST_MEMORY, f"{(self.peak - self._before) / 1e6:.0f} MB"


@contextlib.contextmanager
def host_whose_shell(tmp_path: Path, does: str) -> Iterator[Connection]:
    """A host; its login shell runs `does` before it runs what it is asked for."""
    shell = tmp_path / "shell"
    shell.write_text(f'#!/bin/sh\n[ -e {tmp_path}/harmless ] || {{ {does}; }}\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    with EmbeddedHost(tmp_path / "home", shell=str(shell)) as login:
        remote = open_door(login.host, known_hosts=login.known_hosts)
        yield remote
        remote.close()


def test_a_command_that_prints_without_end(tmp_path: Path) -> None:
    with host_whose_shell(tmp_path, "true") as remote, Memory():
        with pytest.raises(SshError, match="yes printed more than 32 MB and was ended"):
            remote.run(["yes", "x" * 4000])
        assert remote.run(["echo", "still here"], timeout_s=20).text == "still here\n"


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("sleep 100", "has not begun to run true after"),
        ("cat >/dev/null", "has not begun to run true after"),
        ("printf Hello; sleep 100", "it says: Hello"),
        ("while :; do echo noise; sleep 0.1; done", "has not begun to run true after"),
        ("yes noise", "prints without end"),
        ("yes noise >&2", "prints without end"),
        ("exit 1", "runs no commands"),
    ],
)
def test_a_login_shell_that_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, said: str
) -> None:
    assert process.START_LIMIT_S == 20
    monkeypatch.setattr(process, "START_LIMIT_S", 2.0)
    began = time.monotonic()
    with host_whose_shell(tmp_path, does) as remote, Memory():
        with pytest.raises(SshError, match=said) as caught:
            remote.run(["true"], stdin=b"x" * 100_000)
        assert len(caught.value.message) < 1000
        started = remote.start(["true"])
        if "exit" in does:
            assert started.recv(100) == b""
        else:
            with pytest.raises(SshError, match=r"prints without end|has not begun"):
                started.recv(100)
        started.close()
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_timeout_holds_on_a_host_that_starts_no_more_commands(tmp_path: Path, when: str) -> None:
    does = f"[ ! -e {tmp_path}/hang ] || exec sleep 1000"
    with host_whose_shell(tmp_path, does) as remote:
        if when == "before":
            (tmp_path / "hang").touch()
        else:
            threading.Timer(0.7, (tmp_path / "hang").touch).start()
        began = time.monotonic()
        with pytest.raises(RemoteTimeout, match="in 2 s"):
            remote.run(["sleep", "100"], timeout_s=2)
        assert time.monotonic() - began < 7


def test_a_timeout_holds_while_nobody_reads_stdin(tmp_path: Path) -> None:
    with host_whose_shell(tmp_path, "true") as remote:
        began = time.monotonic()
        with pytest.raises(RemoteTimeout):
            remote.run(["sleep", "100"], stdin=bytes(40 << 20), timeout_s=2)
        assert time.monotonic() - began < 7


@pytest.mark.parametrize("where", ["stdout", "stderr"])
def test_a_server_that_sends_more_than_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The embedded host is made to ignore windows; nobody reads here."""
    take = Channel._take_window

    def greedy(channel: Channel, wanted: int) -> int:
        if channel._transport.server_mode:
            channel._window_out += wanted
        return take(channel, wanted)

    monkeypatch.setattr(Channel, "_take_window", greedy)
    with host_whose_shell(tmp_path, "true") as remote, Memory():
        turn = ">&2" if where == "stderr" else ""
        endless = remote.start(["sh", "-c", f"exec yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx {turn}"])
        deadline = time.monotonic() + 60
        while remote.alive:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(LinkLost, match="sends more than it may"):
            remote.run(["true"])
        endless.close()


def _greeting(*, line: bytes, pause_s: float = 0.0) -> Callable[[socket.socket], None]:
    def greet(end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                end.sendall(line)
                time.sleep(pause_s)

    return greet


@pytest.mark.parametrize(
    "greet",
    [
        _greeting(line=b"x" * 65536),
        _greeting(line=b"welcome\r\n" * 1000),
        _greeting(line=b"x", pause_s=0.2),
        _greeting(line=b"SSH-2.0-x\r\n" + bytes(100_000)),
    ],
    ids=["a line", "lines", "a trickle", "packets"],
)
def test_a_server_that_greets_without_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, greet: Callable[[socket.socket], None]
) -> None:
    monkeypatch.setattr("remotedl.ssh.opener.HANDSHAKE_TIMEOUT_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server, Memory():

        def serve() -> None:
            end, _ = server.accept()
            with end:
                greet(end)

        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        host = HostConfig(address="127.0.0.1", port=server.getsockname()[1])
        with pytest.raises(HostUnreachable):
            open_door(host, known_hosts=tmp_path / "known", accept_new=True)
        assert time.monotonic() - began < 15
