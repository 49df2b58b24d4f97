"""`provision --undo` leaves the host as it was found."""

from __future__ import annotations

import pytest

from remotedl.provision.apply import converge
from remotedl.provision.steps import Wish
from remotedl.provision.undo import undo
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab_tests.provision.conftest import LogIn, Told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
NO_GPU = Wish(gpus=False)

NOISE = (
    "^/(proc|sys|run|tmp|dev|var/log|var/cache|var/lib/apt|var/lib/dpkg|var/lib/systemd"
    "|var/lib/docker)(/|$)"
)


def picture(host: Host) -> dict[str, list[str]]:
    """Package list, groups, users, enabled and running services, and every file outside caches."""
    return {
        "packages": host.sh("dpkg-query -W -f '${Package} ${Version} ${Status}\n'").splitlines(),
        "groups": sorted(host.read("/etc/group").splitlines()),
        "users": sorted(host.read("/etc/passwd").splitlines()),
        "units": host.sh("systemctl list-unit-files --no-legend --plain").splitlines(),
        "running": host.sh(
            "systemctl list-units --type=service --state=running --no-legend --plain"
            " | cut -d' ' -f1 | grep -vE '^(user|session)'"
        ).splitlines(),
        "files": host.sh(f"find / -xdev | grep -vE '{NOISE}' | sort").splitlines(),
        "settings": host.sh(
            "find /etc -xdev -type f ! -name '*-' ! -name ld.so.cache -exec sha256sum {} +"
        ).splitlines(),
    }


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_undo_leaves_packages_files_groups_and_services_as_they_were(
    make_host: MakeHost, log_in: LogIn, told: Told, release: str
) -> None:
    host = make_host(release=release)
    remote = log_in(host)
    before = picture(host)
    converge(remote, NO_GPU)
    assert host.sh("docker images -q") != ""

    outcome = undo(remote, report=told, confirm=lambda question: True)

    after = picture(host)
    for what, lines in before.items():
        came = sorted(set(after[what]) - set(lines))
        went = sorted(set(lines) - set(after[what]))
        assert (came, went) == ([], []), f"{what} differ"
    assert outcome.left == ()
    assert host.sh("ls /var/lib/docker/overlay2") != "", "images that were there before are kept"
    assert undo(remote, confirm=lambda question: True).undone == ()
