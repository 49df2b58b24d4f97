"""What gets in the way of provisioning, one after the other on one bare host.

The tests run in this order: those that must change nothing come first and leave it bare.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from remotedl.errors import StepFailed, SudoRefused, UnsupportedHost
from remotedl.provision.apply import converge
from remotedl.provision.steps import Wish
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host, HostOptions
from tests.lab.run import LabRun
from tests.lab_tests.provision.conftest import LogIn, Password, Told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
NO_GPU = Wish(gpus=False)
HOLD_APT = """
import fcntl, sys
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def bare(lab_run: LabRun) -> Iterator[Host]:
    host = Host(lab_run, lab_run.fresh_name("awkward"), HostOptions("bookworm"))
    host.create()
    yield host
    host.remove()


def untouched(host: Host) -> bool:
    """Neither a package nor the journal came."""
    return host.sh("ls -d /var/lib/remotedl /usr/bin/curl 2>/dev/null || true") == ""


def test_a_user_without_sudo_is_refused_before_anything_changes(bare: Host, log_in: LogIn) -> None:
    with pytest.raises((UnsupportedHost, SudoRefused)) as refused:
        converge(log_in(bare, "cyd", Password("cydcyd")), NO_GPU)

    assert "native" in refused.value.hint
    assert untouched(bare)


def test_a_wrong_sudo_password_changes_nothing(bare: Host, log_in: LogIn) -> None:
    with pytest.raises(SudoRefused):
        converge(log_in(bare, "bob", Password("wrong")), NO_GPU)

    assert untouched(bare)


def test_nobody_to_type_sudos_password_is_said_as_that(bare: Host, log_in: LogIn) -> None:
    with pytest.raises(SudoRefused, match="asks for the password of bob, and nobody typed it"):
        converge(log_in(bare, "bob", Password(None)), NO_GPU)

    assert untouched(bare)


def test_a_nearly_full_disk_is_refused_before_anything_changes(
    make_host: MakeHost, log_in: LogIn
) -> None:
    host = make_host(engine_disk="600m")

    with pytest.raises(UnsupportedHost, match=r"nearly full.*/var/lib/docker"):
        converge(log_in(host), NO_GPU)

    assert untouched(host)


def test_a_disk_that_fills_up_is_told_and_the_next_run_goes_on(bare: Host, log_in: LogIn) -> None:
    bare.sh("mount -t tmpfs -o size=64k none /var/cache/apt/archives")
    try:
        with pytest.raises(StepFailed, match="a disk of the host is full") as failed:
            converge(log_in(bare), NO_GPU)
    finally:
        bare.sh("umount /var/cache/apt/archives")

    assert "df -h" in failed.value.hint


def test_a_held_apt_is_waited_for_and_sudo_with_a_password_is_asked_once(
    bare: Host, log_in: LogIn, told: Told
) -> None:
    argv = ["docker", "exec", "-i", bare.container, "python3", "-c", HOLD_APT]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    bob = Password("bobbob")
    let_go = holder.stdin.close
    told.on_wait = lambda what: let_go() if "python3" in what else None

    outcome = converge(log_in(bare, "bob", bob), NO_GPU, report=told)

    assert holder.wait() == 0, "the holder came to its own end"
    assert any("python3" in what for what in told.waits)
    assert any("holds the package manager" in note for note in told.notes)
    assert bob.asked == 1
    assert outcome.facts.engine.access == "sudo" and outcome.facts.engine.version
