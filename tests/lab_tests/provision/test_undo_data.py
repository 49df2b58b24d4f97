"""What people put into Docker, and what they did meanwhile, outlives `provision --undo`."""

from __future__ import annotations

import threading

import pytest

from remotedl.provision.apply import converge
from remotedl.provision.steps import Wish
from remotedl.provision.undo import undo
from tests.lab.fixtures import MakeHost
from tests.lab_tests.provision.conftest import LogIn, Told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
NO_GPU = Wish(gpus=False)


def test_a_volume_and_an_account_that_came_meanwhile_stay(
    make_host: MakeHost, log_in: LogIn, told: Told
) -> None:
    host = make_host(release="trixie", standin=False)
    host.sh("rmdir /var/lib/docker 2>/dev/null || umount /var/lib/docker && rmdir /var/lib/docker")
    remote = log_in(host)
    admin = list[threading.Thread]()

    def meanwhile(detail: str) -> None:
        if detail.startswith("install docker") and not admin:
            script = "useradd zoe; apt-get -qq -y -o DPkg::Lock::Timeout=300 install hello"
            admin.append(threading.Thread(target=host.sh, args=(script,)))
            admin[0].start()

    told.on_stage = meanwhile
    converge(remote, NO_GPU, report=told)
    for thread in admin:
        thread.join()
    host.sh("docker volume create weights && echo 1 >/var/lib/docker/volumes/weights/_data/w")

    asked = list[str]()
    outcome = undo(
        remote, confirm=lambda _: True, remove_data=lambda question: bool(asked.append(question))
    )

    assert "volume weights" in asked[0]
    assert host.read("/var/lib/docker/volumes/weights/_data/w") == "1\n"
    assert any(left.what == "/var/lib/docker" and "weights" in left.why for left in outcome.left)
    assert host.exec(["pgrep", "-x", "dockerd"], check=False).returncode == 1
    assert host.sh("id -un zoe; hello -g moved") == "zoe\nmoved\n"
    assert host.exec(["which", "docker"], check=False).returncode == 1
