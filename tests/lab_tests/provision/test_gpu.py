"""The Container Toolkit and Docker's settings, with doubles of a GPU and of the repositories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotedl.errors import UnsupportedHost
from remotedl.provision.apply import converge, preview
from remotedl.provision.examine import examine, fix
from remotedl.provision.findings import Grade
from remotedl.provision.gpus import claim, held_by_others, look_at_gpus, release, views
from remotedl.provision.guardian import judge, watch
from remotedl.provision.steps import Wish
from remotedl.provision.undo import undo
from remotedl.session.idle_gpus import idle_gpus
from tests.lab.fixtures import MakeHost
from tests.lab.run import LabRun
from tests.lab_tests.provision.conftest import LogIn, Told
from tests.lab_tests.provision.gpu_double import SYS_ROOT, put_gpu
from tests.lab_tests.provision.mirror import Mirror, serve_mirror
from tests.lab_tests.provision.test_undo import assert_same, picture

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
THEIRS = '{\n  "log-driver": "local", "labels": ["rack=7"]\n}\n'


@pytest.fixture
def mirror(lab_run: LabRun, tmp_path: Path) -> Iterator[Mirror]:
    with serve_mirror(tmp_path / "mirror", lab_run.gateway, "trixie") as made:
        yield made


def test_docker_and_toolkit_from_mirrors_with_settings_of_others_kept(
    make_host: MakeHost, log_in: LogIn, told: Told, mirror: Mirror
) -> None:
    host = make_host(release="trixie")
    put_gpu(host)
    wish = Wish(docker_mirror=mirror.docker, nvidia_mirror=mirror.nvidia)
    remote = log_in(host)
    host.write("/etc/docker/daemon.json", "{ broken")
    with pytest.raises(UnsupportedHost, match="no valid JSON at line 1"):
        converge(remote, wish, sys_root=SYS_ROOT)
    host.write("/etc/docker/daemon.json", THEIRS)
    before = picture(host)

    outcome = converge(remote, wish, report=told, sys_root=SYS_ROOT)

    assert [step.name for step in outcome.done] == [
        "refresh-packages",
        "install-fetchers",
        "add-docker-repository",
        "install-docker",
        "add-toolkit-repository",
        "install-toolkit",
        "write-docker-settings",
        "describe-gpus",
        "restart-docker",
    ]
    settings = json.loads(host.read("/etc/docker/daemon.json"))
    assert settings["log-driver"] == "local" and settings["labels"] == ["rack=7"]
    assert settings["features"] == {"cdi": True} and "nvidia" in settings["runtimes"]
    assert "nvidia" in outcome.facts.engine.runtimes and outcome.facts.engine.cdi_dirs
    assert outcome.facts.toolkit.version == "1.20.1"
    run = "docker run --rm {} debian:bookworm-slim sh -c 'echo $GPU_DOUBLE'"
    assert host.sh(run.format("--runtime=nvidia")) == "\n"
    assert host.sh(run.format("--device nvidia.com/gpu=all")) == "all\n"
    assert preview(remote, wish, sys_root=SYS_ROOT).steps == ()

    undone = undo(remote, confirm=lambda question: True)

    assert undone.left == ()
    assert host.read("/etc/docker/daemon.json") == THEIRS
    assert_same(before, picture(host))


def test_a_restart_under_running_containers_is_asked_for_and_gpus_are_seen(
    make_host: MakeHost, log_in: LogIn, told: Told, mirror: Mirror
) -> None:
    host = make_host(release="trixie", engine=True)
    put_gpu(host)
    host.sh("docker run -d --name other debian:bookworm-slim sleep 1000")
    wish = Wish(nvidia_mirror=mirror.nvidia)
    remote = log_in(host)
    asked: list[str] = []

    declined = converge(remote, wish, report=told, sys_root=SYS_ROOT, confirm=asked.append)  # type: ignore[arg-type, func-returns-value]

    assert [step.name for step in declined.declined] == ["restart-docker"]
    assert asked == ["Restart Docker? It stops 1 running: other"]
    assert host.sh("docker inspect -f '{{.State.Running}}' other") == "true\n"

    accepted = converge(remote, wish, sys_root=SYS_ROOT, confirm=lambda question: True)

    assert [step.name for step in accepted.done] == ["restart-docker"]
    assert "nvidia" in accepted.facts.engine.runtimes

    # the doctor says ready but for the container's end, and mends what is safe to mend
    host.sh("rm /etc/cdi/nvidia.yaml; mkdir -p /home/ada/.docker; chown root: /home/ada/.docker")
    found = examine(remote, host=host.login.host_config(), host_name="h1", sys_root=SYS_ROOT)
    names = {finding.name for finding in found if finding.grade is not Grade.GOOD}
    assert {"specification-missing", "docker-config-stolen"} <= names
    fix(remote, [finding for finding in found if finding.place.value != "laptop"])
    again = examine(remote, host=host.login.host_config(), host_name="h1", sys_root=SYS_ROOT)
    assert not names & {"specification-missing"} & {f.name for f in again}
    assert host.sh("stat -c %U /home/ada/.docker") == "ada\n"

    # who uses the GPUs, and who would like to
    claim(remote, ["0"], project="p-012345", user="ada@laptop", until=4_000_000_000)
    (view,) = views(look_at_gpus(log_in(host, "bob"), sys_root=SYS_ROOT))
    assert [(h.kind, h.user) for h in view.holders][-1] == ("claim", "ada@laptop")
    bob = log_in(host, "bob")
    assert held_by_others(look_at_gpus(bob), "bobs") == {0}
    assert idle_gpus(bob, "auto:1", "bobs", accepted.facts) == ("0",), "there is no other one"
    claims = look_at_gpus(remote).claims
    assert {(one.host_user, one.gpus) for one in claims} == {("ada", ("0",)), ("bob", ("0",))}
    assert held_by_others(look_at_gpus(remote), "p-012345") == {0}
    release(bob, "bobs")
    release(remote, "p-012345")
    assert all(c.user != "ada@laptop" for c in look_at_gpus(remote, sys_root=SYS_ROOT).claims)

    # the guardian sees the driver go wrong under the container
    well = watch(remote, "", sys_root=SYS_ROOT)
    assert judge(None, well, "h1") == ()
    said = "Failed to initialize NVML: Driver/library version mismatch"
    host.write("/usr/local/bin/nvidia-smi", f"#!/bin/sh\necho '{said}'; exit 18\n", mode=0o755)
    assert [f.name for f in judge(well, watch(remote, ""), "h1")] == ["driver-mismatch"]
