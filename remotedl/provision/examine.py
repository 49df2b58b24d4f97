"""`remotedl doctor`: looks at laptop, link and host, and repairs what can be repaired safely."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from remotedl.config.models import HostConfig, SudoMode
from remotedl.errors import RemotedlError, SudoRefused
from remotedl.provision.apply import SYSTEM_CLOCK, carry_out
from remotedl.provision.doctor import findings_of_host
from remotedl.provision.doctor_laptop import findings_of_laptop
from remotedl.provision.findings import Finding, Grade, LocalFix, Place, in_order
from remotedl.provision.laptop import look_at_laptop
from remotedl.provision.probe import gather
from remotedl.provision.steps import Step, wish_of
from remotedl.provision.waiting import Clock
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Remote

SLOW_LINK_S = 0.5
PING_LIMIT_S = 10.0


def examine(
    remote: Remote | None,
    *,
    host_name: str = "",
    host: HostConfig | None = None,
    project: Path | None = None,
    ports: Sequence[int] = (8888, 6006),
    own_ports: Sequence[int] = (),
    link_error: RemotedlError | None = None,
    now: Callable[[], float] = time.time,
    sys_root: str = "",
) -> list[Finding]:
    """All findings, the worst first. Without a host, the laptop's alone.

    `link_error`: why there is no `remote`. What goes wrong on the way is itself a finding.
    """
    identity = host.identity_file if host is not None else None
    laptop = look_at_laptop(
        identity_file=identity, project=project, ports=ports, own_ports=own_ports
    )
    found = findings_of_laptop(laptop)
    if remote is not None:
        # We are in: the key came from ~/.ssh/config, or a password does.
        found = [finding for finding in found if finding.name != "no-keys"]
    if link_error is not None:
        found.append(_as_finding("link", Place.LINK, link_error))
    if remote is not None and host is not None:
        found += _host_findings(remote, host_name or remote.name, host, now, sys_root)
    return list(in_order(found))


def fix(
    remote: Remote | None,
    findings: Sequence[Finding],
    *,
    report: Report = SILENT,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Finding]:
    """Do the safe repairs; returns the findings that were repaired. On the host they go through
    the journal, so that `provision --undo` knows them. Raises StepFailed, SudoRefused."""
    mended = [finding for finding in findings if isinstance(finding.fix, LocalFix)]
    for finding in mended:
        if isinstance(finding.fix, LocalFix):
            Path(finding.fix.path).chmod(finding.fix.mode)
            report.note(f"chmod {finding.fix.mode:o} {finding.fix.path}")
    on_host = [finding for finding in findings if isinstance(finding.fix, Step)]
    steps = [finding.fix for finding in on_host if isinstance(finding.fix, Step)]
    if remote is not None and steps:
        carry_out(remote, steps, report=report, clock=clock)
        mended += on_host
    return mended


def _host_findings(
    remote: Remote, name: str, host: HostConfig, now: Callable[[], float], sys_root: str
) -> list[Finding]:
    wish = wish_of(host)
    refused: list[Finding] = []
    try:
        trip = remote.ping(PING_LIMIT_S)
        try:
            facts = gather(remote, wish, sys_root=sys_root)
        except SudoRefused as exc:
            refused.append(_as_finding("sudo", Place.HOST, exc))
            facts = gather(remote, replace(wish, sudo=SudoMode.NONE), sys_root=sys_root)
    except RemotedlError as exc:
        return [_as_finding("host", Place.HOST, exc)]
    grade = Grade.WARN if trip > SLOW_LINK_S else Grade.GOOD
    cause = "edits and terminals will feel slow" if grade is Grade.WARN else ""
    link = Finding("link", Place.LINK, grade, f"{name} answers in {trip * 1000:.0f} ms", cause)
    seen = findings_of_host(facts, wish, name, int(now()), blind=bool(refused))
    return [link, *refused, *seen]


def _as_finding(name: str, place: Place, exc: RemotedlError) -> Finding:
    return Finding(name, place, Grade.BAD, exc.message, mend=exc.hint)
