"""Whose key is accepted, who is asked, and what is remembered. Over real OpenSSH."""

from __future__ import annotations

import shlex
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from remotedl.config.models import HostConfig
from remotedl.errors import HostKeyChanged, HostKeyUnknown, HostUnreachable
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.ssh.door import Person, open_door


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return tmp_path / "ssh" / "known_hosts"


def test_an_unknown_key_is_shown_and_refused_when_nobody_says_yes(sshd: Sshd, empty: Path) -> None:
    person = Person()
    with pytest.raises(HostKeyUnknown, match=sshd.fingerprint.replace("+", r"\+")) as caught:
        open_door(sshd.login, person, known_hosts=empty)
    assert sshd.fingerprint in person.questions[0]
    assert "--accept-new" in caught.value.hint
    assert not empty.exists()


def test_an_unknown_key_is_asked_about_once_and_remembered(sshd: Sshd, empty: Path) -> None:
    person = Person(yes=True)
    open_door(sshd.login, person, known_hosts=empty).close()
    assert len(person.questions) == 1
    assert empty.stat().st_mode & 0o777 == 0o600
    assert empty.parent.stat().st_mode & 0o777 == 0o700
    nobody = Person()
    open_door(sshd.login, nobody, known_hosts=empty).close()
    assert nobody.questions == []
    assert _openssh_agrees(sshd, empty)


def test_a_script_accepts_new_keys_without_a_question(sshd: Sshd, empty: Path) -> None:
    person = Person()
    open_door(sshd.login, person, known_hosts=empty, accept_new=True).close()
    assert person.questions == []
    assert _openssh_agrees(sshd, empty)


def test_a_line_is_added_to_a_file_that_lacks_its_last_newline(sshd: Sshd, empty: Path) -> None:
    empty.parent.mkdir()
    empty.write_text("other ssh-ed25519 AAAA")
    open_door(sshd.login, known_hosts=empty, accept_new=True).close()
    assert empty.read_text().splitlines()[0] == "other ssh-ed25519 AAAA"
    assert _openssh_agrees(sshd, empty)


def test_a_known_hosts_that_is_a_link_stays_one(sshd: Sshd, empty: Path, tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles"
    dotfiles.write_text("")
    empty.parent.mkdir()
    empty.symlink_to(dotfiles)
    open_door(sshd.login, known_hosts=empty, accept_new=True).close()
    assert empty.is_symlink()
    assert "ssh-ed25519" in dotfiles.read_text()


def test_a_changed_key_stops_and_the_remedy_works(make_sshd: MakeSshd, tmp_path: Path) -> None:
    server = make_sshd()
    known = tmp_path / "known_hosts"
    known.write_text(server.known_hosts.read_text())
    server.new_host_key()
    person = Person(yes=True)
    with pytest.raises(HostKeyChanged, match="line 1") as caught:
        open_door(server.login, person, known_hosts=known, accept_new=True)
    assert person.questions == []
    remedy = caught.value.hint.partition("then: ")[2]
    subprocess.run(shlex.split(remedy), check=True, capture_output=True)
    open_door(server.login, known_hosts=known, accept_new=True).close()


def test_a_revoked_key_stops(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    line = sshd.known_hosts.read_text()
    known.write_text(line + "@revoked " + line)
    with pytest.raises(HostKeyChanged, match="revoked"):
        open_door(sshd.login, Person(yes=True), known_hosts=known, accept_new=True)


def test_hashed_names_are_found(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(sshd.known_hosts.read_text())
    subprocess.run(["ssh-keygen", "-H", "-f", known], check=True, capture_output=True)
    assert sshd.address not in known.read_text()
    open_door(sshd.login, known_hosts=known).close()


def test_hashed_names_are_written_where_the_user_wants_them(sshd: Sshd, tmp_path: Path) -> None:
    known, config = tmp_path / "known_hosts", tmp_path / "config"
    config.write_text("HashKnownHosts yes\n")
    open_door(sshd.login, known_hosts=known, ssh_config=config, accept_new=True).close()
    assert known.read_text().startswith("|1|")
    assert _openssh_agrees(sshd, known)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_the_type_of_key_that_we_know_is_asked_for(
    make_sshd: MakeSshd, tmp_path: Path, kind: str
) -> None:
    """A host with three keys of which we know one: it must show that one."""
    keys = {}
    for name in ("rsa", "ecdsa", "ed25519"):
        path = tmp_path / name
        size = ["-b", "2048"] if name == "rsa" else []
        argv = ["ssh-keygen", "-q", "-t", name, *size, "-N", "", "-f", str(path)]
        subprocess.run(argv, check=True)
        keys[name] = path
    server = make_sshd(config=[f"HostKey {path}" for path in keys.values()])
    known = tmp_path / "known_hosts"
    public = keys[kind].with_suffix(".pub").read_text()
    known.write_text(f"{server.login.known_name} {public}")
    open_door(server.login, known_hosts=known).close()


def test_each_hop_is_checked(make_sshd: MakeSshd, tmp_path: Path) -> None:
    gate, box = make_sshd(), make_sshd()
    config = tmp_path / "config"
    config.write_text(gate.login.ssh_config("gate").replace("UserKnown", "# UserKnown"))
    host = box.login.host_config(jump="gate")
    known = tmp_path / "known_hosts"

    known.write_text(box.known_hosts.read_text())
    with pytest.raises(HostKeyUnknown, match=str(gate.port)):
        open_door(host, known_hosts=known, ssh_config=config)

    known.write_text(gate.known_hosts.read_text())
    with pytest.raises(HostKeyUnknown, match=str(box.port)):
        open_door(host, known_hosts=known, ssh_config=config)

    known.write_text(gate.known_hosts.read_text() + box.known_hosts.read_text())
    remote = open_door(host, known_hosts=known, ssh_config=config)
    assert remote.run(["pwd"]).text.strip() == str(box.home)
    remote.close()
    _no_connection_is_left(gate, box)


def test_a_server_that_is_no_ssh_server_is_named(tmp_path: Path) -> None:

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            end, _ = server.accept()
            with end:
                end.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        host = HostConfig(address="127.0.0.1", port=port)
        with pytest.raises(HostUnreachable, match="not as an SSH server"):
            open_door(host, known_hosts=tmp_path / "known_hosts")
        thread.join()


def _openssh_agrees(sshd: Sshd, known_hosts: Path) -> bool:
    """Whether ssh itself finds the host's key in what we wrote."""
    argv = sshd.login.ssh_argv("true")
    argv[argv.index(f"UserKnownHostsFile={sshd.known_hosts}")] = f"UserKnownHostsFile={known_hosts}"
    return subprocess.run(argv, capture_output=True).returncode == 0


def _no_connection_is_left(*servers: Sshd) -> None:

    deadline = time.monotonic() + 10
    while any(server.connections() for server in servers):
        assert time.monotonic() < deadline
        time.sleep(0.02)
