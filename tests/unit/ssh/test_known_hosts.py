"""What known_hosts says about a key. The format: sshd(8)."""

from __future__ import annotations

import base64
import hmac
from pathlib import Path

import pytest

from remotedl.ssh.known_hosts import Key, KnownHosts, Verdict, known_name, matches, parse


def key(kind: str, rest: bytes) -> Key:
    return Key(kind, len(kind).to_bytes(4, "big") + kind.encode() + rest)


OURS = key("ssh-ed25519", b"ours")
OTHER = key("ssh-ed25519", b"other")
RSA = key("ssh-rsa", b"rsa")


def known(*lines: str) -> KnownHosts:
    return KnownHosts(tuple(parse("\n".join(lines), Path("known_hosts"))))


def line(names: str, key: Key = OURS, marker: str = "") -> str:
    blob = base64.b64encode(key.blob).decode()
    return f"{marker} {names} {key.kind} {blob} a comment".strip()


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def test_a_listed_key_is_known() -> None:
    assert known(line("box")).judge("box", OURS) is Verdict.KNOWN


def test_an_unlisted_host_is_unknown() -> None:
    assert known(line("box")).judge("other", OURS) is Verdict.UNKNOWN
    assert known().judge("box", OURS) is Verdict.UNKNOWN


def test_another_key_is_a_change() -> None:
    assert known(line("box")).judge("box", OTHER) is Verdict.CHANGED


def test_a_key_of_another_type_is_a_change() -> None:
    """We ask for the types that we know first, so a host with such a key would have shown it."""
    assert known(line("box")).judge("box", RSA) is Verdict.CHANGED


def test_one_of_several_keys_is_enough() -> None:
    assert known(line("box", RSA), line("box", OTHER), line("box")).judge("box", OURS) is (
        Verdict.KNOWN
    )


def test_a_revoked_key_is_refused_wherever_it_is_listed_too() -> None:
    assert known(line("box"), line("*", marker="@revoked")).judge("box", OURS) is Verdict.REVOKED
    port = "[box]:2222"
    assert known(line(port), line("box", marker="@revoked")).judge(port, OURS) is Verdict.REVOKED


def test_a_certificate_authority_vouches_for_no_plain_key() -> None:
    assert known(line("*", marker="@cert-authority")).judge("box", OURS) is Verdict.UNKNOWN


def test_a_port_is_part_of_the_name() -> None:
    assert known_name("Box", 22) == "box"
    assert known_name("::1", 2222) == "[::1]:2222"
    assert known(line("[box]:2222")).judge("[box]:2222", OURS) is Verdict.KNOWN
    assert known(line("[box]:2222", OTHER)).judge("[box]:2222", OURS) is Verdict.CHANGED
    assert known(line("[box]:2222")).judge("box", OURS) is Verdict.UNKNOWN


def test_a_key_known_without_the_port_vouches_for_itself_only() -> None:
    assert known(line("box")).judge("[box]:2222", OURS) is Verdict.KNOWN
    assert known(line("box")).judge("[box]:2222", OTHER) is Verdict.UNKNOWN


def test_hashed_names_match() -> None:
    assert known(line(hashed("box"))).judge("box", OURS) is Verdict.KNOWN
    assert known(line(hashed("[box]:2222"))).judge("[box]:2222", OTHER) is Verdict.CHANGED
    assert known(line(hashed("box"))).judge("fox", OURS) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("patterns", "name", "found"),
    [
        (["a", "box"], "box", True),
        (["*.lan"], "box.lan", True),
        (["b?x"], "box", True),
        (["*", "!box"], "box", False),
        (["[box]:22*"], "[box]:2222", True),
        (["[box]:2222"], "b", False),
        (["|1|broken"], "box", False),
    ],
)
def test_patterns(patterns: list[str], name: str, found: bool) -> None:
    assert matches(patterns, name) is found


def test_lines_that_cannot_be_read_are_passed_over() -> None:
    text = ("", "# comment", "box", "box ssh-rsa", "box ssh-rsa !!!", line("BOX"))
    assert known(*text).judge("box", OURS) is Verdict.KNOWN
    assert [entry.number for entry in known(*text).lines] == [6]


def test_a_fingerprint_is_shown_as_openssh_shows_it() -> None:
    # printf ours | sha256sum | xxd -r -p | base64
    assert OURS.fingerprint.startswith("SHA256:")
    assert "=" not in OURS.fingerprint
    assert len(OURS.fingerprint) == len("SHA256:") + 43
