"""One provisioning at a time on a host, whoever runs it and from wherever.

The lock is flock(2) on a file of root's, held by a process on the host whose stdin is our
channel: when the laptop, the link or remotedl dies, the channel ends, and with it the lock.
Nothing is left to be cleaned up, and no lock file is ever taken for a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from remotedl.errors import ProvisionError, StepFailed
from remotedl.provision.waiting import BETWEEN_S, LIMIT_S, Clock
from remotedl.report import Report
from remotedl.ssh.remote import Process, Remote, read_line

LOCK_FILE = "/run/remotedl-provision.lock"
HOLD = "flock -n 9 || { echo busy; exit; }; echo held; cat >/dev/null"
SCRIPT = f"exec 9>{LOCK_FILE}; {HOLD}"


@contextmanager
def held(remote: Remote, report: Report, clock: Clock) -> Iterator[None]:
    """Hold the host's lock; waits while another remotedl has it. Raises StepFailed at last."""
    began = clock.monotonic()
    told = False
    while (process := _try(remote)) is None:
        if not told:
            report.note(f"another remotedl provisions {remote.name}: waiting until it is done")
            told = True
        waited = clock.monotonic() - began
        if waited > LIMIT_S:
            raise StepFailed(
                f"{remote.name}: another remotedl has provisioned for {LIMIT_S / 60:.0f} minutes",
                hint=f"ssh {remote.name} sudo fuser -v {LOCK_FILE}",
            )
        report.progress("waiting for the other remotedl", waited, None, "s")
        clock.sleep(BETWEEN_S)
    try:
        yield
    finally:
        process.close()


def _try(remote: Remote) -> Process | None:
    """The process that holds the lock, or None where another one does."""
    process = remote.start(["sh", "-c", SCRIPT], sudo=True)
    answer = read_line(process)
    if answer == b"held\n":
        return process
    process.close()
    if answer == b"busy\n":
        return None
    raise ProvisionError(f"{remote.name}: the lock {LOCK_FILE} cannot be had: {answer!r}")
