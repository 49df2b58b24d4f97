"""The lab's registry and GPU double, each used as the product would.

Its package repositories are held by tests/lab_tests/provision/test_gpu.py.
"""

from __future__ import annotations

import pytest

from tests.lab.fixtures import MakeHost
from tests.lab.gpu import Gpu, GpuDouble
from tests.lab.host import Host
from tests.lab.services import Registry

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


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
