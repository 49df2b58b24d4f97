"""A reboot that is needed is said; where it is asked for it is done, and the work goes on."""

from __future__ import annotations

import threading

import pytest

from remotedl.errors import RebootNeeded
from remotedl.provision.apply import converge
from remotedl.provision.steps import Wish
from tests.lab.engine import docker
from tests.lab.fixtures import MakeHost
from tests.lab.gpu import DATA, GpuDouble
from tests.lab_tests.provision.conftest import LogIn, Told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
OLD_MODULE = "/run/old-module"


def test_a_driver_upgraded_underneath_is_mended_by_a_reboot(
    make_host: MakeHost, log_in: LogIn, told: Told
) -> None:
    host = make_host(release="trixie", engine=True)
    GpuDouble(host).install()
    # As after an upgrade of the driver: what is loaded goes with the reboot, and so does /run.
    said = (
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.173"
    )
    host.write(OLD_MODULE, said + "\n")
    host.exec(["ln", "-s", OLD_MODULE, f"{DATA}/broken"])
    wish = Wish(nvidia_mirror="http://127.0.0.1:9")
    with pytest.raises(RebootNeeded, match="another version") as needed:
        converge(log_in(host), wish)
    assert needed.value.hint.endswith("--reboot")
    assert host.sh(f"ls {OLD_MODULE}") != "", "nothing was rebooted unasked"

    def switch_on_again() -> None:
        docker("wait", host.container, timeout_s=120)
        host.start()

    power = threading.Thread(target=switch_on_again)
    told.on_stage = lambda text: power.start() if text == "reboot the host" else None

    outcome = converge(log_in(host), wish, report=told, reconnect=lambda: log_in(host))

    power.join()
    assert [step.name for step in outcome.done] == ["reboot"]
    assert outcome.facts.driver.smi_works
    assert outcome.remote is not None and outcome.remote.run(["true"]).ok
    assert any("to come back" in what for what in told.waits)
