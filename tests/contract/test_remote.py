"""What every `Remote` promises: one suite for the double, real OpenSSH and the embedded host."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from remotedl.errors import LinkLost, RemoteCommandFailed, TunnelError
from remotedl.ssh import connect
from remotedl.ssh.embedded import EmbeddedHost
from remotedl.ssh.prompt import NOBODY
from remotedl.ssh.remote import Pty, Remote, Stream
from tests.lab.sshd import Sshd
from tests.support.local_remote import LocalRemote

NO_CONFIG = Path(os.devnull)
NASTY = (
    "",
    " a  b ",
    "it's",
    '"',
    "\\",
    "!x!",
    "$HOME `id` $(id)",
    "a\nb\n",
    "*?[a]{b,c}~",
    "é☃",
    "-n",
)


@dataclass
class Case:
    """A kind of Remote: one that tests share, how to make another, and where its home is."""

    remote: Remote
    another: Callable[[], Remote]
    home: Path


@pytest.fixture(scope="module", params=["local", "openssh", "embedded"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    yield from {"local": _local, "openssh": _openssh, "embedded": _embedded}[request.param]()


def _local() -> Iterator[Case]:
    with tempfile.TemporaryDirectory(prefix="remotedl-local-") as name:
        home = Path(name)
        yield Case(LocalRemote(home), lambda: LocalRemote(home), home)


def _openssh() -> Iterator[Case]:
    with tempfile.TemporaryDirectory(prefix="remotedl-sshd-") as name:
        server = Sshd(Path(name) / "s")
        server.start()

        def another() -> Remote:
            return connect(
                server.login.host_config(),
                prompt=NOBODY,
                known_hosts=server.known_hosts,
                ssh_config=NO_CONFIG,
            )

        remote = another()
        yield Case(remote, another, server.home)
        remote.close()
        server.kill()


def _embedded() -> Iterator[Case]:
    with tempfile.TemporaryDirectory(prefix="remotedl-home-") as name:
        server = EmbeddedHost(Path(name))
        login = server.start()

        def another() -> Remote:
            return connect(
                login.host, prompt=NOBODY, known_hosts=login.known_hosts, ssh_config=NO_CONFIG
            )

        remote = another()
        yield Case(remote, another, Path(name))
        remote.close()
        server.stop()


@pytest.fixture
def remote(case: Case) -> Remote:
    return case.remote


# Commands that run to their end.


def test_a_result_holds_both_outputs_and_the_status(remote: Remote) -> None:
    result = remote.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (result.stdout, result.stderr, result.code) == (b"out\n", b"err\n", 3)
    assert result.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")


def test_a_status_other_than_0_is_an_error_that_says_what_the_command_said(remote: Remote) -> None:
    with pytest.raises(RemoteCommandFailed, match=r"sh ended with status 3.*no such luck"):
        remote.run(["sh", "-c", "echo no such luck >&2; exit 3"])


def test_success_is_the_status_and_not_silence(remote: Remote) -> None:
    assert remote.run(["sh", "-c", "echo warning >&2"]).error_text == "warning\n"


def test_words_arrive_as_they_are(remote: Remote) -> None:
    result = remote.run(["printf", "%s|", *NASTY])
    assert result.text == "".join(f"{word}|" for word in NASTY)


def test_words_need_not_be_utf8(remote: Remote) -> None:
    word = b"caf\xe9\xff"
    assert remote.run(["printf", "%s", os.fsdecode(word)]).stdout == word


def test_variables_are_set(remote: Remote) -> None:
    values = {"A_B": "x y", "NASTY": "it's\n$HOME\\!"}
    result = remote.run(["sh", "-c", 'printf "%s|%s" "$A_B" "$NASTY"'], env=values)
    assert result.text == "x y|it's\n$HOME\\!"


def test_commands_start_in_the_home_folder_or_where_told(remote: Remote, case: Case) -> None:
    folder = case.home / "a 'folder'\nof mine"
    folder.mkdir()
    assert remote.run(["pwd"]).text == f"{case.home}\n"
    assert remote.run(["pwd"], cwd=str(folder)).text == f"{folder}\n"


def test_stdin_is_passed_on_byte_by_byte_and_ends(remote: Remote) -> None:
    data = bytes(range(256)) * 5000
    assert remote.run(["cat"], stdin=data).stdout == data
    assert remote.run(["cat"]).stdout == b""


def test_big_input_and_output_do_not_wait_for_each_other(remote: Remote) -> None:
    data = os.urandom(1 << 20) * 8
    result = remote.run(["sh", "-c", "head -c 3000000 /dev/zero >&2; cat"], stdin=data)
    assert result.stdout == data
    assert result.stderr == bytes(3_000_000)


def test_a_command_may_leave_its_input_unread(remote: Remote) -> None:
    assert remote.run(["true"], stdin=bytes(4 << 20)).ok


def test_output_is_handed_on_as_it_comes(remote: Remote) -> None:
    out: list[bytes] = []
    err: list[bytes] = []
    script = "echo one; echo two >&2; echo three"
    result = remote.run(["sh", "-c", script], on_stdout=out.append, on_stderr=err.append)
    assert b"".join(out) == result.stdout == b"one\nthree\n"
    assert b"".join(err) == result.stderr == b"two\n"


def test_a_signal_shows_as_128_plus_its_number(remote: Remote) -> None:
    assert remote.run(["sh", "-c", "kill -9 $$"], check=False).code == 137
    assert remote.run(["sh", "-c", "kill -TERM $$"], check=False).code == 143


def test_a_missing_command_is_status_127(remote: Remote) -> None:
    assert remote.run(["no-such-command-here"], check=False).code == 127


def test_a_command_that_takes_too_long_is_ended(remote: Remote, case: Case) -> None:
    alive = case.home / "pid"
    with pytest.raises(TimeoutError):
        remote.run(["sh", "-c", f"echo $$ > '{alive}'; exec sleep 60"], timeout_s=0.5)
    _until(lambda: not _runs(int(alive.read_text())))


def test_many_commands_run_at_once(remote: Remote) -> None:
    def work(number: int) -> bool:
        return remote.run(["sh", "-c", f"sleep 0.02; echo {number}"]).text == f"{number}\n"

    with ThreadPoolExecutor(30) as pool:
        assert all(pool.map(work, range(60)))


# Root.


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="this user is not root")
def test_root_needs_no_sudo(remote: Remote) -> None:
    assert remote.sudo(["id", "-u"], stdin=b"unread").text == "0\n"
    process = remote.start(["cat"], sudo=True)
    assert _talk(process, b"hello") == b"hello"
    process.close()


# Commands that are talked to.


def test_a_process_is_talked_to(remote: Remote) -> None:
    process = remote.start(["sh", "-c", 'read a; echo "got $a"; cat; echo bye >&2; exit 5'])
    process.sendall(b"one\n")
    assert _exactly(process, 8) == b"got one\n"
    assert _talk(process, b"rest") == b"rest"
    assert process.recv_stderr(100) == b"bye\n"
    assert process.wait(10) == 5
    process.close()


def test_waiting_for_a_process_can_be_given_up(remote: Remote) -> None:
    process = remote.start(["cat"])
    with pytest.raises(TimeoutError):
        process.wait(0.05)
    process.shutdown_write()
    assert process.wait(10) == 0
    process.close()


def test_closing_a_process_frees_who_reads_it(remote: Remote) -> None:
    process = remote.start(["cat"])
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(process.recv(10)))
    reader.start()
    process.close()
    process.close()
    reader.join(5)
    assert got == [b""]


def test_a_terminal_has_a_size_that_can_change(remote: Remote) -> None:
    script = "tty >/dev/null && stty -echo && echo ready $TERM && stty size && read x && stty size"
    process = remote.start(["sh", "-c", script], pty=Pty("xterm-256color", 90, 30))
    shown = _lines(process, 2)
    assert shown == ["ready xterm-256color", "30 90"]
    process.resize(120, 40)
    process.sendall(b"\n")
    assert _lines(process, 1) == ["40 120"]
    assert process.wait(10) == 0
    process.close()


def test_a_terminal_passes_ctrl_c_on(remote: Remote) -> None:
    process = remote.start(
        ["sh", "-c", "trap 'echo caught; exit 7' INT; echo ready; sleep 20 & wait"],
        pty=Pty("xterm", 80, 24),
    )
    assert _lines(process, 1) == ["ready"]
    process.sendall(b"\x03")
    assert process.wait(10) == 7
    process.close()


# Forwarded connections.


def test_a_port_on_the_host_is_reached(remote: Remote) -> None:
    with EchoServer(socket.create_server(("127.0.0.1", 0))) as server:
        stream = remote.dial("127.0.0.1", server.getsockname()[1])
        assert _talk(stream, b"hello") == b"hello"
        stream.close()


def test_a_unix_socket_on_the_host_is_reached(remote: Remote, case: Case) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(case.home / "s"))
        server.listen()
        with EchoServer(server):
            stream = remote.dial_unix(str(case.home / "s"))
            assert _talk(stream, b"hello") == b"hello"
            stream.close()


def test_each_half_of_a_connection_ends_by_itself(remote: Remote) -> None:
    """The answer comes after our end-of-file, and is whole: 4 MB, both ways at once."""
    data = os.urandom(1 << 20) * 4
    with EchoServer(socket.create_server(("127.0.0.1", 0))) as server:
        stream = remote.dial("127.0.0.1", server.getsockname()[1])
        sender = threading.Thread(target=lambda: (stream.sendall(data), stream.shutdown_write()))
        sender.start()
        assert _to_end(stream) == data
        sender.join()
        stream.close()


def test_a_refused_connection_is_an_error(remote: Remote, case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TunnelError, match=str(port)):
        remote.dial("127.0.0.1", port)
    with pytest.raises(TunnelError):
        remote.dial_unix(str(case.home / "no such socket"))


def test_many_connections_at_once(remote: Remote) -> None:
    with EchoServer(socket.create_server(("127.0.0.1", 0), backlog=100)) as server:

        def work(number: int) -> bool:
            stream = remote.dial("127.0.0.1", server.getsockname()[1])
            data = bytes([number]) * 100_000
            try:
                return _talk(stream, data) == data
            finally:
                stream.close()

        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(work, range(100)))


# Files.


def test_a_file_is_put_with_its_mode_and_folders(remote: Remote, case: Case) -> None:
    data = os.urandom(100_000)
    remote.put(data, "new/folder/a file", mode=0o640)
    written = case.home / "new/folder/a file"
    assert written.read_bytes() == data
    assert stat.S_IMODE(written.stat().st_mode) == 0o640
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in written.parent.iterdir()] == ["a file"]


def test_a_file_is_replaced_whole(remote: Remote, case: Case) -> None:
    target = case.home / "target"
    remote.put(b"old", str(target))
    with target.open("rb") as before:
        remote.put(b"new", str(target))
        assert before.read() == b"old"
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


# The link.


def test_a_link_is_pinged_until_it_is_closed(case: Case) -> None:
    remote = case.another()
    assert remote.alive
    assert 0 <= remote.ping(5) < 5
    process = remote.start(["sleep", "60"])
    remote.close()
    remote.close()
    assert not remote.alive
    for use in (
        lambda: remote.run(["true"]),
        lambda: remote.ping(1),
        lambda: remote.dial("::1", 1),
    ):
        with pytest.raises(LinkLost):
            use()
    process.close()


def test_closing_leaves_no_thread_and_no_descriptor(case: Case) -> None:
    def use() -> None:
        remote = case.another()
        remote.run(["true"])
        process = remote.start(["cat"])
        process.sendall(b"x")
        remote.close()
        process.close()

    use()
    threads, descriptors = threading.active_count(), _descriptors()
    for _ in range(3):
        use()
    _until(lambda: threading.active_count() <= threads and _descriptors() <= descriptors)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"


def _until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


def _talk(stream: Stream, data: bytes) -> bytes:
    stream.sendall(data)
    stream.shutdown_write()
    return _to_end(stream)


def _to_end(stream: Stream) -> bytes:
    return b"".join(iter(lambda: stream.recv(1 << 16), b""))


def _exactly(stream: Stream, size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += stream.recv(size - len(got)) or pytest.fail(f"ended after {got!r}")
    return got


def _lines(stream: Stream, count: int) -> list[str]:
    got = b""
    while got.count(b"\n") < count:
        got += stream.recv(1) or pytest.fail(f"ended after {got!r}")
    return got.decode().replace("\r", "").splitlines()


class EchoServer:
    """Sends back what comes, connection by connection."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> socket.socket:
        self._thread.start()
        return self._server

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(end,), daemon=True).start()

    def _echo(self, end: socket.socket) -> None:
        with end:
            while data := end.recv(1 << 16):
                end.sendall(data)
