"""What is found out before anything is dialled."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.config.models import HostConfig
from remotedl.errors import ConfigError, HostUnreachable
from remotedl.ssh import connect
from remotedl.ssh.prompt import NOBODY


def host(key: Path) -> HostConfig:
    return HostConfig(address="127.0.0.1", port=1, user="ada", identity_file=str(key))


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"identity_file .*nokey: there is no such file"):
        connect(host(tmp_path / "nokey"), prompt=NOBODY, ssh_config=tmp_path / "none")


def test_the_public_half_is_enough_beside_an_agent(tmp_path: Path) -> None:
    (tmp_path / "key.pub").touch()
    with pytest.raises(HostUnreachable):  # nothing listens there: it went on
        connect(host(tmp_path / "key"), prompt=NOBODY, ssh_config=tmp_path / "none")
