"""The lab's registry, package repositories and GPU double, each used as the product would."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.lab.aptrepo import PackageMirrors
from tests.lab.fixtures import MakeHost
from tests.lab.gpu import Gpu, GpuDouble
from tests.lab.host import Host
from tests.lab.images import Release
from tests.lab.services import Registry

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


def add_repository(host: Host, name: str, key_url: str, line: str) -> None:
    key = f"/etc/apt/keyrings/{name}.asc"
    with urllib.request.urlopen(key_url, timeout=10) as answer:
        host.write(key, answer.read().decode())
    host.write(f"/etc/apt/sources.list.d/{name}.list", f"deb [signed-by={key}] {line}\n")


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_the_engine_and_the_toolkit_come_from_the_mirrors(
    make_host: MakeHost, package_mirrors: PackageMirrors, release: Release
) -> None:
    host = make_host(release=release)
    GpuDouble(host).install(Gpu(0), Gpu(1, used=70_000, utilisation=98, pids=(1,)))
    docker, nvidia = package_mirrors.docker, package_mirrors.nvidia
    line = f"{docker}/debian {release} stable"
    add_repository(host, "docker", f"{docker}/debian/gpg", line)
    add_repository(host, "nvidia", f"{nvidia}/gpgkey", f"{nvidia}/stable/deb/$(ARCH) /")
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends"
    host.sh("apt-get update -q")
    host.sh(f"{install} docker-ce docker-ce-cli containerd.io docker-buildx-plugin")
    assert host.sh("docker buildx version; systemctl is-active docker").endswith("active\n")

    host.sh(f"{install} nvidia-container-toolkit nvidia-container-toolkit-base")
    host.write("/etc/docker/daemon.json", json.dumps({"log-driver": "local"}))
    host.sh("nvidia-ctk runtime configure --runtime=docker --enable-cdi")
    host.sh("nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml")
    settings = json.loads(host.read("/etc/docker/daemon.json"))
    assert settings["log-driver"] == "local" and "nvidia" in settings["runtimes"]
    if release == "bookworm":
        del settings["features"]["cdi"]  # unknown to 20.10
        host.write("/etc/docker/daemon.json", json.dumps(settings))
    host.sh("systemctl restart docker")

    query = "debian:bookworm-slim nvidia-smi --query-gpu=index,uuid --format=csv,noheader"
    second = f"0, {Gpu(1).uuid}\n"
    runtime = f"--runtime=nvidia -e NVIDIA_VISIBLE_DEVICES={Gpu(1).uuid}"
    assert host.sh(f"docker run --rm {runtime} {query}") == second
    assert host.sh(f"docker run --rm --gpus device=1 {query}") == second
    if release == "trixie":
        assert host.sh(f"docker run --rm --device nvidia.com/gpu=1 {query}") == second
        every = host.sh(f"docker run --rm --device nvidia.com/gpu=all {query}")
        assert every == f"0, {Gpu(0).uuid}\n1, {Gpu(1).uuid}\n"


def test_the_gpu_double_looks_like_a_driver(make_host: MakeHost) -> None:
    host = make_host(release="trixie")
    double = GpuDouble(host)
    double.install(Gpu(0), Gpu(1, used=100, utilisation=50, pids=(77,)))
    host.restart()
    assert host.sh("cat /sys/bus/pci/devices/*/vendor").split() == ["0x10de", "0x10de"]
    assert host.read("/sys/module/nvidia/version") == "580.159.04\n"
    assert "NVRM version" in host.read("/proc/driver/nvidia/version")
    assert host.sh("ls /dev/nvidia*").split() == [
        "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl",
    ]  # fmt: skip
    report = host.sh("nvidia-smi -q -x")
    assert report.count("<gpu id=") == 2 and "<pid>77</pid>" in report
    double.break_driver("Failed to initialize NVML: Driver/library version mismatch")
    assert host.exec(["nvidia-smi"], check=False).returncode == 18
    double.mend_driver()
    assert "580.159.04" in host.sh("nvidia-smi")


def test_an_image_has_one_name_on_every_host(engine_host: Host, registry: Registry) -> None:
    registry.open_on(engine_host)
    name = registry.name(f"lab/{engine_host.name}:1")
    engine_host.sh(f"docker tag debian:bookworm-slim {name} && docker push -q {name}")
    engine_host.sh(f"docker rmi -f {name} && docker pull -q {name} && docker rmi {name}")
