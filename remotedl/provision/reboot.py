"""Restarts a host and waits until it is back, as another boot of the same machine."""

from __future__ import annotations

from collections.abc import Callable

from remotedl.errors import ProvisionError, RemotedlError
from remotedl.provision.frame import NOTHING, parse_pairs
from remotedl.provision.probe import ask
from remotedl.provision.waiting import BETWEEN_S, Clock
from remotedl.report import Report
from remotedl.ssh.remote import Remote

LIMIT_S = 900.0
"""Servers with much memory take minutes to check it."""

Reconnect = Callable[[], Remote]


def restart(remote: Remote, reconnect: Reconnect, report: Report, clock: Clock) -> Remote:
    """Reboot, and give a new connection to the host once it is up. Raises ProvisionError."""
    before = boot_of(remote)
    try:
        remote.sudo(["systemctl", "reboot"], check=False, timeout_s=30.0)
    except (RemotedlError, TimeoutError):
        pass  # the link goes with the host
    began = clock.monotonic()
    while (waited := clock.monotonic() - began) < LIMIT_S:
        report.progress(f"waiting for {remote.name} to come back", waited, None, "s")
        clock.sleep(BETWEEN_S)
        back = _try(reconnect, before)
        if back is not None:
            report.progress(f"waiting for {remote.name} to come back", waited, waited, "s")
            return back
    raise ProvisionError(
        f"{remote.name} was rebooted and has not come back for {LIMIT_S / 60:.0f} minutes",
        hint=f"look at its console, then: remotedl provision {remote.name}",
    )


def boot_of(remote: Remote) -> str:
    return parse_pairs(ask(remote, "waits").get("clock", NOTHING)).get("boot", "")


def _try(reconnect: Reconnect, before: str) -> Remote | None:
    """A connection to the next boot, or None while it is not there."""
    try:
        remote = reconnect()
    except (RemotedlError, OSError):
        return None
    try:
        if boot_of(remote) != before:
            return remote
    except (RemotedlError, TimeoutError):
        pass
    remote.close()
    return None
