"""Who uses the GPUs of a host, and polite notes about who wants them: `remotedl gpus`.

A claim is a small file on the host that ends by itself: nobody has to clean up, no server keeps
it, and whoever ignores it may. It lies in /tmp, where every user of the host can read it and
only its owner can change or remove it; who that is, the file system says and not the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from remotedl.provision.facts import Gpu, GpuClaim, HostContainer
from remotedl.provision.frame import NOTHING, parse_pairs, whole
from remotedl.provision.parse_engine import parse_containers
from remotedl.provision.parse_gpus import parse_claims, parse_driver
from remotedl.provision.probe import ask
from remotedl.ssh.remote import Remote

RELEASE_S = 10.0
CLAIM_FILE = "/tmp/.remotedl-claim-{name}.json"  # noqa: S108
WRITE = """\
set -e; t=$(mktemp "$1.XXXXXXXX"); trap 'rm -f -- "$t"' EXIT
cat > "$t"; chmod 644 "$t"; mv -fT -- "$t" "$1"
"""


def find_smi(remote: Remote) -> str:
    """Where nvidia-smi lies on the host; "" where there is none. Raises ProvisionError."""
    at = parse_pairs(ask(remote, "smi").get("where_smi", NOTHING))
    return at.get("at", "")


@dataclass(frozen=True, slots=True)
class GpuReport:
    """The GPUs of a host at one moment."""

    gpus: tuple[Gpu, ...]
    claims: tuple[GpuClaim, ...]
    containers: tuple[HostContainer, ...]
    now: int
    """By the host's clock, seconds since 1970."""
    trouble: str = ""
    """What nvidia-smi said instead of an answer."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody on a GPU, or somebody who would like to be."""

    kind: Literal["process", "container", "claim"]
    user: str
    what: str
    """A program, a container or a project."""
    project: str = ""
    """Whose container or claim it is; empty for programs."""
    memory: int = 0
    """Bytes of the GPU."""
    until: int = 0
    """When a claim ends, by the host's clock."""


@dataclass(frozen=True, slots=True)
class GpuView:
    gpu: Gpu
    holders: tuple[Holder, ...] = ()

    @property
    def free(self) -> bool:
        return not self.holders


def look_at_gpus(remote: Remote, *, sys_root: str = "") -> GpuReport:
    """One round trip. Raises ProvisionError, LinkLost."""
    sections = ask(remote, "gpus", sys_root)
    driver, gpus = parse_driver(
        sections.get("driver", NOTHING),
        sections.get("smi", NOTHING),
        sections.get("gpu_processes", NOTHING),
    )
    return GpuReport(
        gpus=gpus,
        claims=parse_claims(sections.get("gpu_claims", NOTHING)),
        containers=parse_containers(sections.get("docker_containers", NOTHING)),
        now=whole(parse_pairs(sections.get("clock", NOTHING)).get("now", "")),
        trouble=driver.smi_said,
    )


def views(report: GpuReport) -> tuple[GpuView, ...]:
    """Each GPU with its holders: programs, running containers that were given it, claims. Pure."""
    return tuple(GpuView(gpu, _holders(gpu, report)) for gpu in report.gpus)


def held_by_others(report: GpuReport, project: str) -> frozenset[int]:
    """Indexes of GPUs that a container or a claim of another project holds. Pure.

    Programs on the bare host do not count: what they use is seen in memory and utilisation.
    """
    return frozenset(
        view.gpu.index
        for view in views(report)
        if any(one.kind != "process" and one.project != project for one in view.holders)
    )


def claim(
    remote: Remote, gpus: Sequence[str], *, project: str, user: str, until: int, name: str = ""
) -> None:
    """Say that `user` wants these GPUs (indexes or UUIDs) until then; renews an earlier claim.

    `name`: what people call the project. A note that cannot be written (a full /tmp) is none:
    nothing depends on it.
    """
    body = {"user": user, "gpus": sorted(gpus), "until": until, "project": project, "name": name}
    argv = ["sh", "-c", WRITE, "claim", _file(remote, project)]
    remote.run(argv, stdin=json.dumps(body).encode(), check=False)


def release(remote: Remote, project: str) -> None:
    """Take the claim back; nothing happens where there is none."""
    remote.run(["rm", "-f", "--", _file(remote, project)], timeout_s=RELEASE_S)


def _file(remote: Remote, project: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]", "_", f"{remote.user}-{project}")
    return CLAIM_FILE.format(name=name)


def _holders(gpu: Gpu, report: GpuReport) -> tuple[Holder, ...]:
    by_id = {container.id: container for container in report.containers}
    holders = list[Holder]()
    seen = set[str]()
    for process in gpu.processes:
        container = by_id.get(process.container)
        if container is None:
            holders.append(Holder("process", process.user, process.name, "", process.memory))
            continue
        seen.add(container.id)
        user = container.owner or process.user
        holders.append(Holder("container", user, container.name, container.project, process.memory))
    names = {str(gpu.index), gpu.uuid, "all"}
    for container in report.containers:
        if container.running and container.id not in seen and names & set(container.gpus):
            holders.append(Holder("container", container.owner, container.name, container.project))
    for one in report.claims:
        if one.until > report.now and names & set(one.gpus):
            what = one.name or one.project
            holders.append(Holder("claim", one.user, what, one.project, until=one.until))
    return tuple(holders)
