"""From a bare host to Docker, a second run that plans nothing, and back to where it was."""

from __future__ import annotations

import pytest

from remotedl.provision.apply import converge, preview
from remotedl.provision.steps import Wish
from remotedl.provision.undo import undo
from remotedl.provision.undo_plan import APT_LISTS
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab_tests.provision.conftest import LogIn, Told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
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


def assert_same(before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
    for what, lines in before.items():
        came = sorted(set(after[what]) - set(lines))
        went = sorted(set(lines) - set(after[what]))
        assert (came, went) == ([], []), f"{what} differ"


def test_docker_comes_a_second_run_plans_nothing_and_undo_leaves_nothing(
    make_host: MakeHost, log_in: LogIn, told: Told
) -> None:
    """From the distribution on trixie; on bookworm test_killed.py does it, the hard way."""
    host = make_host(release="trixie")
    remote = log_in(host)
    before = picture(host)

    outcome = converge(remote, NO_GPU, report=told)

    assert outcome.facts.engine.works and outcome.facts.engine.access == "sudo"
    assert host.sh("docker run --rm debian:bookworm-slim echo from a container") != ""
    assert host.sh("systemctl is-enabled docker") == "enabled\n"
    assert any("no way to" in warning for warning in told.warnings), "Docker's repository"
    assert preview(remote, NO_GPU).steps == ()
    assert converge(remote, NO_GPU).done == ()

    undone = undo(remote, report=told, confirm=lambda question: True)

    assert_same(before, picture(host))
    assert set(undone.left) <= {APT_LISTS}
    assert host.sh("ls /var/lib/docker/overlay2") != "", "images that were there before are kept"
    assert undo(remote, confirm=lambda question: True).undone == ()
