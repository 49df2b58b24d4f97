"""The tunnel's behaviour towards its clients, over a dial that never leaves this machine."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import websockets.sync.client
import websockets.sync.server

from remotedl.errors import LinkLost, TunnelError
from remotedl.ssh.remote import Stream
from remotedl.tunnel import TcpPlace, Tunnel, TunnelWish, UnixPlace, open_tunnel
from remotedl.tunnel.forward import Place
from remotedl.tunnel.listen import is_loopback
from tests.lab_tests.tunnel.door import Listener
from tests.lab_tests.tunnel.far_end import (
    Behaviour,
    Server,
    answer_after_eof,
    at_rest,
    connect,
    echo,
    hang_up_then_read,
    pour,
    read_all,
    read_exactly,
    serving,
    until,
)
from tests.support.local_remote import LocalRemote

Dial = Callable[[], Stream]
RST = (errno.ECONNRESET, errno.EPIPE)


def wish(listen: Place | None = None, *, may_move: bool = True) -> TunnelWish:
    return TunnelWish("Jupyter", listen or TcpPlace(None, 0), "box", may_move=may_move)


def to(server: Server, remote: LocalRemote | None = None) -> Dial:
    link = remote or LocalRemote()
    return lambda: link.dial("127.0.0.1", server.port)


@contextmanager
def tunnelled(
    behaviour: Behaviour, listen: Place | None = None, **options: Any
) -> Iterator[tuple[Server, Tunnel[Dial]]]:
    """A server on "the host" and a tunnel that leads to it."""
    with serving(behaviour) as server:
        dial = to(server, options.pop("remote", None))
        with open_tunnel(wish(listen), dial, **options) as tunnel:
            yield server, tunnel


def broken(error: Exception) -> Dial:
    def dial() -> Stream:
        raise error

    return dial


# -- the port ------------------------------------------------------------------------------------


def test_the_listener_is_on_127_0_0_1_and_nowhere_else() -> None:
    with open_tunnel(wish(), None) as tunnel:
        addresses = [
            c.laddr.ip
            for c in psutil.Process().net_connections("inet")
            if c.status == psutil.CONN_LISTEN and c.laddr.port == tunnel.port
        ]
    assert addresses == ["127.0.0.1"]


def test_a_taken_port_moves_to_the_next_free_one_and_says_so() -> None:
    report = Listener()
    with (
        open_tunnel(wish(), None) as first,
        open_tunnel(wish(TcpPlace(None, first.port)), None, report=report) as second,
    ):
        assert second.moved_from == first.port
        assert second.place == TcpPlace(None, second.port)
    assert report.warnings == [
        f"port {first.port} of this laptop is taken: Jupyter is on 127.0.0.1:{second.port}"
    ]


def test_a_wish_that_may_not_move_is_refused() -> None:
    with open_tunnel(wish(), None) as first, pytest.raises(TunnelError, match="is taken"):
        open_tunnel(wish(TcpPlace(None, first.port), may_move=False), None)


def test_a_port_that_a_stranger_holds_on_ipv6_loopback_counts_as_taken() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as stranger:
        port = stranger.getsockname()[1]
        with open_tunnel(wish(TcpPlace(None, port)), None) as tunnel:
            assert tunnel.moved_from == port


def test_a_port_is_had_again_right_after_it_was_closed() -> None:
    with serving(echo) as server:
        with open_tunnel(wish(), to(server)) as first, connect(first.port) as client:
            client.sendall(b"x")
            read_exactly(client, 1)
        with open_tunnel(wish(TcpPlace(None, first.port), may_move=False), None) as second:
            assert second.port == first.port


PRIVILEGED = """
from remotedl.errors import TunnelError
from remotedl.tunnel import TcpPlace, Tunnel, TunnelWish, open_tunnel
try:
    open_tunnel(TunnelWish("Jupyter", TcpPlace(None, 80), "box"), None)
except TunnelError as exc:
    print(exc.message, "|", exc.hint)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the other systems privilege no port")
def test_a_privileged_port_is_a_clear_error() -> None:
    unprivileged = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if int(unprivileged.read_text()) <= 80:
        pytest.skip("this kernel lets everybody listen on port 80")
    argv = [sys.executable, "-c", PRIVILEGED]
    if os.geteuid() == 0:
        argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert "ports below 1024 are the administrator's" in done.stdout, done.stderr
    assert "8080" in done.stdout


def test_an_explicit_bind_is_honoured_and_the_user_is_warned() -> None:
    report = Listener()
    with (
        tunnelled(echo, TcpPlace("0.0.0.0", 0), report=report) as (_, tunnel),
        connect(tunnel.port, "127.0.0.2") as client,
    ):
        client.sendall(b"x")
        assert read_exactly(client, 1) == b"x"
    assert len(report.warnings) == 1
    assert "whoever can reach this laptop" in report.warnings[0]


@pytest.mark.parametrize("bind", ["::1", "localhost", "*"])
def test_ipv6_clients_reach_a_listener_that_was_asked_for(bind: str) -> None:
    listen = TcpPlace(bind, 0)
    with tunnelled(echo, listen) as (_, tunnel), connect(tunnel.port, "::1") as client:
        client.sendall(b"six")
        assert read_exactly(client, 3) == b"six"


def test_an_address_that_is_not_ours_is_a_clear_error() -> None:
    with pytest.raises(TunnelError, match="no such address"):
        open_tunnel(wish(TcpPlace("192.0.2.1", 0)), None)


def test_a_name_that_does_not_resolve_is_a_clear_error() -> None:
    with pytest.raises(TunnelError, match="cannot resolve"):
        open_tunnel(wish(TcpPlace("no-such-name.invalid", 0)), None)


def test_what_counts_as_loopback() -> None:
    assert is_loopback(TcpPlace("127.0.0.9", 1))
    assert is_loopback(UnixPlace("/x"))
    assert not is_loopback(TcpPlace("::", 1))


# -- unix sockets --------------------------------------------------------------------------------


def test_a_unix_socket_is_the_users_alone_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    with serving(echo) as server, open_tunnel(wish(UnixPlace(str(path))), to(server)):
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"unix")
            assert read_exactly(client, 4) == b"unix"
    assert not path.exists()


def test_a_dead_unix_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "t.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    living = wish(UnixPlace(path))
    with open_tunnel(living, None), pytest.raises(TunnelError, match="exists already"):
        open_tunnel(living, None)


def test_a_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    path.write_text("mine")
    with pytest.raises(TunnelError, match="exists already"):
        open_tunnel(wish(UnixPlace(str(path))), None)
    assert path.read_text() == "mine"


# -- bytes ---------------------------------------------------------------------------------------


def test_echo() -> None:
    with tunnelled(echo) as (_server, tunnel), connect(tunnel.port) as client:
        for word in (b"a", b"bc", b"def"):
            client.sendall(word)
            assert read_exactly(client, len(word)) == word


def test_a_client_that_ends_its_side_still_reads_the_answer() -> None:
    with tunnelled(answer_after_eof) as (_server, tunnel), connect(tunnel.port) as client:
        client.sendall(b"x" * 300_000)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"got 300000"


def test_a_host_that_ends_its_side_still_reads_what_comes() -> None:
    with tunnelled(hang_up_then_read) as (_server, tunnel), connect(tunnel.port) as client:
        assert read_all(client) == b"goodbye"
        client.sendall(b"x" * 300_000)
        client.shutdown(socket.SHUT_WR)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        assert tunnel.counters().to_remote == 300_000
        assert tunnel.counters().errors == 0


def test_a_host_that_answers_before_it_has_read_all_is_heard() -> None:
    def too_long(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"413")

    with tunnelled(too_long) as (_server, tunnel), connect(tunnel.port) as client:
        with suppress(OSError):
            client.sendall(b"x")
            assert read_exactly(client, 3) == b"413"
            client.sendall(b"x" * 1_000_000)
        until(lambda: tunnel.counters().now == 0, "the connection is over")


def test_a_hundred_megabytes_arrive_whole() -> None:
    block = random.Random(1).randbytes(1 << 20)
    expected = hashlib.sha256()
    for _ in range(100):
        expected.update(block)
    with serving(pour(block, 100)) as server, open_tunnel(wish(), to(server)) as tunnel:
        with connect(tunnel.port) as client:
            got = hashlib.sha256()
            while data := client.recv(1 << 20):
                got.update(data)
        assert got.digest() == expected.digest()
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        assert tunnel.counters().to_laptop == 100 << 20


def test_three_hundred_connections_at_once() -> None:
    with tunnelled(echo) as (_server, tunnel):
        clients = [connect(tunnel.port) for _ in range(300)]
        try:
            for number, client in enumerate(clients):
                client.sendall(b"%04d" % number)
            for number, client in enumerate(clients):
                assert read_exactly(client, 4) == b"%04d" % number
            assert tunnel.counters().now == 300
        finally:
            for client in clients:
                client.close()
        until(lambda: tunnel.counters().now == 0, "every connection is over")
        assert tunnel.counters().total == 300
        assert tunnel.counters().errors == 0


def test_connections_above_the_limit_wait_their_turn() -> None:
    with tunnelled(echo, limit=2) as (_server, tunnel):
        clients = [connect(tunnel.port) for _ in range(3)]
        clients[2].sendall(b"3")
        clients[0].sendall(b"1")
        assert read_exactly(clients[0], 1) == b"1"
        assert tunnel.counters().now == 2
        clients[0].close()
        assert read_exactly(clients[2], 1) == b"3"
        for client in clients[1:]:
            client.close()


def test_a_slow_reader_holds_the_sender_back() -> None:
    sent = 0
    block = bytes(1 << 20)

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        for _ in range(200):
            connection.sendall(block)
            sent += len(block)

    with tunnelled(flood) as (_server, tunnel), connect(tunnel.port) as client:
        client.recv(1)
        at_rest(lambda: sent)
        assert sent < 60 << 20, "somebody buffers what the client does not read"
        read_exactly(client, 1 << 20)


# -- ends that are not polite --------------------------------------------------------------------


def test_a_client_that_vanishes_leaves_nothing_behind() -> None:
    with tunnelled(echo) as (server, tunnel):
        client = connect(tunnel.port)
        client.sendall(b"x")
        read_exactly(client, 1)
        reset(client)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        until(lambda: server.open_connections == 0, "the host's end is over")
        assert tunnel.counters().errors == 1


def test_a_client_that_vanishes_in_mid_download_leaves_nothing_behind() -> None:
    with tunnelled(pour(bytes(1 << 20), 1000)) as (server, tunnel):
        client = connect(tunnel.port)
        read_exactly(client, 1 << 20)
        reset(client)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        until(lambda: server.open_connections == 0, "the host's end is over")


def test_a_client_that_vanishes_while_the_host_does_not_read_leaves_nothing_behind() -> None:
    release = threading.Event()

    def stubborn(connection: socket.socket) -> None:
        release.wait(50)

    with tunnelled(stubborn) as (_, tunnel):
        client = connect(tunnel.port)
        client.settimeout(0.5)
        with suppress(TimeoutError):
            client.sendall(bytes(100_000_000))
        reset(client)
        try:
            until(lambda: tunnel.counters().now == 0, "the connection is over")
        finally:
            release.set()


def test_a_link_that_is_cut_in_mid_flow_resets_the_client() -> None:
    remote = LocalRemote()
    with (
        tunnelled(pour(bytes(1 << 20), 1000), remote=remote) as (_, tunnel),
        connect(tunnel.port) as client,
    ):
        read_exactly(client, 1 << 20)
        remote.lose_link()
        with pytest.raises(OSError) as caught:
            read_all(client)
        assert caught.value.errno in RST, "a cut download must not look like a whole one"
        until(lambda: tunnel.counters().now == 0, "the connection is over")


def test_no_link_any_more_ends_idle_connections() -> None:
    with tunnelled(echo) as (_server, tunnel), connect(tunnel.port) as client:
        client.sendall(b"x")
        read_exactly(client, 1)
        tunnel.set_dial(None)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        assert tunnel.counters().last_error == "the link is gone"


def test_no_link_any_more_ends_connections_that_are_stuck() -> None:
    with tunnelled(pour(bytes(1 << 20), 1000)) as (_, tunnel), connect(tunnel.port) as client:
        read_exactly(client, 1)
        at_rest(lambda: tunnel.counters().to_laptop)  # stuck in sending to us
        tunnel.set_dial(None)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        with pytest.raises(OSError):
            read_all(client)


def test_close_ends_everything() -> None:
    with serving(echo) as server:
        tunnel = open_tunnel(wish(), to(server))
        clients = [connect(tunnel.port) for _ in range(5)]
        until(lambda: server.accepted == 5, "all are through")
        tunnel.close()
        tunnel.close()
        for client in clients:
            with client, pytest.raises(ConnectionResetError):
                client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(tunnel.port)


# -- no link -------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Upgrade: websocket", "Sec-Fetch-Mode: cors"])
def test_what_a_page_asks_for_waits_longer_for_the_link_than_the_page(header: str) -> None:
    """JupyterLab answers a refusal with a dialog, which takes the keyboard away."""
    asked = f"GET /api/x HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode()
    with (
        serving(echo) as server,
        open_tunnel(wish(), None, grace_s=0.2) as tunnel,
        connect(tunnel.port) as page,
        connect(tunnel.port) as client,
    ):
        page.sendall(b"GET /lab HTTP/1.1\r\nHost: x\r\nSec-Fetch-Mode: navigate\r\n\r\n")
        client.sendall(asked)
        assert b"reconnecting" in read_all(page)
        tunnel.set_dial(to(server))
        assert read_exactly(client, len(asked)) == asked


def test_a_browser_gets_a_page_while_there_is_no_link() -> None:
    with open_tunnel(wish(), None, grace_s=0.05) as tunnel, connect(tunnel.port) as client:
        client.sendall(b"GET /lab HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 2" in answer
    assert b"remotedl is reconnecting to box" in answer


def test_a_posted_body_does_not_lose_the_page() -> None:
    with open_tunnel(wish(), None, grace_s=0.05) as tunnel, connect(tunnel.port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
        assert read_all(client).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("start", [b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\x00"])
def test_whatever_else_is_closed_while_there_is_no_link(start: bytes) -> None:
    with open_tunnel(wish(), None, grace_s=0.05) as tunnel, connect(tunnel.port) as client:
        client.sendall(start)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_new_connection_waits_for_the_link_to_come_back() -> None:
    with (
        serving(echo) as server,
        open_tunnel(wish(), None, grace_s=10) as tunnel,
        connect(tunnel.port) as client,
    ):
        client.sendall(b"early")
        until(lambda: tunnel.counters().now == 1, "the client waits")
        tunnel.set_dial(to(server))
        assert read_exactly(client, 5) == b"early"


def test_the_port_stays_and_leads_to_the_new_far_end() -> None:
    def name(text: bytes) -> Callable[[socket.socket], None]:
        return lambda connection: connection.sendall(text)

    with tunnelled(name(b"old")) as (_, tunnel), serving(name(b"new")) as new:
        with connect(tunnel.port) as client:
            assert read_all(client) == b"old"
        tunnel.set_dial(None)
        tunnel.set_dial(to(new))
        with connect(tunnel.port) as client:
            assert read_all(client) == b"new"


def test_the_far_port_is_looked_up_at_each_connection() -> None:
    with serving(pour(b"1", 1)) as first, serving(pour(b"2", 1)) as second:
        ports = iter([first.port, second.port])
        remote = LocalRemote()
        with open_tunnel(wish(), lambda: remote.dial("127.0.0.1", next(ports))) as tunnel:
            answers = []
            for _ in range(2):
                with connect(tunnel.port) as client:
                    answers.append(read_all(client))
    assert answers == [b"1", b"2"]


def test_a_link_that_fails_before_anybody_noticed_is_dialled_again() -> None:
    with serving(echo) as server:
        good, tries = to(server), 0

        def dial() -> Stream:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise LinkLost("broken")
            return good()

        with open_tunnel(wish(), dial) as tunnel, connect(tunnel.port) as client:
            client.sendall(b"x")
            assert read_exactly(client, 1) == b"x"


def test_a_link_that_stays_broken_is_a_page_in_the_end() -> None:
    dial = broken(LinkLost("broken"))
    with open_tunnel(wish(), dial, grace_s=0.05) as tunnel, connect(tunnel.port) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"reconnecting" in read_all(client)


def test_a_dial_that_is_refused_is_a_page_that_says_so() -> None:
    dial = broken(TunnelError("box: 127.0.0.1:8888 refused"))
    with open_tunnel(wish(), dial) as tunnel, connect(tunnel.port) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = read_all(client)
        assert b"Jupyter does not answer on box" in answer
        assert b"127.0.0.1:8888 refused" in answer
        until(lambda: tunnel.counters().errors == 1, "it is counted")
        assert tunnel.counters().last_error == "box: 127.0.0.1:8888 refused"


def test_a_service_that_hangs_up_without_a_word_is_a_page_that_says_so() -> None:
    """As a container's published port does for a service that is still starting."""

    def wordless(connection: socket.socket) -> None:
        connection.recv(4096)

    with tunnelled(wordless) as (_, tunnel):
        with connect(tunnel.port) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Jupyter does not answer on box" in answer
        with connect(tunnel.port) as client:
            client.sendall(b"SSH-2.0-x\r\n")
            with suppress(ConnectionResetError):
                assert read_all(client) == b""
        until(lambda: tunnel.counters().now == 0, "both are over")
        assert tunnel.counters().last_error == "it hung up without a word"


def test_counters() -> None:
    with tunnelled(answer_after_eof) as (_server, tunnel), connect(tunnel.port) as client:
        client.sendall(b"x" * 1000)
        until(lambda: tunnel.counters().to_remote == 1000, "counted while it is open")
        assert tunnel.counters().now == 1
        client.shutdown(socket.SHUT_WR)
        read_all(client)
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        counters = tunnel.counters()
    assert (counters.total, counters.to_remote, counters.to_laptop) == (1, 1000, len("got 1000"))
    assert (counters.errors, counters.last_error) == (0, "")


@pytest.fixture(scope="module")
def websocket_port() -> Iterator[int]:
    """An echoing websocket server; of module scope, as it keeps descriptors of its own."""

    def serve(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    server = websockets.sync.server.serve(serve, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.socket.getsockname()[1]
    with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/"):
        pass  # it runs, and has opened what it keeps open
    yield port
    server.shutdown()
    thread.join()


def test_websockets_live_through_it(websocket_port: int) -> None:
    remote = LocalRemote()
    with open_tunnel(wish(), lambda: remote.dial("127.0.0.1", websocket_port)) as tunnel:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{tunnel.port}/") as client:
            for message in ("hello", b"\x00" * 200_000, "goodbye"):
                client.send(message)
                assert client.recv(timeout=10) == message
        until(lambda: tunnel.counters().now == 0, "the connection is over")
        assert tunnel.counters().errors == 0


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()
