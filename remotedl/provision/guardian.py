"""What may go wrong under a running container: noticed early, named, the mend offered.

`watch` reads (one round trip, cheap enough for every minute), `judge` is pure and compares with
the reading before. Nothing is mended here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from remotedl.provision.facts import Space
from remotedl.provision.findings import Finding, Grade, Place
from remotedl.provision.frame import NOTHING, Section, parse_pairs, whole
from remotedl.provision.parse import parse_space
from remotedl.provision.probe import ask
from remotedl.provision.symptoms import recognise
from remotedl.ssh.remote import Remote

NEARLY_FULL = 0.05
"""Share of a disk that is free; and bytes, for big disks."""
LITTLE = 10_000_000_000
LISTED = re.compile(r"^GPU \d+: (.*?) \(UUID: (\S+)\)", re.MULTILINE)
SINCE_BOOT = re.compile(r"\[\s*(\d+)\.\d+\]")


@dataclass(frozen=True, slots=True)
class Readings:
    """One look at the host and at the container on it."""

    host_gpus: tuple[str, ...] = ()
    """UUIDs that the driver lists."""
    host_said: str = ""
    """What nvidia-smi said instead."""
    container_gpus: tuple[str, ...] = ()
    container_said: str = ""
    asked_container: bool = False
    disks: tuple[Space, ...] = ()
    kernel: tuple[str, ...] = ()
    uptime: int = 0


def watch(remote: Remote, container: str, *, sudo: bool = False, sys_root: str = "") -> Readings:
    """Look now. `container`: name or id, "" for none. Raises ProvisionError, LinkLost.

    `sudo`: the engine is reached through a sudo that asks for a password.
    """
    return readings(ask(remote, "guard", sys_root, [container], root=sudo))


def readings(sections: Mapping[str, Section]) -> Readings:
    host = sections.get("host_gpus", NOTHING)
    inside = sections.get("container_gpus", NOTHING)
    listed, listed_inside = _uuids(host), _uuids(inside)
    disks = {space.mount: space for space in parse_space(sections.get("disk", NOTHING)).values()}
    return Readings(
        host_gpus=listed,
        host_said="" if listed or host.code == 127 else host.text.strip(),
        container_gpus=listed_inside,
        container_said="" if listed_inside else inside.text.strip(),
        asked_container="container_gpus" in sections,
        disks=tuple(sorted(disks.values(), key=lambda space: space.mount)),
        kernel=tuple(sections.get("kernel_says", NOTHING).lines),
        uptime=whole(parse_pairs(sections.get("clock", NOTHING)).get("uptime", "")),
    )


def judge(before: Readings | None, now: Readings, host: str) -> tuple[Finding, ...]:
    """What is wrong now, and was not (or was not known) `before`."""
    was = {finding.name for finding in _troubles(None, before, host)} if before else set[str]()
    found = _troubles(before, now, host)
    return tuple(finding for finding in found if finding.name not in was)


def _troubles(before: Readings | None, now: Readings, host: str) -> list[Finding]:
    found = list[Finding]()
    for symptom in recognise(now.host_said)[:1]:
        mend = symptom.mend.format(host=host)
        text = symptom.meaning
        found.append(Finding(symptom.name, Place.GPU, Grade.BAD, text, symptom.cause, mend))
    if now.host_gpus and now.asked_container and not now.container_gpus:
        found += _lost_in_container(now, host)
    found += _off_the_bus(before, now, host)
    for space in now.disks:
        if space.total and space.free < min(LITTLE, space.total * NEARLY_FULL):
            what = f"{space.mount} is nearly full: {space.free / 1e9:.1f} GB left"
            cause = "images, build layers, checkpoints"
            mend = f"remotedl image prune --host {host}"
            name = f"disk {space.mount}"
            found.append(Finding(name, Place.DISK, Grade.WARN, what, cause, mend))
    return found


def _lost_in_container(now: Readings, host: str) -> list[Finding]:
    for symptom in recognise(now.container_said)[:1]:
        mend = symptom.mend.format(host=host)
        text = symptom.meaning
        return [Finding(symptom.name, Place.GPU, Grade.BAD, text, symptom.cause, mend)]
    return []


def _off_the_bus(before: Readings | None, now: Readings, host: str) -> list[Finding]:
    gone = sorted(set(before.host_gpus) - set(now.host_gpus)) if before else []
    crashed = [line for line in now.kernel if _is_crash(line) and _recent(line, before)]
    if not crashed and (not gone or now.host_said):
        return []
    what = f"a GPU is gone: {', '.join(gone)}" if gone else f"a GPU crashed: {crashed[-1].strip()}"
    return [
        Finding(
            "gpu-off-the-bus",
            Place.GPU,
            Grade.BAD,
            what,
            "power, heat, a loose card or a crash of its firmware",
            f"remotedl provision {host} --reboot",
        )
    ]


def _is_crash(line: str) -> bool:
    return any(symptom.name == "gpu-off-the-bus" for symptom in recognise(line))


def _recent(line: str, before: Readings | None) -> bool:
    """Said since the reading before; dmesg's clock runs from boot."""
    if before is None:
        return True
    match = SINCE_BOOT.match(line)
    return match is not None and int(match.group(1)) >= before.uptime


def _uuids(section: Section) -> tuple[str, ...]:
    return tuple(uuid for _, uuid in LISTED.findall(section.text)) if section.code == 0 else ()
