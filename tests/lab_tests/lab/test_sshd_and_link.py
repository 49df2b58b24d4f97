"""The lab's own sshd, bad link and LocalRemote do what their docstrings say."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remotedl.errors import LinkLost, RemoteCommandFailed, TunnelError
from remotedl.ssh.remote import Pty, Remote
from tests.lab.badlink import BadLink, MakeBadLink, login_over
from tests.lab.sshd import MakeSshd, Sshd
from tests.support.local_remote import LocalRemote


def ssh(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_login_lands_in_a_home_of_its_own(sshd: Sshd) -> None:
    assert ssh(sshd.login.ssh_argv("pwd; echo $HOME")) == f"{sshd.home}\n{sshd.home}\n"


def test_sftp_works_through_the_login_script(sshd: Sshd, tmp_path: Path) -> None:
    argv = [*sshd.login.ssh_argv()[1:-1]]
    argv[argv.index("-p")] = "-P"
    (tmp_path / "x").write_text("x")
    batch = f"put {tmp_path / 'x'} sent\n"
    subprocess.run(
        ["sftp", "-q", "-b", "-", *argv, f"{sshd.user}@{sshd.address}"],
        input=batch, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert (sshd.home / "sent").read_text() == "x"


@pytest.mark.parametrize(("shell", "version"), [("fish", "FISH_VERSION"), ("tcsh", "tcsh")])
def test_another_login_shell_runs_the_commands(
    make_sshd: MakeSshd, shell: str, version: str
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    server = make_sshd(shell=program)
    home, number = ssh(server.login.ssh_argv(f"echo ~; echo ${version}")).split()
    assert Path(home) == server.home
    assert number[0].isdigit()


def test_noise_comes_before_the_output(make_sshd: MakeSshd) -> None:
    server = make_sshd(noise="Welcome to the cluster!\n")
    assert ssh(server.login.ssh_argv("echo done")) == "Welcome to the cluster!\ndone\n"


def test_config_lines_are_taken(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["AllowTcpForwarding no"])
    argv = server.login.ssh_argv()
    refused = subprocess.run(
        [*argv[:1], "-W", f"127.0.0.1:{server.port}", *argv[1:]],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert "prohibited" in refused.stderr


def test_kill_ends_every_connection_and_restart_takes_the_same_port(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    client = subprocess.Popen(server.login.ssh_argv("echo up; sleep 60"), stdout=subprocess.PIPE)
    assert client.stdout is not None and client.stdout.readline() == b"up\n"
    assert server.connections() == 1
    server.kill()
    assert client.wait(10) == 255
    with pytest.raises(OSError):
        socket.create_connection((server.address, server.port), timeout=5)
    server.start()
    assert ssh(server.login.ssh_argv("echo back")) == "back\n"
    client.stdout.close()


def test_a_new_host_key_is_another_one(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    before = server.fingerprint
    server.new_host_key()
    assert server.fingerprint != before
    assert ssh(server.login.ssh_argv("echo known")) == "known\n"


@contextmanager
def echo_server() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo(end: socket.socket) -> None:
            try:
                while data := end.recv(65536):
                    end.sendall(data)
            except OSError:
                pass
            end.close()

        def serve() -> None:
            while True:
                try:
                    end, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=echo, args=(end,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def read_all(end: socket.socket) -> bytes:
    data = bytearray()
    while chunk := end.recv(65536):
        data += chunk
    return bytes(data)


def round_trip(link: BadLink, data: bytes) -> float:
    start = time.monotonic()
    with socket.create_connection((link.address, link.port), timeout=20) as end:

        def send() -> None:
            end.sendall(data)
            end.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        assert read_all(end) == data
    return time.monotonic() - start


def test_the_link_delays_each_way(bad_link: MakeBadLink) -> None:
    with echo_server() as target:
        link = bad_link(target, delay_s=0.1)
        assert 0.2 <= round_trip(link, b"x") < 1.0


def test_the_link_limits_bandwidth_and_loses_nothing(bad_link: MakeBadLink) -> None:
    data = bytes(range(256)) * 8192  # 2 MiB
    with echo_server() as target:
        link = bad_link(target, bandwidth=4 * 2**20)
        assert 0.5 <= round_trip(link, data) < 3.0
        assert (link.bytes_up, link.bytes_down) == (len(data), len(data))


def test_a_frozen_link_says_nothing_and_resumes_where_it_was(bad_link: MakeBadLink) -> None:
    with echo_server() as target:
        link = bad_link(target)
        with socket.create_connection((link.address, link.port), timeout=0.3) as end:
            end.sendall(b"1")
            assert end.recv(1) == b"1"
            link.freeze()
            end.sendall(b"2")
            with pytest.raises(TimeoutError):
                end.recv(1)
            link.resume()
            end.settimeout(5)
            assert end.recv(1) == b"2"


def test_a_cut_link_resets_and_refuses_until_it_is_resumed(bad_link: MakeBadLink) -> None:
    with echo_server() as target:
        link = bad_link(target)
        with socket.create_connection((link.address, link.port), timeout=5) as end:
            end.sendall(b"1")
            assert end.recv(1) == b"1"
            link.cut()
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((link.address, link.port), timeout=5)
        link.resume()
        round_trip(link, b"again")
        assert link.connections == 2


def test_ssh_goes_through_the_link(sshd: Sshd, bad_link: MakeBadLink) -> None:
    link = bad_link(sshd, delay_s=0.01)
    assert ssh(login_over(link, sshd).ssh_argv("echo through")) == "through\n"
    assert link.bytes_up > 0 and link.bytes_down > 0


def test_the_double_is_a_remote(tmp_path: Path) -> None:
    remote: Remote = LocalRemote(tmp_path)
    assert remote.run(["pwd"]).text.strip() == str(tmp_path)
    assert remote.run(["cat"], stdin=b"in").stdout == b"in"
    assert remote.run(["sh", "-c", "kill -9 $$"], check=False).code == 137
    assert remote.run(["no-such-command"], check=False).code == 127
    with pytest.raises(RemoteCommandFailed, match="status 3"):
        remote.run(["sh", "-c", "exit 3"])
    with pytest.raises(TimeoutError):
        remote.run(["sleep", "60"], timeout_s=0.1)
    remote.put(b"x", "deep/down/file", mode=0o640)
    assert (tmp_path / "deep/down/file").stat().st_mode & 0o777 == 0o640
    with pytest.raises(TunnelError):
        remote.dial_unix(str(tmp_path / "none"))
    remote.close()


def test_the_double_has_terminals_and_can_lose_its_link(tmp_path: Path) -> None:
    remote = LocalRemote(tmp_path)
    process = remote.start(["sh", "-c", "stty size; cat"], pty=Pty("xterm", 90, 30))
    assert process.recv(100).strip() == b"30 90"
    plain = remote.start(["cat"])
    plain.sendall(b"x")
    assert plain.recv(1) == b"x"
    remote.lose_link()
    with pytest.raises(LinkLost):
        plain.recv(1)
    with pytest.raises(LinkLost):
        remote.run(["true"])
    assert not remote.alive
