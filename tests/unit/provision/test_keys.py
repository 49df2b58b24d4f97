"""Whose key a key file holds."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from remotedl.errors import StepFailed
from remotedl.provision.apply import carry_out
from remotedl.provision.keys import fingerprints, is_pinned
from remotedl.provision.steps import Stage, Step, TrustKey
from remotedl.ssh.remote import Remote, Result

BODY = b"\x04\x65\x00\x00\x00\x16" + bytes(45)
KEY = b"\xc6" + bytes([len(BODY)]) + BODY
FINGERPRINT = hashlib.sha1(b"\x99" + len(BODY).to_bytes(2, "big") + BODY).hexdigest().upper()
USER = b"\xcd\x03ada"
SUBKEY = b"\xce" + bytes([len(BODY)]) + BODY
OLD_FORMAT = b"\x99" + len(BODY).to_bytes(2, "big") + BODY


def armoured(data: bytes, newline: str = "\n") -> bytes:
    lines = ["-----BEGIN PGP PUBLIC KEY BLOCK-----", "Comment: x", "", "=abcd"]
    lines[3:3] = [base64.b64encode(data).decode()]
    return newline.join([*lines, "-----END PGP PUBLIC KEY BLOCK-----", ""]).encode()


@pytest.mark.parametrize(("key", "count"), [
    (KEY, 1), (OLD_FORMAT, 1), (KEY + USER + SUBKEY, 1), (armoured(KEY + USER), 1),
    (armoured(KEY, "\r\n"), 1), (KEY + USER + KEY, 2), (armoured(KEY) + armoured(KEY), 2),
    (b"", 0), (b"<html>not found</html>", 0), (KEY[:20], 0), (armoured(b"\xc6"), 0),
])  # fmt: skip
def test_every_primary_key_is_told(key: bytes, count: int) -> None:
    assert fingerprints(key) == (FINGERPRINT,) * count


@pytest.mark.skipif(shutil.which("gpg") is None, reason="no gpg here")
def test_gpg_says_the_same(tmp_path: Path) -> None:
    home = ["gpg", "--homedir", str(tmp_path), "--batch", "--quiet"]
    tmp_path.chmod(0o700)
    make = [*home, "--passphrase", "", "--quick-generate-key", "Ada <ada@example.org>", "ed25519"]
    subprocess.run(make, check=True, capture_output=True)
    listed = subprocess.run([*home, "--list-keys", "--with-colons"], capture_output=True, text=True)
    theirs = next(line.split(":")[9] for line in listed.stdout.splitlines() if "fpr" in line[:3])

    for options in ([], ["--armor"]):
        key = subprocess.run([*home, *options, "--export"], capture_output=True, check=True).stdout
        assert fingerprints(key) == (theirs,)
    # It began an agent of its own for the folder, which would stay.
    subprocess.run(["gpgconf", "--homedir", str(tmp_path), "--kill", "all"], check=True)


def test_a_second_key_in_the_file_would_be_trusted_too() -> None:
    assert is_pinned((FINGERPRINT,), FINGERPRINT)
    assert not is_pinned((FINGERPRINT, "F" * 40), FINGERPRINT)
    assert not is_pinned((), FINGERPRINT)


class Fetching:
    """A host that fetches KEY, whatever it is asked for."""

    name, user, alive = "h1", "ada", True

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}

    def run(self, argv: Sequence[str], **more: Any) -> Result:
        frame = b"@@remotedl 1\n@now 0\n|1\n@@end\n" if argv[:2] == ["sh", "-s"] else b""
        return Result(tuple(argv), 0, frame if argv[2:3] == ["--"] else b"", b"")

    def sudo(self, argv: Sequence[str], *, stdin: bytes = b"", **more: Any) -> Result:
        if "write" in argv:
            self.written[argv[4]] = stdin
        return Result(tuple(argv), 0, KEY if argv[0] == "curl" else b"", b"")


def trusting(fingerprint: str, *, mirror: bool = False) -> tuple[dict[str, bytes], list[str]]:
    import contextlib
    from unittest.mock import patch

    from remotedl.report import SILENT

    class Told:
        stage, progress, note, output = SILENT.stage, SILENT.progress, SILENT.note, SILENT.output

        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, text: str, hint: str = "") -> None:
            self.warnings.append(text)

    host, told = Fetching(), Told()
    key = TrustKey("https://x.example/gpg", "/etc/k.asc", "Docker", fingerprint, mirror)
    step = Step("add-docker-repository", Stage.ENGINE, "add it", "", (key,))
    with patch("remotedl.provision.host_lock.held", lambda *_: contextlib.nullcontext()):
        carry_out(cast(Remote, host), [step], report=told)
    return host.written, told.warnings


def test_the_vendors_key_is_written_as_it_was_checked() -> None:
    assert trusting(FINGERPRINT) == ({"/etc/k.asc": KEY}, [])


def test_another_key_stops_with_both_fingerprints() -> None:
    with pytest.raises(StepFailed) as stopped:
        trusting("A" * 40)

    assert "A" * 40 in stopped.value.message and FINGERPRINT in stopped.value.message


def test_a_mirror_that_hosts_toml_names_may_sign_by_itself_and_it_is_told() -> None:
    written, warnings = trusting("A" * 40, mirror=True)

    assert written == {"/etc/k.asc": KEY} and FINGERPRINT in warnings[0]
