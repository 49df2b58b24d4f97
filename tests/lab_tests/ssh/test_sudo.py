"""Becoming root, on a real host with real sudo. Who is who: tests/lab/users.py."""

from __future__ import annotations

import threading

import pytest

from remotedl.config.models import SudoMode
from remotedl.errors import RemoteCommandFailed, SudoRefused
from remotedl.ssh.connection import Connection
from remotedl.ssh.remote import Pty
from tests.lab.host import Host
from tests.lab_tests.ssh.door import Person, open_door

pytestmark = pytest.mark.lab


def log_in(
    host: Host, user: str, person: Person | None = None, sudo: SudoMode = SudoMode.AUTO
) -> Connection:
    login = host.login_as(user)
    return open_door(login.host_config(sudo=sudo), person, known_hosts=login.known_hosts)


def test_without_a_password_nobody_is_asked(bookworm_host: Host) -> None:
    person = Person()
    remote = log_in(bookworm_host, "ada", person)
    assert remote.sudo(["id", "-u"]).text == "0\n"
    assert remote.sudo(["cat"], stdin=b"not a password\n").text == "not a password\n"
    assert person.questions == []
    remote.close()


def test_a_password_is_asked_for_once_and_is_nobodys_input(engine_host: Host) -> None:
    """On both releases: the newer sudo runs commands on a terminal of its own (use_pty)."""
    person = Person(["bobbob"])
    remote = log_in(engine_host, "bob", person)
    for data in (b"data\n", b"", bytes(range(256)) * 8000):
        assert remote.sudo(["cat"], stdin=data).stdout == data
    assert person.questions == [f"sudo password of bob on {engine_host.address}: "]
    remote.close()


def test_words_folder_and_variables_arrive_under_sudo(bookworm_host: Host) -> None:
    remote = log_in(bookworm_host, "bob", Person(["bobbob"]))
    result = remote.sudo(
        ["sh", "-c", 'pwd; echo "$A"; echo "$1"; exit 4', "sh", "it's\n!"],
        env={"A": "x\ny"}, cwd="/usr", check=False,
    )  # fmt: skip
    assert (result.text, result.code) == ("/usr\nx\ny\nit's\n!\n", 4)
    with pytest.raises(RemoteCommandFailed, match="status 4"):
        remote.sudo(["sh", "-c", "exit 4"])
    remote.close()


def test_a_wrong_password_is_asked_for_again(bookworm_host: Host) -> None:
    person = Person(["wrong", "wronger", "bobbob"])
    remote = log_in(bookworm_host, "bob", person)
    assert remote.sudo(["id", "-u"]).text == "0\n"
    assert len(person.questions) == 3
    assert remote.sudo(["id", "-u"]).text == "0\n"
    assert len(person.questions) == 3
    remote.close()


def test_after_three_wrong_passwords_it_is_over_and_can_be_tried_anew(bookworm_host: Host) -> None:
    person = Person(["1", "2", "3", "bobbob"])
    remote = log_in(bookworm_host, "bob", person)
    with pytest.raises(SudoRefused, match="3 incorrect password attempts"):
        remote.sudo(["id", "-u"])
    assert remote.sudo(["id", "-u"]).text == "0\n"
    remote.close()


def test_a_password_that_nobody_types(bookworm_host: Host) -> None:
    remote = log_in(bookworm_host, "bob")
    with pytest.raises(SudoRefused, match="nobody typed it"):
        remote.sudo(["id", "-u"])
    assert remote.run(["id", "-un"]).text == "bob\n"
    remote.close()


def test_a_user_without_sudo(bookworm_host: Host) -> None:
    remote = log_in(bookworm_host, "cyd", Person(["cydcyd"]))
    with pytest.raises(SudoRefused, match="cyd is not in the sudoers file") as caught:
        remote.sudo(["id", "-u"])
    assert "native" in caught.value.hint
    remote.close()


def test_sudo_that_the_configuration_forbids_is_not_called(bookworm_host: Host) -> None:
    remote = log_in(bookworm_host, "ada", sudo=SudoMode.NONE)
    with pytest.raises(SudoRefused, match='sudo = "none"'):
        remote.sudo(["id", "-u"])
    remote.close()


def test_a_password_asked_for_at_once(bookworm_host: Host) -> None:
    person = Person(["adaada"])
    remote = log_in(bookworm_host, "ada", person, SudoMode.PASSWORD)
    assert remote.sudo(["cat"], stdin=b"data").text == "data"
    assert len(person.questions) == 1
    remote.close()


def test_the_password_is_in_no_process_list(bookworm_host: Host) -> None:
    remote = log_in(bookworm_host, "bob", Person(["bobbob"]))
    process = remote.start(["cat"], sudo=True)
    assert "bobbob" not in bookworm_host.sh(
        "ps -eww -o args; cat /proc/[0-9]*/environ | tr '\\0' '\\n'"
    )
    process.close()
    remote.close()


def test_a_process_under_sudo_is_talked_to(bookworm_host: Host) -> None:
    remote = log_in(bookworm_host, "bob", Person(["bobbob"]))
    process = remote.start(["sh", "-c", "id -u; cat"], sudo=True)
    process.sendall(b"hello")
    process.shutdown_write()
    assert b"".join(iter(lambda: process.recv(100), b"")) == b"0\nhello"
    assert process.wait(10) == 0
    process.close()
    remote.close()


def test_a_terminal_under_sudo(bookworm_host: Host) -> None:
    remote = log_in(bookworm_host, "bob", Person(["bobbob"]))
    process = remote.start(["sh", "-c", "tty -s && id -u"], sudo=True, pty=Pty("xterm", 80, 24))
    shown = b"".join(iter(lambda: process.recv(100), b""))
    assert shown.split() == [b"0"]
    assert process.wait(10) == 0
    process.close()
    remote.close()


def test_a_process_under_sudo_that_takes_too_long_is_ended(bookworm_host: Host) -> None:
    remote = log_in(bookworm_host, "bob", Person(["bobbob"]))
    with pytest.raises(TimeoutError):
        remote.sudo(["sleep", "4711"], timeout_s=0.5)
    assert bookworm_host.exec(["pgrep", "-fx", "sleep 4711"], check=False).returncode == 1
    remote.close()


def test_two_threads_are_asked_once(bookworm_host: Host) -> None:
    person = Person(["bobbob"])
    remote = log_in(bookworm_host, "bob", person)
    remote.run(["true"])
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(remote.sudo(["id", "-u"]).text))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["0\n"] * 4
    assert len(person.questions) == 1
    remote.close()


@pytest.mark.parametrize("user", ["fay", "tia", "eve", "nox"])
def test_odd_users_too(bookworm_host: Host, user: str) -> None:
    remote = log_in(bookworm_host, user)
    assert remote.sudo(["printf", "%s", "it's\n!\\"]).text == "it's\n!\\"
    remote.close()
