"""Logging in: keys, agent, passphrases, passwords, questions; and what a refusal says."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization

from remotedl.config.models import HostConfig
from remotedl.errors import AuthFailed
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.ssh.door import Person, open_door


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A laptop's home with nothing in it, and no agent."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture
def agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running ssh-agent without keys."""
    path = f"/tmp/remotedl-agent-{os.getpid()}"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while (
        subprocess.run(
            ["ssh-add", "-l"], env={"SSH_AUTH_SOCK": path}, capture_output=True
        ).returncode
        == 2
    ):
        assert process.poll() is None
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    yield path
    process.terminate()
    process.wait()


def locked(sshd: Sshd, folder: Path, *, public: bool = True) -> Path:
    """The login's key with the passphrase "open sesame"."""
    path = folder / "locked"
    path.write_bytes(sshd.key.read_bytes())
    path.chmod(0o600)
    argv = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    if public:
        Path(f"{path}.pub").write_bytes(Path(f"{sshd.key}.pub").read_bytes())
    return path


def without_key(sshd: Sshd) -> HostConfig:
    return HostConfig(address=sshd.address, port=sshd.port, user=sshd.user)


def test_a_key_in_the_usual_place_is_found(sshd: Sshd, home: Path) -> None:
    (home / ".ssh" / "id_ed25519").write_bytes(sshd.key.read_bytes())
    open_door(without_key(sshd), known_hosts=sshd.known_hosts).close()


def test_an_agents_key_is_used(sshd: Sshd, home: Path, agent: str) -> None:
    subprocess.run(["ssh-add", "-q", str(sshd.key)], check=True)
    open_door(without_key(sshd), known_hosts=sshd.known_hosts).close()


def test_an_agent_named_by_the_configuration_is_used(
    sshd: Sshd, home: Path, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["ssh-add", "-q", str(sshd.key)], check=True)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    config = home / "config"
    config.write_text(f"IdentityAgent {agent}\n")
    open_door(without_key(sshd), known_hosts=sshd.known_hosts, ssh_config=config).close()
    config.write_text("IdentityAgent none\n")
    with pytest.raises(AuthFailed):
        open_door(without_key(sshd), known_hosts=sshd.known_hosts, ssh_config=config)


def test_the_named_key_is_tried_before_a_full_agents_others(
    sshd: Sshd, home: Path, agent: str
) -> None:
    """sshd gives up after six; the agent holds eight, none of them the one."""
    for number in range(8):
        path = home / f"key{number}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        subprocess.run(["ssh-add", "-q", str(path)], check=True)
    open_door(sshd.login).close()
    with pytest.raises(AuthFailed) as caught:
        open_door(without_key(sshd), known_hosts=sshd.known_hosts)
    assert "identity_file" in caught.value.hint


def test_a_passphrase_is_asked_for(sshd: Sshd, home: Path) -> None:
    person = Person(["open sesame"])
    host = sshd.login.host_config(identity_file=str(locked(sshd, home)))
    open_door(host, person, known_hosts=sshd.known_hosts).close()
    assert person.questions == ["Passphrase of ~/locked: "]


def test_a_wrong_passphrase_is_asked_for_again(sshd: Sshd, home: Path) -> None:
    person = Person(["nonsense", "open sesame"])
    host = sshd.login.host_config(identity_file=str(locked(sshd, home, public=False)))
    open_door(host, person, known_hosts=sshd.known_hosts).close()
    assert len(person.questions) == 2


def test_a_locked_key_in_the_agent_needs_no_passphrase(sshd: Sshd, home: Path, agent: str) -> None:
    subprocess.run(["ssh-add", "-q", str(sshd.key)], check=True)
    person = Person()
    host = sshd.login.host_config(identity_file=str(locked(sshd, home)))
    open_door(host, person, known_hosts=sshd.known_hosts).close()
    assert person.questions == []


def test_a_refusal_says_what_was_tried_and_what_is_accepted(sshd: Sshd, home: Path) -> None:
    locked(sshd, home)
    other = home / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    config = home / "config"
    config.write_text(f"IdentityFile {home / 'locked'}\n")
    host = sshd.login.host_config(identity_file=str(other))
    with pytest.raises(AuthFailed) as caught:
        open_door(host, known_hosts=sshd.known_hosts, ssh_config=config)
    said = caught.value.message
    assert "key ~/other" in said
    assert "key ~/locked (has a passphrase that nobody typed)" in said
    assert "it accepts publickey" in said
    assert caught.value.hint.startswith("ssh-copy-id")


def test_a_wrong_user_is_refused(sshd: Sshd, home: Path) -> None:
    with pytest.raises(AuthFailed, match="nobody-here@"):
        open_door(sshd.login.host_config(user="nobody-here"), known_hosts=sshd.known_hosts)


def test_a_key_file_that_is_none_is_named(sshd: Sshd, home: Path) -> None:
    (home / "junk").write_text("this is no key\n")
    host = sshd.login.host_config(identity_file=str(home / "junk"))
    with pytest.raises(AuthFailed, match=r"key ~/junk \(unreadable"):
        open_door(host, known_hosts=sshd.known_hosts)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
@pytest.mark.parametrize("phrase", ["", "open sesame"])
@pytest.mark.parametrize("form", ["PKCS8", "PEM", "bag"])
def test_every_form_of_key_file_opens_the_door(
    make_sshd: MakeSshd, home: Path, kind: str, phrase: str, form: str
) -> None:
    """PKCS#8 and PEM, as ssh-keygen and openssl write them, with and without a passphrase."""
    if kind == "ed25519" and form == "PEM":
        pytest.skip("PEM knows no Ed25519")
    server = make_sshd()
    key = home / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
    Path(f"{server.key}.pub").write_bytes(Path(f"{key}.pub").read_bytes())
    if kind == "ed25519":  # ssh-keygen does not write these as PKCS#8
        _write_pkcs8(key, phrase)
    else:
        argv = ["ssh-keygen", "-q", "-p", "-N", phrase, "-f", key]
        subprocess.run([*argv, "-m", "PEM" if form == "PEM" else "PKCS8"], check=True)
    if form == "bag":
        attributes = "Bag Attributes\n    friendlyName: mine\nKey Attributes: <No Attributes>\n"
        key.write_text(attributes + key.read_text())
    person = Person([phrase] if phrase else [])
    host = server.login.host_config(identity_file=str(key))
    open_door(host, person, known_hosts=server.known_hosts).close()
    assert len(person.questions) == bool(phrase)


def _write_pkcs8(key: Path, phrase: str) -> None:
    loaded = serialization.load_ssh_private_key(key.read_bytes(), None)
    sealing = (
        serialization.BestAvailableEncryption(phrase.encode())
        if phrase
        else serialization.NoEncryption()
    )
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, form, sealing))


def test_a_refused_login_leaves_no_connection(make_sshd: MakeSshd, home: Path) -> None:
    server = make_sshd()
    threads = threading.active_count()
    for _ in range(3):
        with pytest.raises(AuthFailed):
            open_door(server.login.host_config(user="nobody-here"), known_hosts=server.known_hosts)
    assert threading.active_count() <= threads


# What OpenSSH here cannot be made to ask without PAM and real users: a server that asks.


class AskingServer(paramiko.ServerInterface):
    """Wants a password, or answers to questions, or a key and then a password."""

    def __init__(self, *steps: str) -> None:
        self.steps = list(steps)
        self.seen: list[str] = []

    def get_allowed_auths(self, username: str) -> str:
        return self.steps[0]

    def _step(self, right: bool) -> int:
        if not right:
            return int(paramiko.common.AUTH_FAILED)
        self.steps.pop(0)
        done = not self.steps
        return int(
            paramiko.common.AUTH_SUCCESSFUL if done else paramiko.common.AUTH_PARTIALLY_SUCCESSFUL
        )

    def check_auth_password(self, username: str, password: str) -> int:
        self.seen.append(f"password {password}")
        return self._step(self.steps[0] == "password" and password == "right")

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._step(self.steps[0] == "publickey")

    def check_auth_interactive(self, username: str, submethods: str) -> object:
        return paramiko.server.InteractiveQuery("", "", ("Password: ", False), ("Code: ", True))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        self.seen.append(f"answers {responses}")
        return self._step(list(responses) == ["right", "123456"])


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[object]:
    """`asking(*steps)`: a server on loopback for one login; the host to connect to."""
    key = paramiko.ECDSAKey.generate()
    listeners, transports = [], []

    def make(server: AskingServer) -> HostConfig:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            transport = paramiko.Transport(listener.accept()[0])
            transports.append(transport)
            transport.add_server_key(key)
            transport.start_server(event=threading.Event(), server=server)

        threading.Thread(target=serve, daemon=True).start()
        return HostConfig(address="127.0.0.1", port=listener.getsockname()[1], user="ada")

    yield make
    for transport in transports:
        transport.close()
    for listener in listeners:
        listener.close()


def log_in(host: HostConfig, person: Person, home: Path) -> None:
    open_door(host, person, known_hosts=home / "known_hosts", accept_new=True).close()


def test_a_password_is_asked_for_up_to_three_times(asking: object, home: Path) -> None:
    server = AskingServer("password")
    person = Person(["wrong", "right"])
    log_in(asking(server), person, home)  # type: ignore[operator]
    assert server.seen == ["password wrong", "password right"]
    with pytest.raises(AuthFailed, match="password, password, password"):
        log_in(asking(AskingServer("password")), Person(["1", "2", "3", "right"]), home)  # type: ignore[operator]


def test_without_a_person_a_password_is_not_guessed(asking: object, home: Path) -> None:
    server = AskingServer("password")
    with pytest.raises(AuthFailed, match="nobody typed one"):
        log_in(asking(server), Person(), home)  # type: ignore[operator]
    assert server.seen == []


def test_questions_are_put_to_the_person(asking: object, home: Path) -> None:
    server = AskingServer("keyboard-interactive")
    person = Person(["right", "123456"])
    log_in(asking(server), person, home)  # type: ignore[operator]
    assert [question.split(": ", 1)[1] for question in person.questions] == ["Password: ", "Code: "]


def test_a_key_and_then_a_password(asking: object, sshd: Sshd, home: Path) -> None:
    server = AskingServer("publickey", "password")
    host: HostConfig = asking(server).model_copy(update={"identity_file": str(sshd.key)})  # type: ignore[operator]
    log_in(host, Person(["right"]), home)
    assert server.steps == []
