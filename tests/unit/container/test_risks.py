"""Mounts that give the host away, and groups that stay outside."""

from __future__ import annotations

import dataclasses

import pytest

from remotedl.container.risks import ENGINE, HOME, SYSTEM, refuse_hidden_risks, risk_of
from remotedl.container.spec import User, group_file, seen_inside
from remotedl.errors import ContainerError


@pytest.mark.parametrize(
    ("mount", "risk"),
    [
        ("/:/host", SYSTEM),
        ("//:/host:ro", SYSTEM),
        ("/etc:/e", SYSTEM),
        ("/mnt/../etc/cron.d:/e:ro", SYSTEM),
        ("/dev/nvme0n1:/d", SYSTEM),
        ("/var/lib/docker/volumes:/v", SYSTEM),
        ("/var:/v", SYSTEM),
        ("/var/run/docker.sock:/s", ENGINE),
        ("/run/user/1000/podman/podman.sock:/s", ENGINE),
        ("/run:/r", ENGINE),
        ("~:/h", HOME),
        ("~/.ssh:/k:ro", HOME),
        ("/home/bob:/h", HOME),
        ("/home:/h", SYSTEM),
        ("~/data:/d", ""),
        ("/home/bob/sets:/d", ""),
        ("/mnt/sets:/d:ro", ""),
        ("/var/tmp/x:/d", ""),
        ("/dev/shm:/dev/shm", ""),
        ("/etcetera:/d", ""),
        ("/data/.sshfs:/d", ""),
    ],
)
def test_risk_of_a_mount(mount: str, risk: str) -> None:
    assert risk_of(mount) == risk


def test_a_mount_that_leads_to_such_a_place_must_be_named_as_that() -> None:
    refuse_hidden_risks(["/mnt/a", "/etc"], ["/srv/a", "/etc"])
    with pytest.raises(ContainerError, match="/mnt/a leads to /etc"):
        refuse_hidden_risks(["/mnt/a"], ["/etc"])


def test_the_container_is_in_no_group_that_is_root_in_all_but_name() -> None:
    ada = User("ada", 1000, 1001, "ada", "/home/ada", ((998, "docker"), (44, "video"), (6, "disk")))
    inner = seen_inside(ada, rootless=False)
    assert inner.groups == ((44, "video"),)
    assert "docker" not in group_file("root:x:0:\n", inner)
    primary = seen_inside(dataclasses.replace(ada, gid=998, group="docker"), rootless=False)
    assert (primary.gid, primary.group) == (1000, "ada")
