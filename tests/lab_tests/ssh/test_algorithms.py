"""Every cipher, MAC and key exchange that we know, each alone on a real sshd; the rest is named."""

from __future__ import annotations

import subprocess

import pytest

from remotedl.errors import HostUnreachable
from remotedl.ssh.algorithms import CIPHERS, KEX, MACS
from remotedl.ssh.embedded import EmbeddedHost
from tests.lab.sshd import MakeSshd
from tests.lab_tests.ssh.door import open_door

PLAIN = "Ciphers aes256-ctr"


def known_to_sshd(what: str) -> list[str]:
    return subprocess.run(["ssh", "-Q", what], capture_output=True, text=True).stdout.split()


def _each() -> list[tuple[str, str, list[str]]]:
    rows = [("Ciphers", name, []) for name in CIPHERS if name in known_to_sshd("cipher")]
    rows += [("MACs", name, [PLAIN]) for name in MACS if name in known_to_sshd("mac")]
    rows += [("KexAlgorithms", name, []) for name in KEX if name in known_to_sshd("kex")]
    return rows


@pytest.mark.parametrize(("key", "name", "more"), _each())
def test_it_works_alone(make_sshd: MakeSshd, key: str, name: str, more: list[str]) -> None:
    """2 MB there and back: many packets, and new keys on the way."""
    remote = open_door(make_sshd(config=[f"{key} {name}", *more, "RekeyLimit 1M"]).login)
    data = bytes(range(256)) * 8192
    assert remote.run(["cat"], stdin=data, timeout_s=60).stdout == data
    remote.close()


def test_a_cipher_that_seals_needs_no_mac(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["Ciphers aes256-gcm@openssh.com", "MACs umac-128@openssh.com"])
    remote = open_door(server.login)
    assert remote.run(["echo", "x"]).text == "x\n"
    remote.close()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([PLAIN, "MACs umac-64@openssh.com,umac-128-etm@openssh.com"],
         "no MAC in common: it offers umac-64@openssh.com, umac-128-etm@openssh.com"),
        (["KexAlgorithms sntrup761x25519-sha512@openssh.com"],
         "no key exchange in common: it offers sntrup761x25519-sha512@openssh.com"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_named(make_sshd: MakeSshd, config: list[str], said: str) -> None:
    with pytest.raises(HostUnreachable) as caught:
        open_door(make_sshd(config=config).login)
    assert said in caught.value.message


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"])
def test_openssh_talks_to_our_own_side(
    cipher: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The embedded host under the same ciphers, with ssh itself at the other end."""
    with EmbeddedHost(tmp_path_factory.mktemp("h")) as login:
        host = login.host
        argv = [
            "ssh", "-F", "none", "-c", cipher, "-p", str(host.port), "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={login.known_hosts}", "-i", str(host.identity_file),
            f"{host.user}@{host.address}", "cat",
        ]  # fmt: skip
        data = b"x" * 3_000_000
        done = subprocess.run(argv, input=data, capture_output=True, timeout=60)
        assert done.stdout == data, done.stderr
