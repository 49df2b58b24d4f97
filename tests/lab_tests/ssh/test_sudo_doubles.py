"""What sudo does on hosts that the lab has none of: a double in its place, first on the PATH.

The double is no sudo: it asks as it is told to and then runs what stands behind `--`.
"""

from __future__ import annotations

import pytest

from remotedl.config.models import SudoMode
from remotedl.errors import SudoRefused
from remotedl.ssh.connection import Connection
from tests.lab.sshd import MakeSshd
from tests.lab_tests.ssh.door import Person, open_door

ASKS_FOR_A_CODE = """\
#!/bin/sh
printf 'Token code: ' >&2
read -r code
[ "$code" = 123456 ] || { echo 'sudo: wrong code' >&2; exit 1; }
while [ "$1" != -- ]; do shift; done
shift; exec "$@"
"""
SAYS_NOTHING = "#!/bin/sh\nexec sleep 60\n"
WANTS_A_TERMINAL = "#!/bin/sh\necho 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1\n"


def log_in(make_sshd: MakeSshd, sudo: str, person: Person | None = None) -> Connection:
    """On a host where we are not root (says `id`), and `sudo` is this script."""
    server = make_sshd()
    programs = server.home / "bin"
    programs.mkdir()
    for name, text in (("id", "#!/bin/sh\necho 1000\n"), ("sudo", sudo)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (server.home / ".bashrc").write_text(f"PATH={programs}:$PATH\n")
    host = server.login.host_config(sudo=SudoMode.AUTO)
    return open_door(host, person, known_hosts=server.known_hosts)


def test_a_question_in_other_words_is_answered_too(make_sshd: MakeSshd) -> None:
    person = Person(["123456"])
    remote = log_in(make_sshd, ASKS_FOR_A_CODE, person)
    assert remote.sudo(["cat"], stdin=b"data").text == "data"
    assert len(person.questions) == 1
    remote.close()


def test_a_wrong_answer_to_it_is_refused_in_its_words(make_sshd: MakeSshd) -> None:
    remote = log_in(make_sshd, ASKS_FOR_A_CODE, Person(["1"]))
    with pytest.raises(SudoRefused, match="sudo: wrong code"):
        remote.sudo(["true"])
    remote.close()


def test_silence_ends(make_sshd: MakeSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remotedl.ssh.root.SILENCE_LIMIT_S", 0.5)
    monkeypatch.setattr("remotedl.ssh.process.LOOK_S", 0.25)
    remote = log_in(make_sshd, SAYS_NOTHING)
    with pytest.raises(SudoRefused, match="neither begins nor asks"):
        remote.sudo(["true"])
    remote.close()


def test_sudo_that_wants_a_terminal_says_so(make_sshd: MakeSshd) -> None:
    remote = log_in(make_sshd, WANTS_A_TERMINAL)
    with pytest.raises(SudoRefused, match="you must have a tty"):
        remote.sudo(["true"])
    remote.close()
