"""Whose key is trusted: ours held against the answer of `ssh` itself, on a real sshd, row by row.

A row is what ~/.ssh/config and known_hosts say; `ssh` and remotedl must both go on, or both stop,
and with accept-new they must leave the same names in the file.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from remotedl.config.models import HostConfig
from remotedl.errors import HostKeyChanged, HostKeyUnknown
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.ssh.door import open_door


@dataclass(frozen=True)
class Row:
    name: str
    config: str = "UserKnownHostsFile {known}"
    known: str = ""
    goes_on: bool = True
    revoked: str = ""
    strict: str = "yes"


GOOD = "{at} {ed}"
ROWS = [
    Row("the very key", known=GOOD),
    Row("nothing is known", goes_on=False),
    Row("another key", known="{at} {other}", goes_on=False),
    Row("another key of another kind", known="{at} {other_rsa}", goes_on=False),
    Row("another key beside the right one", known="{at} {other}\n" + GOOD),
    Row("the rsa key alone", known="{at} {rsa}"),
    Row("without the port", known="127.0.0.1 {ed}"),
    Row("without the port, another key", known="127.0.0.1 {other}", goes_on=False),
    Row("another port", known="[127.0.0.1]:1 {ed}", goes_on=False),
    Row("a pattern", known="[127.0.*]:* {ed}"),
    Row("a negated pattern", known="*,!{at},!127.0.0.1 {ed}", goes_on=False),
    Row("a hashed name", known="{hashed} {ed}"),
    Row("a hashed name, another key", known="{hashed} {other}", goes_on=False),
    Row("lines that are none", known="@foo {at} {ed}\n{at} ssh-ed25519\n# {at} {ed}",
        goes_on=False),
    Row("a kind that is not the key's", known="{at} ssh-rsa {ed_blob}", goes_on=False),
    Row("a separator of lines that is none", known="x {other}\x0b{at} {ed}", goes_on=False),
    Row("tabs and a comment", known="  {at}\t{ed}\ta comment"),
    Row("@revoked", known=GOOD + "\n@revoked * {ed}", goes_on=False),
    Row("@revoked, the other", known=GOOD + "\n@revoked * {other}"),
    Row("@cert-authority", known="@cert-authority {at} {ca}"),
    Row("@cert-authority by a pattern", known="@cert-authority [127.*]:* {ca}"),
    Row("@cert-authority of others", known="@cert-authority example.org {ca}", goes_on=False),
    Row("@cert-authority, not the signer", known="@cert-authority * {other}", goes_on=False),
    Row("@cert-authority beside the key", known="@cert-authority * {other}\n" + GOOD),
    Row("the authority is revoked", known="@cert-authority * {ca}\n@revoked * {ca}", goes_on=False),
    Row("the signed key is revoked", known="@cert-authority * {ca}\n@revoked * {ed}",
        goes_on=False),
    Row("no principal of it", "HostKeyAlias x\nUserKnownHostsFile {known}",
        "@cert-authority * {ca}", goes_on=False),
    Row("a principal by alias", "HostKeyAlias Signed\nUserKnownHostsFile {known}",
        "@cert-authority * {ca}"),
    Row("the authority as a plain key", known="{at} {ca}", goes_on=False),
    Row("HostKeyAlias", "HostKeyAlias box\nUserKnownHostsFile {known}", "box {ed}"),
    Row("HostKeyAlias in capitals", "HostKeyAlias MyBox\nUserKnownHostsFile {known}", "mybox {ed}"),
    Row("HostKeyAlias in capitals, known so", "HostKeyAlias MyBox\nUserKnownHostsFile {known}",
        "MyBox {ed}"),
    Row("HostKeyAlias in capitals, another key", "HostKeyAlias MyBox\nUserKnownHostsFile {known}",
        "MyBox {other}", goes_on=False),
    Row("HostKeyAlias has no port", "HostKeyAlias box\nUserKnownHostsFile {known}", "[box]:22 {ed}",
        goes_on=False),
    Row("quotes", 'UserKnownHostsFile "{spaced}"', GOOD),
    Row("quotes, another key", 'UserKnownHostsFile "{spaced}"', "{at} {other}", goes_on=False),
    Row("a comment", "UserKnownHostsFile {known} # mine", GOOD),
    Row("several, the second knows", "UserKnownHostsFile {absent} {known}", GOOD),
    Row("several, the second knows another", "UserKnownHostsFile {absent} {known}", "{at} {other}",
        goes_on=False),
    Row("${{ENV}}", "UserKnownHostsFile ${{RDL_TRUST}}/known", GOOD),
    Row("${{ENV}}, another key", "UserKnownHostsFile ${{RDL_TRUST}}/known", "{at} {other}",
        goes_on=False),
    Row("a token", "UserKnownHostsFile {folder}/%k\nHostKeyAlias known", "known {ed}"),
    Row("%h and %p", "UserKnownHostsFile {folder}/%h-%p", GOOD),
    Row("%h and %p, another key", "UserKnownHostsFile {folder}/%h-%p", "{at} {other}",
        goes_on=False),
    Row("none", "UserKnownHostsFile none", GOOD, goes_on=False),
    Row("the system's file", "UserKnownHostsFile none\nGlobalKnownHostsFile {known}", GOOD),
    Row("the system's file, another key",
        "UserKnownHostsFile {absent}\nGlobalKnownHostsFile {known}", "{at} {other}", goes_on=False),
    Row("RevokedHostKeys", "UserKnownHostsFile {known}\nRevokedHostKeys {revoked}", GOOD,
        goes_on=False, revoked="{ed}"),
    Row("RevokedHostKeys, the other", "UserKnownHostsFile {known}\nRevokedHostKeys {revoked}", GOOD,
        revoked="{other}"),
    Row("RevokedHostKeys that is not there", "UserKnownHostsFile {known}\nRevokedHostKeys {absent}",
        GOOD, goes_on=False),
    Row("RevokedHostKeys, a KRL", "UserKnownHostsFile {known}\nRevokedHostKeys {krl}", GOOD,
        goes_on=False),
    Row("CheckHostIP says nothing of loopback", "UserKnownHostsFile {known}\nCheckHostIP yes",
        GOOD),
    Row("NoHostAuthenticationForLocalhost", "NoHostAuthenticationForLocalhost yes\n"
        "UserKnownHostsFile {known}", "{at} {other}"),
    Row("accept-new, nothing is known", strict="accept-new"),
    Row("accept-new, an unknown name", known="example.org {other}", strict="accept-new"),
    Row("accept-new, another key", known="{at} {other}", goes_on=False, strict="accept-new"),
    Row("accept-new, an alias in capitals", "HostKeyAlias MyBox\nUserKnownHostsFile {known}",
        "MyBox {other}", goes_on=False, strict="accept-new"),
    Row("accept-new, quotes", 'UserKnownHostsFile "{spaced}"', "{at} {other}", goes_on=False,
        strict="accept-new"),
    Row("accept-new, ${{ENV}}", "UserKnownHostsFile ${{RDL_TRUST}}/known", "{at} {other}",
        goes_on=False, strict="accept-new"),
    Row("accept-new, %h and %p", "UserKnownHostsFile {folder}/%h-%p", "{at} {other}",
        goes_on=False, strict="accept-new"),
    Row("accept-new, the system's file",
        "UserKnownHostsFile {absent}\nGlobalKnownHostsFile {known}", "{at} {other}",
        goes_on=False, strict="accept-new"),
    Row("accept-new, none", "UserKnownHostsFile none", goes_on=False, strict="accept-new"),
    Row("accept-new, revoked", known="@revoked * {ed}", goes_on=False, strict="accept-new"),
    Row("accept-new, an authority", known="@cert-authority * {ca}", strict="accept-new"),
]  # fmt: skip


class Keys:
    """A server with an Ed25519 key that an authority signed, an RSA key, and others' keys."""

    def __init__(self, folder: Path, make_sshd: MakeSshd) -> None:
        self.folder = folder
        for name, kind in (("rsa", "rsa"), ("ca", "ed25519"), ("other", "ed25519"),
                           ("other_rsa", "rsa"), ("signed", "ed25519")):  # fmt: skip
            keygen("-q", "-t", kind, "-N", "", "-f", str(folder / name))
        keygen("-q", "-s", str(folder / "ca"), "-I", "box", "-h", "-n", "127.0.0.1,signed",
               str(folder / "signed.pub"))  # fmt: skip
        self.server = make_sshd(
            config=[
                f"HostKey {folder / 'signed'}",
                f"HostCertificate {folder / 'signed-cert.pub'}",
                f"HostKey {folder / 'rsa'}",
            ]
        )
        self.server.kill()
        lines = self.server._config_lines()
        self.server._config_lines = lambda: [  # type: ignore[method-assign]
            line for line in lines if line != f"HostKey {self.server.host_key}"
        ]
        self.server.start()
        self.hashed = self._hashed(self.server.login.known_name)

    def _hashed(self, name: str) -> str:
        file = self.folder / "to_hash"
        file.write_text(f"{name} {self.public('ca')}\n")
        keygen("-q", "-H", "-f", str(file))
        return file.read_text().split()[0]

    def public(self, name: str) -> str:
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    folder = tmp_path_factory.mktemp("trust")
    servers: list[Sshd] = []

    def make(**options: object) -> Sshd:
        server = Sshd(tmp_path_factory.mktemp("sshd"), **options)  # type: ignore[arg-type]
        servers.append(server)
        server.start()
        return server

    yield Keys(folder, make)
    for server in servers:
        server.kill()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_ours_is_the_answer_of_ssh(
    keys: Keys, row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RDL_TRUST", str(tmp_path))
    answers, left = [], []
    for asker in (_ask_ssh, _ask_us):
        config, files = _written(keys, row, tmp_path)
        answers.append(asker(config))
        left.append([_names(file) for file in files])
    assert answers == [row.goes_on] * 2
    assert left[0] == left[1]


def _ask_ssh(config: Path) -> bool:
    done = subprocess.run(
        ["ssh", "-F", str(config), "box", "true"], capture_output=True, text=True, timeout=30
    )
    trouble = ("verification failed", "REVOKED", "revoked")
    assert done.returncode in (0, 255) and (not done.returncode or _says(done.stderr, trouble))
    return done.returncode == 0


def _says(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def _ask_us(config: Path) -> bool:
    try:
        open_door(HostConfig(address="box"), ssh_config=config).close()
    except (HostKeyChanged, HostKeyUnknown):
        return False
    return True


def _written(keys: Keys, row: Row, folder: Path) -> tuple[Path, list[Path]]:
    """The configuration of a row, made anew; the files that keys may be added to."""
    server = keys.server
    files = [folder / "known", folder / "a b", folder / f"127.0.0.1-{server.port}"]
    put = {
        "at": server.login.known_name, "folder": folder, "known": files[0], "spaced": files[1],
        "absent": folder / "absent", "revoked": folder / "revoked", "krl": folder / "krl",
        "ed": keys.public("signed"), "ed_blob": keys.public("signed").split()[1],
        **{name: keys.public(name) for name in ("rsa", "ca", "other", "other_rsa")},
        "hashed": keys.hashed,
    }  # fmt: skip
    (folder / "absent").unlink(missing_ok=True)
    for file in files:
        file.write_text(row.known.format(**put) + "\n")
    (folder / "revoked").write_text(row.revoked.format(**put) + "\n")
    keygen("-k", "-q", "-f", str(folder / "krl"), str(keys.folder / "signed.pub"))
    config = folder / "config"
    config.write_text(
        f"Host box\nHostName 127.0.0.1\nPort {server.port}\nUser {server.user}\n"
        f"IdentityFile {server.key}\nIdentitiesOnly yes\nBatchMode yes\nUpdateHostKeys no\n"
        f"StrictHostKeyChecking {row.strict}\n{row.config.format(**put)}\n"
        "GlobalKnownHostsFile none\n"
    )
    return config, [*files, folder / "absent"]


def _names(file: Path) -> list[str]:
    lines = file.read_text().split("\n") if file.exists() else []
    return [" ".join(line.split()[:3]) for line in lines if line.strip()]


def keygen(*words: str) -> None:
    subprocess.run(
        ["ssh-keygen", *words], check=True, capture_output=True, stdin=subprocess.DEVNULL
    )
