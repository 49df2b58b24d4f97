"""The laptop's own credentials, where docker keeps them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from remotedl.errors import ConfigError
from remotedl.images.credentials import auth_for, registry_of


def test_the_registry_that_a_reference_names() -> None:
    assert registry_of("debian") == "docker.io"
    assert registry_of("org/image:1") == "docker.io"
    assert registry_of("reg.example.org/org/image") == "reg.example.org"
    assert registry_of("localhost/image") == "localhost"
    assert registry_of("host:5000/image") == "host:5000"


def config(folder: Path, **table: object) -> Path:
    (folder / "config.json").write_text(json.dumps(table))
    return folder


def test_a_password_in_the_file(tmp_path: Path) -> None:
    packed = base64.b64encode(b"me:pass:word").decode()
    found = auth_for(
        "reg.example.org/a/b",
        config(tmp_path, auths={"reg.example.org": {"auth": packed}}),
    )
    assert (found.username, found.password) == ("me", "pass:word")
    assert "pass:word" not in repr(found)


def test_another_registry_gets_nothing(tmp_path: Path) -> None:
    packed = base64.b64encode(b"me:secret").decode()
    given = config(tmp_path, auths={"reg.example.org": {"auth": packed}})
    assert auth_for("other.example.org/a/b", given).password == ""
    assert auth_for("debian", given).password == ""


def test_the_hub_by_its_old_name(tmp_path: Path) -> None:
    packed = base64.b64encode(b"me:secret").decode()
    given = config(tmp_path, auths={"https://index.docker.io/v1/": {"auth": packed}})
    assert auth_for("me/private:1", given).username == "me"


def test_no_file_is_no_credentials(tmp_path: Path) -> None:
    assert auth_for("reg.example.org/a", tmp_path).username == ""


@pytest.mark.parametrize("text", ["{", "\xff"])
def test_a_damaged_file_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        auth_for("reg.example.org/a", tmp_path)


def helper(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, str], code: int
) -> None:
    program = folder / "docker-credential-test"
    program.write_text(
        "#!/bin/sh\nread server\n"
        f"[ \"$server\" = reg.example.org ] || exit 1\necho '{json.dumps(answer)}'\nexit {code}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, {"Username": "me", "Secret": "s"}, 0)
    given = config(tmp_path, credHelpers={"reg.example.org": "test"})
    assert auth_for("reg.example.org/a", given).password == "s"


def test_a_helper_may_give_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, {"Username": "<token>", "Secret": "t"}, 0)
    found = auth_for("reg.example.org/a", config(tmp_path, credsStore="test"))
    assert (found.identity_token, found.password) == ("t", "")


def test_a_helper_that_knows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, {}, 1)
    assert auth_for("reg.example.org/a", config(tmp_path, credsStore="test")).password == ""
    assert auth_for("reg.example.org/a", config(tmp_path, credsStore="not-there")).password == ""
