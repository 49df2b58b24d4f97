"""Waits for what is at work on a host: cloud-init's first boot, and the package manager.

Locks are waited for and never broken, and nobody's process is ended.
"""

from __future__ import annotations

from typing import Protocol

from remotedl.errors import StepFailed
from remotedl.provision.facts import Lock
from remotedl.provision.frame import NOTHING
from remotedl.provision.parse import parse_locks
from remotedl.provision.probe import ask
from remotedl.report import Report
from remotedl.ssh.remote import Remote

PACKAGE_TOOLS = ("apt-get", "dpkg", "dnf", "yum", "zypper", "pacman", "amazon-linux-extras")
LIMIT_S = 900.0
BETWEEN_S = 1.0


class Clock(Protocol):
    """Time, as `time` the module tells it."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


def wait_cloud_init(remote: Remote, report: Report, clock: Clock) -> None:
    """Until a cloud machine has set itself up; it installs packages on its first boot."""
    began = clock.monotonic()
    while True:
        state = (ask(remote, "waits").get("cloud_init", NOTHING).lines or ["absent"])[0]
        waited = clock.monotonic() - began
        if state != "running":
            _tell_end(report, "waiting for cloud-init", waited)
            return
        if waited > LIMIT_S:
            raise StepFailed(
                f"{remote.name}: cloud-init is still at work after {LIMIT_S / 60:.0f} minutes",
                hint=f"ssh {remote.name} cloud-init status --long",
            )
        report.progress("waiting for cloud-init", waited, None, "s")
        clock.sleep(BETWEEN_S)


def wait_packages(remote: Remote, report: Report, clock: Clock) -> None:
    """Until nobody holds the package manager. Raises StepFailed after LIMIT_S."""
    began = clock.monotonic()
    what = ""
    while True:
        locks = parse_locks(ask(remote, "waits").get("locks", NOTHING))
        waited = clock.monotonic() - began
        if not locks:
            _tell_end(report, what, waited)
            return
        if not what:
            report.note(f"{_holder(locks[0])} holds the package manager: waiting until it is done")
        what = f"waiting for {_holder(locks[0])}"
        if waited > LIMIT_S:
            raise StepFailed(
                f"{remote.name}: {_holder(locks[0])} has held {locks[0].path} for "
                f"{LIMIT_S / 60:.0f} minutes",
                hint=f"ssh {remote.name} ps -fp {locks[0].pid}",
            )
        report.progress(what, waited, None, "s")
        clock.sleep(BETWEEN_S)


def _holder(lock: Lock) -> str:
    return f"{lock.holder or 'another process'} (process {lock.pid})"


def _tell_end(report: Report, what: str, waited: float) -> None:
    if what and waited >= BETWEEN_S:
        report.progress(what, waited, waited, "s")
