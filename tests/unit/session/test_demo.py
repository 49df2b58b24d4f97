"""The demo's folder names its host, so that every command works there in a second terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.config.load import FILE_NAME, choose_host, load_config
from remotedl.config.models import HostConfig, RuntimeKind
from remotedl.session.demo import HOST_NAME, forget_the_host, name_the_host

HOST = HostConfig(
    address="127.0.0.1",
    port=40022,
    user="ada",
    identity_file='C:\\a "quoted" folder\\key',
    known_hosts="/tmp/größe/known_hosts",
    runtime=RuntimeKind.NATIVE,
)


def test_the_demo_folder_names_its_host(tmp_path: Path) -> None:
    name_the_host(tmp_path, HOST)
    assert choose_host(load_config(tmp_path / FILE_NAME), None) == (HOST_NAME, HOST)


def test_the_next_demo_names_the_next_host(tmp_path: Path) -> None:
    name_the_host(tmp_path, HOST)
    other = HOST.model_copy(update={"port": 40023})
    name_the_host(tmp_path, other)
    assert load_config(tmp_path / FILE_NAME).hosts[HOST_NAME] == other


@pytest.mark.parametrize("own", ["", '[project]\nimage = "fastai"\n'])
def test_a_hosts_toml_of_the_users_own_stays(tmp_path: Path, own: str) -> None:
    (tmp_path / FILE_NAME).write_text(own)
    name_the_host(tmp_path, HOST)
    assert (tmp_path / FILE_NAME).read_text() == own


def test_after_the_demo_nothing_points_at_its_host(tmp_path: Path) -> None:
    name_the_host(tmp_path, HOST)
    forget_the_host(tmp_path)
    assert not (tmp_path / FILE_NAME).exists()
    (tmp_path / FILE_NAME).write_text("# mine\n")
    forget_the_host(tmp_path)
    assert (tmp_path / FILE_NAME).exists()
