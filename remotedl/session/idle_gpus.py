"""`gpus = "auto:N"`: the idlest GPUs of a shared host, looked at just before they are taken.

The facts of provisioning may be an image's build old by then. The choice is announced to the host's
other users by a claim that ends by itself; from its start on, the container's label says the same.
"""

from __future__ import annotations

from dataclasses import replace

from remotedl.container.gpus import choose_devices
from remotedl.provision.facts import HostFacts
from remotedl.provision.gpus import GpuReport, claim, held_by_others, look_at_gpus
from remotedl.session.job_gpus import gpu_load
from remotedl.ssh.remote import Remote

CLAIM_S = 300


def idle_gpus(remote: Remote, wanted: str, project: str, facts: HostFacts) -> tuple[str, ...]:
    """Indexes. Raises ContainerError where the host has too few, ProvisionError, LinkLost."""
    report = look_at_gpus(remote)
    if not report.gpus:
        report = GpuReport(facts.gpus, facts.claims, (), facts.now)
    if not report.containers:
        # The look goes without sudo's password, and may not see them.
        report = replace(report, containers=facts.engine.containers)
    held = held_by_others(report, project)
    loads = [replace(gpu_load(gpu), held=gpu.index in held) for gpu in report.gpus]
    devices = choose_devices(wanted, loads)
    claim(remote, devices, project=project, user=remote.user, until=report.now + CLAIM_S)
    return devices
