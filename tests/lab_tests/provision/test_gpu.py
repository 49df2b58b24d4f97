"""The Container Toolkit and Docker's settings, with doubles of a GPU and of the repositories."""

from __future__ import annotations

import json

import pytest

from remotedl.errors import UnsupportedHost
from remotedl.provision.apply import converge, preview
from remotedl.provision.examine import examine, fix
from remotedl.provision.findings import Grade
from remotedl.provision.gpus import claim, held_by_others, look_at_gpus, release, views
from remotedl.provision.guardian import judge, watch
from remotedl.provision.steps import Wish
from remotedl.provision.undo import undo
from remotedl.provision.undo_plan import APT_LISTS
from remotedl.session.gpu_claims import take_gpus
from tests.lab.aptrepo import PackageMirrors
from tests.lab.fixtures import MakeHost
from tests.lab.gpu import Gpu, GpuDouble
from tests.lab.images import Release
from tests.lab_tests.provision.conftest import LogIn, Told
from tests.lab_tests.provision.test_undo import assert_same, picture

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
THEIRS = '{\n  "log-driver": "local", "labels": ["rack=7"]\n}\n'


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_docker_and_toolkit_from_mirrors_with_settings_of_others_kept(
    make_host: MakeHost, log_in: LogIn, package_mirrors: PackageMirrors, release: Release
) -> None:
    """The engine of the one knows GPUs by the nvidia runtime alone, that of the other CDI too."""
    cdi = release == "trixie"
    host = make_host(release=release)
    GpuDouble(host).install(Gpu(0), Gpu(1))
    wish = Wish(docker_mirror=package_mirrors.docker, nvidia_mirror=package_mirrors.nvidia)
    remote = log_in(host)
    host.write("/etc/docker/daemon.json", "{ broken")
    with pytest.raises(UnsupportedHost, match="no valid JSON at line 1"):
        converge(remote, wish)
    host.write("/etc/docker/daemon.json", THEIRS)
    before = picture(host)

    outcome = converge(remote, wish)

    assert [step.name for step in outcome.done] == [
        "refresh-packages",
        "install-fetchers",
        "add-docker-repository",
        "install-docker",
        "add-toolkit-repository",
        "install-toolkit",
        "write-docker-settings",
        *(["describe-gpus"] if cdi else []),
        "restart-docker",
    ]
    settings = json.loads(host.read("/etc/docker/daemon.json"))
    assert settings["log-driver"] == "local" and settings["labels"] == ["rack=7"]
    assert "nvidia" in settings["runtimes"]
    assert settings.get("features") == ({"cdi": True} if cdi else None)
    assert "nvidia" in outcome.facts.engine.runtimes
    assert bool(outcome.facts.engine.cdi_dirs) == cdi
    assert outcome.facts.toolkit.version.startswith("1.20")
    runtime = f"--runtime=nvidia -e NVIDIA_VISIBLE_DEVICES={Gpu(1).uuid}"
    ways = [runtime, "--device nvidia.com/gpu=1"] if cdi else [runtime]
    for way in ways:
        listed = host.sh(f"docker run --rm {way} debian:bookworm-slim nvidia-smi -L")
        assert Gpu(1).uuid in listed and Gpu(0).uuid not in listed
    assert preview(remote, wish).steps == ()

    undone = undo(remote, confirm=lambda question: True)

    assert undone.left == (APT_LISTS,)
    assert host.read("/etc/docker/daemon.json") == THEIRS
    assert_same(before, picture(host))


def test_a_restart_under_running_containers_is_asked_for_and_gpus_are_seen(
    make_host: MakeHost, log_in: LogIn, told: Told, package_mirrors: PackageMirrors
) -> None:
    host = make_host(release="trixie", engine=True)
    gpus = GpuDouble(host)
    gpus.install()
    host.sh("docker run -d --name other debian:bookworm-slim sleep 1000")
    wish = Wish(nvidia_mirror=package_mirrors.nvidia)
    remote = log_in(host)
    asked: list[str] = []

    declined = converge(remote, wish, report=told, confirm=asked.append)  # type: ignore[arg-type, func-returns-value]

    assert [step.name for step in declined.declined] == ["restart-docker"]
    assert asked == ["Restart Docker? It stops 1 running: other"]
    assert host.sh("docker inspect -f '{{.State.Running}}' other") == "true\n"

    accepted = converge(remote, wish, confirm=lambda question: True)

    assert [step.name for step in accepted.done] == ["restart-docker"]
    assert "nvidia" in accepted.facts.engine.runtimes

    # the doctor says ready but for the container's end, and mends what is safe to mend
    host.sh("rm /etc/cdi/nvidia.yaml; mkdir -p /home/ada/.docker; chown root: /home/ada/.docker")
    found = examine(remote, host=host.login.host_config(), host_name="h1")
    names = {finding.name for finding in found if finding.grade is not Grade.GOOD}
    assert {"specification-missing", "docker-config-stolen"} <= names
    fix(remote, [finding for finding in found if finding.place.value != "laptop"])
    again = examine(remote, host=host.login.host_config(), host_name="h1")
    assert not names & {"specification-missing"} & {f.name for f in again}
    assert host.sh("stat -c %U /home/ada/.docker") == "ada\n"

    # who uses the GPUs, and who would like to
    claim(remote, ["0"], project="p-012345", user="ada@laptop", until=4_000_000_000)
    (view,) = views(look_at_gpus(log_in(host, "bob")))
    assert [(h.kind, h.user) for h in view.holders][-1] == ("claim", "ada")
    bob = log_in(host, "bob")
    assert held_by_others(look_at_gpus(bob), "bobs") == {0}
    assert take_gpus(bob, "auto:1", "bobs", accepted.facts) == ("0",), "there is no other one"
    claims = look_at_gpus(remote).claims
    assert {(one.user, one.gpus) for one in claims} == {("ada", ("0",)), ("bob", ("0",))}
    assert held_by_others(look_at_gpus(remote), "p-012345") == {0}
    release(bob, "bobs")
    release(remote, "p-012345")
    assert all(c.user != "ada" for c in look_at_gpus(remote).claims)

    # the guardian sees the driver go wrong under the container
    well = watch(remote, "")
    assert judge(None, well, "h1") == ()
    said = "Failed to initialize NVML: Driver/library version mismatch"
    gpus.break_driver(said)
    assert [f.name for f in judge(well, watch(remote, ""), "h1")] == ["driver-mismatch"]
