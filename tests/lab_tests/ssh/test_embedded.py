"""The embedded host beyond what every Remote promises (tests/contract): who gets in, what stays."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from remotedl.config.models import SudoMode
from remotedl.errors import AuthFailed, HostKeyUnknown, SudoRefused
from remotedl.ssh.embedded import EmbeddedHost, EmbeddedLogin
from remotedl.ssh.remote import Pty
from tests.lab_tests.ssh.door import open_door

# Once as root, so that all is imported: this Python may be in a folder that only root can enter.
ROOT_THEN_NOBODY = """\
import os, tempfile
from pathlib import Path
from remotedl.ssh import connect
from remotedl.ssh.embedded import EmbeddedHost
from remotedl.ssh.prompt import NOBODY

def visit():
    home = Path(tempfile.mkdtemp())
    os.environ["HOME"] = str(home)
    with EmbeddedHost(home) as login:
        known, config = login.known_hosts, Path(os.devnull)
        with connect(login.host, prompt=NOBODY, known_hosts=known, ssh_config=config) as remote:
            print(remote.user, remote.run(["id", "-u"]).text.strip(), flush=True)
    home.rmdir()

visit()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
visit()
"""


@pytest.fixture
def login(tmp_path: Path) -> Iterator[EmbeddedLogin]:
    host = EmbeddedHost(tmp_path / "home")
    yield host.start()
    host.stop()


def test_it_listens_on_loopback_alone(login: EmbeddedLogin) -> None:
    assert login.host.port is not None
    listening = [
        one.laddr
        for one in psutil.Process().net_connections("inet")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == login.host.port
    ]
    assert [address.ip for address in listening] == ["127.0.0.1"]


def test_its_keys_are_for_their_owner_alone(login: EmbeddedLogin) -> None:
    assert stat.S_IMODE(login.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(login.key.parent.stat().st_mode) == 0o700


def test_no_other_key_gets_in(login: EmbeddedLogin, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    host = login.host.model_copy(update={"identity_file": str(other)})
    with pytest.raises(AuthFailed):
        open_door(host, known_hosts=login.known_hosts)


def test_no_other_user_gets_in(login: EmbeddedLogin) -> None:
    with pytest.raises(AuthFailed):
        open_door(login.host.model_copy(update={"user": "someone"}), known_hosts=login.known_hosts)


def test_its_key_is_fresh_and_checked(login: EmbeddedLogin, tmp_path: Path) -> None:
    with pytest.raises(HostKeyUnknown):
        open_door(login.host, known_hosts=tmp_path / "known_hosts")


def test_openssh_gets_in_too(login: EmbeddedLogin) -> None:
    """It speaks real SSH: commands, their status, a forwarded port."""
    argv = [
        "ssh", "-F", "none", "-o", "BatchMode=yes", "-i", str(login.key),
        "-o", f"UserKnownHostsFile={login.known_hosts}", "-p", str(login.host.port),
        f"{login.host.user}@127.0.0.1",
    ]  # fmt: skip
    done = subprocess.run([*argv, "cat; exit 3"], input=b"hello", capture_output=True)
    assert (done.returncode, done.stdout) == (3, b"hello")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        forward = subprocess.Popen(
            [*argv, "-W", f"127.0.0.1:{port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        end, _ = server.accept()
        with end:
            end.sendall(b"through")
        assert forward.communicate(timeout=10)[0] == b"through"


def test_it_has_no_sudo(login: EmbeddedLogin) -> None:
    assert login.host.sudo is SudoMode.NONE
    if os.geteuid() != 0:
        remote = open_door(login.host, known_hosts=login.known_hosts)
        with remote, pytest.raises(SudoRefused):
            remote.sudo(["true"])


def test_stopping_it_ends_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    threads = threading.active_count()
    host = EmbeddedHost(tmp_path / "home")
    login = host.start()
    remote = open_door(login.host, known_hosts=login.known_hosts)
    plain = remote.start(["sh", "-c", "echo $$; sleep 60; true"])
    terminal = remote.start(["sh", "-c", "echo $$; sleep 60; true"], pty=Pty("xterm", 80, 24))
    pids = [int(process.recv(100)) for process in (plain, terminal)]
    host.stop()
    host.stop()
    assert not login.key.parent.exists()
    for pid in pids:
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)
        assert not psutil.pid_exists(pid)
    remote.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > threads:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", login.host.port or 0))


def test_a_command_may_leave_a_child_behind(login: EmbeddedLogin) -> None:
    """As a job does that must outlive the connection; its parent's status comes at once."""
    with open_door(login.host, known_hosts=login.known_hosts) as remote:
        script = "setsid sleep 30 >/dev/null 2>&1 </dev/null & echo $!"
        pid = int(remote.run(["sh", "-c", script]).text)
    assert psutil.pid_exists(pid)
    psutil.Process(pid).kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become someone else")
def test_an_ordinary_user_can_have_one() -> None:
    done = subprocess.run([sys.executable, "-c", ROOT_THEN_NOBODY], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["root 0", "nobody 65534"], done.stderr
