"""The system's ssh as the way of forwarded connections: who it trusts, and how it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from remotedl.config.models import HostConfig
from remotedl.ssh import connect as log_in
from remotedl.ssh.mux import SocketStream
from remotedl.ssh.prompt import NOBODY
from remotedl.tunnel import TcpPlace, TunnelWish, Way, open_tunnel
from tests.lab.login import Login
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.tunnel.door import hastened, open_door
from tests.lab_tests.tunnel.far_end import (
    connect,
    echo,
    pour,
    read_all,
    read_exactly,
    serving,
    until,
)

WISH = TunnelWish("Jupyter", TcpPlace(None, 0), "box")
MEGABYTE = 1 << 20


def masters() -> set[psutil.Process]:
    """The runs of ssh under this process, other tests' too."""
    children = psutil.Process().children(recursive=True)
    return {child for child in children if child.name() == "ssh"}


def test_dials_take_the_lane_once_it_is_there(sshd: Sshd) -> None:
    before = masters()
    remote = hastened(open_door(sshd.login))
    with serving(echo) as server:
        remote.dial("127.0.0.1", server.port).close()  # the first goes the slow way
        stream = remote.dial("127.0.0.1", server.port)
        assert isinstance(stream, SocketStream)
        stream.sendall(b"fast")
        assert stream.recv(4) == b"fast"
        stream.close()
        until(lambda: server.open_connections == 0, "the host's end is over")
    remote.close()
    assert masters() <= before


def test_unix_sockets_take_the_lane_too(sshd: Sshd, tmp_path: Path) -> None:
    remote = hastened(open_door(sshd.login))
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        remote.dial_unix(path).close()
        listener.accept()[0].close()
        stream = remote.dial_unix(path)
        assert isinstance(stream, SocketStream)
        far, _ = listener.accept()
        with far:
            far.sendall(b"fast")
            assert stream.recv(4) == b"fast"
        stream.close()
    remote.close()


def test_no_key_but_the_one_that_was_checked_is_trusted(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    remote = open_door(sshd.login)
    sshd.new_host_key()  # known_hosts even knows it; the login that was checked did not meet it
    remote.hasten()
    lane = remote.lane
    assert lane is not None
    until(lambda: lane.trouble, "it has given up")
    assert not lane.ready
    assert "verification failed" in lane.trouble
    remote.close()


def test_a_lane_that_dies_is_done_without(sshd: Sshd) -> None:
    before = masters()
    remote = hastened(open_door(sshd.login))
    lane = remote.lane
    assert lane is not None
    for master in masters() - before:
        master.kill()
    until(lambda: not lane.ready, "it is noticed")
    with serving(echo) as server:
        stream = remote.dial("127.0.0.1", server.port)
        assert not isinstance(stream, SocketStream)
        stream.close()
    remote.close()


def test_a_lane_that_is_cut_in_mid_flow_resets_the_client(make_sshd: MakeSshd) -> None:
    sshd = make_sshd()
    remote = hastened(open_door(sshd.login))
    with serving(pour(bytes(MEGABYTE), 1000)) as server:
        way, port = Way(remote), server.port
        way.dial("127.0.0.1", port).close()  # the first goes the slow way
        with open_tunnel(WISH, lambda: way.dial("127.0.0.1", port)) as tunnel:
            with connect(tunnel.port) as client:
                read_exactly(client, MEGABYTE)
                sshd.kill_connections()
                with pytest.raises(OSError):  # a cut download must not look like a whole one
                    read_all(client)
            until(lambda: tunnel.counters().now == 0, "the connection is over")
    remote.close()


def test_it_goes_through_a_jump_host(sshd: Sshd, make_sshd: MakeSshd) -> None:
    before = masters()
    jump = make_sshd()
    known = jump.folder / "both"
    known.write_text(jump.known_hosts.read_text() + sshd.known_hosts.read_text())
    config = jump.folder / "config"
    config.write_text(jump.login.ssh_config("jump"))
    host = HostConfig(**{**_table(sshd.login), "jump": "jump"})
    remote = log_in(host, prompt=NOBODY, known_hosts=known, ssh_config=config)
    hastened(remote)
    with serving(echo) as server:
        remote.dial("127.0.0.1", server.port).close()  # the first goes the slow way
        stream = remote.dial("127.0.0.1", server.port)
        assert isinstance(stream, SocketStream)
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
        stream.close()
    remote.close()
    assert masters() <= before


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.lab.login import Login
from tests.lab_tests.tunnel.door import hastened, open_door
from tests.lab_tests.tunnel.test_fast_lane import masters
address, port, user, key, known_hosts = sys.argv[1:]
remote = hastened(open_door(Login(address, int(port), user, Path(key), Path(known_hosts))))
print(*[master.pid for master in masters()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_when_we_are_killed(sshd: Sshd) -> None:
    login = sshd.login
    argv = [login.address, str(login.port), login.user, str(login.key), str(login.known_hosts)]
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *argv], capture_output=True, text=True, timeout=40, env=env
    )
    pids = [int(word) for word in done.stdout.split()]
    assert pids, done.stderr
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "ssh has ended")


def _table(login: Login) -> dict[str, object]:
    return login.host_config().model_dump(exclude_defaults=True)
