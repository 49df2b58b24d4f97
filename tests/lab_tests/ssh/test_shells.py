"""Commands arrive as they are, whatever shell the user logs in with and whatever it prints."""

from __future__ import annotations

import os
import shutil

import pytest

from remotedl.errors import SshError
from remotedl.ssh.remote import Pty
from tests.lab.sshd import MakeSshd
from tests.lab_tests.ssh.door import open_door

SHELLS = ("sh", "dash", "bash", "zsh", "fish", "tcsh", "csh")
NASTY = (
    "", " ", "it's", '"', "\\", "\\\\'", "!", "!!", "a!b", "$HOME", "`id`", "$(id)", "a\nb", "\n",
    "*", "?", "[a]", "{b,c}", "~", "~root", "#", ";", "&", "|", "<", ">", "(", ")", "%", "%1", "^",
    "=", "==", "-", "--", "\t", "\x01\x1b[0m", "é☃𝄞", "end\\",
)  # fmt: skip
NOISE = 'Welcome!\n"Quotes", \x1eremotedl: and other things\n'


@pytest.mark.parametrize("shell", SHELLS)
def test_words_arrive_as_they_are(make_sshd: MakeSshd, shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed here")
    remote = open_door(make_sshd(shell=path).login)
    shown = remote.run(["printf", "%s|", *NASTY], env={"N": "".join(NASTY)}, cwd="/").text
    assert shown == "".join(f"{word}|" for word in NASTY)
    script = 'printf "%s" "$N"; pwd; cat; exit 9'
    result = remote.run(
        ["sh", "-c", script], env={"N": "\n".join(NASTY)}, cwd="/usr", stdin=b"in", check=False
    )
    assert result.text == "\n".join(NASTY) + "/usr\nin"
    assert result.code == 9
    remote.close()


@pytest.mark.parametrize("shell", ["bash", "fish", "tcsh"])
def test_words_need_not_be_utf8(make_sshd: MakeSshd, shell: str) -> None:
    path = shutil.which(shell) or pytest.skip(f"{shell} is not installed here")
    remote = open_door(make_sshd(shell=path).login)
    word = b"caf\xe9"
    assert remote.run(["printf", "%s", os.fsdecode(word)]).stdout == word
    remote.close()


def test_what_the_login_prints_is_not_the_commands_output(make_sshd: MakeSshd) -> None:
    remote = open_door(make_sshd(noise=NOISE).login)
    assert remote.run(["echo", "own"]).stdout == b"own\n"
    process = remote.start(["cat"])
    process.sendall(b"own\n")
    assert process.recv(100) == b"own\n"
    process.close()
    terminal = remote.start(["echo", "own"], pty=Pty("xterm", 80, 24))
    assert b"".join(iter(lambda: terminal.recv(100), b"")) == b"own\r\n"
    terminal.close()
    remote.close()


def test_a_megabyte_of_noise_is_passed_over(make_sshd: MakeSshd) -> None:
    remote = open_door(make_sshd(noise="x" * 1_500_000).login)
    assert remote.run(["echo", "own"]).stdout == b"own\n"
    remote.close()


def test_a_shell_that_shows_its_commands_does_not_confuse_us(make_sshd: MakeSshd) -> None:
    """`set -x` in .bashrc: the text of the command is on stderr, ahead of the command."""
    server = make_sshd()
    (server.home / ".bashrc").write_text("set -xv\n")
    remote = open_door(server.login)
    result = remote.run(["sh", "-c", "echo own; echo too >&2"])
    assert (result.stdout, result.stderr) == (b"own\n", b"too\n")
    remote.close()


def test_a_login_that_runs_no_commands_is_named(make_sshd: MakeSshd) -> None:
    command = "ForceCommand echo This account is not available.; exit 1"
    remote = open_door(make_sshd(config=[command], real_home=True).login)
    with pytest.raises(SshError, match=r"runs no commands.*This account is not available"):
        remote.run(["true"])
    remote.close()
