"""The GPUs of a shared host that a project asks for by name or number, and the notes about it.

They are looked at just before they are taken: the facts of provisioning may be an image's build old
by then. The choice is announced to the host's other users by a claim that ends by itself. A
container's label says the same from its start on; the native runtime has no label, so there a live
session renews the claim, also for the GPUs that its jobs were given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from remotedl.container.gpus import choose_devices
from remotedl.container.jobs import Job
from remotedl.errors import RemotedlError
from remotedl.provision.facts import HostFacts
from remotedl.provision.gpus import GpuReport, claim, held_by_others, look_at_gpus, release, views
from remotedl.report import SILENT, Report
from remotedl.session.job_gpus import given_to, gpu_load
from remotedl.ssh.remote import Remote

CLAIM_S = 300
RENEW_S = CLAIM_S / 3
ALL = ("all",)


def take_gpus(
    remote: Remote,
    wanted: str | int | Sequence[int],
    project: str,
    facts: HostFacts | None,
    report: Report = SILENT,
    *,
    name: str = "",
) -> tuple[str, ...]:
    """Their indexes, claimed. Raises ContainerError where the host has too few, LinkLost.

    What was asked for by number is had, also where somebody else holds it, and so is the idlest
    where none is free; but it is said. `name`: what people call the project.
    """
    seen = _look(remote, facts)
    held = held_by_others(seen, project)
    loads = [replace(gpu_load(gpu), held=gpu.index in held) for gpu in seen.gpus]
    devices = choose_devices(wanted, loads)
    for index in sorted(int(one) for one in devices if one.isdigit()):
        others = others_on(seen, index, project, remote.user)
        if others:
            report.warn(
                f"GPU {index} of {remote.name} is not yours alone: {', '.join(others)}",
                hint=f"remotedl gpus {remote.name} shows which are free",
            )
    if devices not in ((), ALL):
        until = seen.now + CLAIM_S
        claim(remote, devices, project=project, user=remote.user, until=until, name=name)
    return devices


def others_on(report: GpuReport, index: int, project: str, user: str) -> list[str]:
    """Who else is on a GPU, or is about to be: programs of other users, other projects. Pure."""
    [view] = [view for view in views(report) if view.gpu.index == index]
    return [
        f"{one.what} of {one.user}"
        for one in view.holders
        if (one.user != user if one.kind == "process" else one.project != project)
    ]


def _look(remote: Remote, facts: HostFacts | None) -> GpuReport:
    report = look_at_gpus(remote)
    if facts is None:
        return report
    if not report.gpus:
        report = GpuReport(facts.gpus, facts.claims, (), facts.now)
    if not report.containers:
        # The look goes without sudo's password, and may not see them.
        report = replace(report, containers=facts.engine.containers)
    return report


@contextmanager
def released_on_failure(remote: Remote, project: str) -> Iterator[None]:
    """What the block claims is given back where the block does not come to its end.

    From then on the container's label, or whoever renews the claim, says what is held.
    """
    try:
        yield
    except BaseException:
        with suppress(RemotedlError):  # without a link it ends by itself, CLAIM_S later
            release(remote, project)
        raise


class Claim:
    """What a session of the native runtime holds, renewed for as long as somebody looks."""

    def __init__(
        self,
        project: str,
        devices: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        *,
        name: str = "",
    ) -> None:
        """`devices`: what the services were given; ("all",) is no choice, and claims nothing.

        `name`: what people call the project.
        """
        self._project, self._clock, self._name = project, clock, name
        self._devices = frozenset(devices) - {*ALL}
        self._told: frozenset[str] = frozenset()
        self._next = 0.0

    def renew(self, remote: Remote, jobs: Sequence[Job]) -> None:
        """Say again what is held, if it is time, or at once where that has changed."""
        held = self._devices | (given_to(jobs) - {*ALL})
        if not held or (held == self._told and self._clock() < self._next):
            return
        try:
            now = int(remote.run(["date", "+%s"]).text)
        except (RemotedlError, ValueError):
            return  # a lost link is noticed by others; a claim is a courtesy
        until = now + CLAIM_S
        said = {"project": self._project, "name": self._name, "user": remote.user}
        claim(remote, sorted(held), **said, until=until)
        self._told, self._next = held, self._clock() + RENEW_S
