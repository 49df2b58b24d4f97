"""Our tunnel beside `ssh -L`, to one sshd on loopback, and through 40 ms and 100 Mbit/s.

Client, tunnel, sshd and server are processes of their own, as they are in use. What limits us is
written in remotedl/tunnel/splice.py.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.table import Row, Target, in_turn
from benchmarks.tunnel_ends import download, echo, far_end, new_connection, upload
from tests.lab.badlink import BadLink, login_over
from tests.lab.login import Login
from tests.lab.sshd import Sshd

Measure = Callable[[int, int], float]
ROUNDS = 5
MEGABYTES = 200
SLOW_MEGABYTES = 40
LINE = 12.5e6
"""Bytes a second on the slow link."""
DELAY_S = 0.02
"""One way, so that a round trip takes 40 ms."""
RATE: Target = (0.9, "at least")
LINE_RATE: Target = (0.95, "at least")
ECHO: Target = (1.5, "at most")
NEW: Target = (2.0, "at most")


def main() -> list[Row]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="remotedl-bench-"))
        sshd = Sshd(Path(folder) / "sshd")
        sshd.start()
        stack.callback(sshd.kill)
        far = stack.enter_context(far_end())
        ours = stack.enter_context(our_tunnel(sshd.login, far))
        peer = stack.enter_context(ssh_tunnel(sshd.login, far))
        rows = _loopback(ours, peer)
        return rows + _slow(stack, sshd, far)


def _loopback(ours: int, peer: int) -> list[Row]:
    return [
        _beside(download, MEGABYTES, ours, peer, Row("tunnel: download", 0, "MB/s", *RATE)),
        _beside(upload, MEGABYTES, ours, peer, Row("tunnel: upload", 0, "MB/s", *RATE)),
        _beside(echo, 2000, ours, peer, Row("tunnel: echo of one byte", 0, "ms", *ECHO)),
        _beside(new_connection, 100, ours, peer, Row("tunnel: new connection", 0, "ms", *NEW)),
    ]


def _slow(stack: ExitStack, sshd: Sshd, far: int) -> list[Row]:
    """The peer is the line itself: plain TCP through a link of the same kind."""
    link = BadLink((sshd.address, sshd.port), delay_s=DELAY_S, bandwidth=LINE)
    plain = BadLink((sshd.address, far), delay_s=DELAY_S, bandwidth=LINE)
    for end in (link, plain):
        stack.callback(end.close)
    ours = stack.enter_context(our_tunnel(login_over(link, sshd), far))
    name = "tunnel: {} through 40 ms and 100 Mbit/s"
    rows = [Row(name.format(way), 0, "MB/s", *LINE_RATE) for way in ("download", "upload")]
    return [
        _beside(measure, SLOW_MEGABYTES, ours, plain.port, row, "the line", 3)
        for measure, row in zip((download, upload), rows, strict=True)
    ]


def _beside(
    measure: Measure,
    size: int,
    ours: int,
    peer: int,
    row: Row,
    peer_name: str = "ssh -L",
    rounds: int = ROUNDS,
) -> Row:
    measure(ours, min(size, 10))  # the first connection pays for what is loaded lazily
    mine, theirs = in_turn(rounds, lambda: measure(ours, size), lambda: measure(peer, size))
    return replace(row, ours=mine, peer=theirs, peer_name=peer_name)


@contextmanager
def our_tunnel(login: Login, far: int) -> Iterator[int]:
    """A session's tunnel in a process of its own; its port."""
    argv = [sys.executable, "-m", "benchmarks.tunnel_throughput", str(far)]
    argv += [login.address, str(login.port), login.user, str(login.key), str(login.known_hosts)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        try:
            yield int(ours.stdout.readline())
        finally:
            assert ours.stdin is not None
            ours.stdin.close()
            ours.wait(20)


@contextmanager
def ssh_tunnel(login: Login, far: int) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    argv = login.ssh_argv()
    argv[1:1] = ["-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{far}"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as ssh:
        try:
            _wait_listening(port)
            yield port
        finally:
            ssh.kill()


def _wait_listening(port: int) -> None:
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("ssh -L did not come up")


def _serve(far: int, address: str, port: int, user: str, key: str, known_hosts: str) -> None:
    """Our side: open the tunnel, print its port, stay until stdin ends."""
    from remotedl.ssh import connect
    from remotedl.ssh.prompt import NOBODY
    from remotedl.tunnel import TcpPlace, TunnelWish, Way, open_tunnel

    login = Login(address, port, user, Path(key), Path(known_hosts))
    remote = connect(
        login.host_config(),
        prompt=NOBODY,
        known_hosts=login.known_hosts,
        ssh_config=Path(os.devnull),
    )
    wish = TunnelWish("the far end", TcpPlace(None, 0), "bench")
    way = Way(remote)
    while remote.lane is not None and not remote.lane.ready and not remote.lane.trouble:
        time.sleep(0.01)
    with open_tunnel(wish, lambda: way.dial("127.0.0.1", far)) as tunnel:
        print(tunnel.port, flush=True)
        sys.stdin.read()
    remote.close()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
