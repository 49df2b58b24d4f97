"""Bare hosts become hosts with Docker, whatever gets in the way."""

from __future__ import annotations

import pytest

from remotedl.provision.apply import converge, preview
from remotedl.provision.steps import Wish
from tests.lab.fixtures import MakeHost
from tests.lab_tests.provision.conftest import LogIn, Told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
NO_GPU = Wish(gpus=False)


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_bare_host_gets_docker_and_a_second_run_plans_nothing(
    make_host: MakeHost, log_in: LogIn, told: Told, release: str
) -> None:
    host = make_host(release=release)
    remote = log_in(host)

    outcome = converge(remote, NO_GPU, report=told)

    assert outcome.facts.engine.works and outcome.facts.engine.access == "sudo"
    assert "start a container" in host.sh(
        "docker run --rm debian:bookworm-slim echo start a container"
    )
    assert host.sh("systemctl is-enabled docker") == "enabled\n"
    assert preview(remote, NO_GPU).steps == ()
    again = converge(remote, NO_GPU)
    assert again.done == ()
