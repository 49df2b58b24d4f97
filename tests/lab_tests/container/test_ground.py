"""The project's folders on the host: made once, and not again behind the user's back."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from remotedl.config.models import HostConfig
from remotedl.container.ground import stand_on, survey
from remotedl.container.spec import ProjectName
from remotedl.errors import ContainerError
from tests.support.local_remote import LocalRemote

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the host is Linux")

NAME = ProjectName("0123456789abcdef", "cats")


def test_a_folder_that_has_gone_is_not_made_anew(tmp_path: Path) -> None:
    remote, host = LocalRemote(tmp_path), HostConfig(address="h1")
    work = Path(survey(remote, NAME, host).folders.workdir)
    assert work.is_dir() and work.stat().st_mode & 0o777 == 0o700
    assert not survey(remote, NAME, host).gone

    shutil.rmtree(work)
    ground = survey(remote, NAME, host)

    assert ground.gone and not work.exists(), "it may be a disk that is not mounted yet"
    with pytest.raises(ContainerError, match="not there any more") as refused:
        stand_on(remote, ground)
    assert "--allow root-missing" in refused.value.hint

    work.mkdir()
    assert not survey(remote, NAME, host).gone


def test_another_folder_in_hosts_toml_is_a_new_one(tmp_path: Path) -> None:
    remote = LocalRemote(tmp_path)
    old = Path(survey(remote, NAME, HostConfig(address="h1")).folders.workdir)
    shutil.rmtree(old)

    ground = survey(remote, NAME, HostConfig(address="h1", workdir=str(tmp_path / "new")))

    assert not ground.gone and (tmp_path / "new").is_dir() and not old.exists()


def test_a_renamed_folder_of_the_laptop_keeps_its_folder_on_the_host(tmp_path: Path) -> None:
    remote, host = LocalRemote(tmp_path), HostConfig(address="h1")
    first = survey(remote, NAME, host).folders.workdir
    renamed = survey(remote, ProjectName(NAME.id, "dogs"), host)
    assert renamed.folders.workdir == first and not renamed.gone
    assert not (tmp_path / "remotedl" / "dogs-012345").exists()
