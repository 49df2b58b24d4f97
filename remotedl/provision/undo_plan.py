"""Which of the journal's changes can be taken back, and which stay because others use them. Pure.

The newest change goes first. What somebody changed after us is theirs: a file with another
content, a package that other packages need by now, a group with members, an engine that runs
other people's containers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from remotedl.provision.facts import HostContainer, HostFacts
from remotedl.provision.journal import Entry, FileBefore
from remotedl.provision.snapshot import Snapshot

ENGINE_PACKAGES = (
    "docker-ce",
    "docker-ce-cli",
    "docker.io",
    "docker-cli",
    "docker",
    "moby-engine",
    "containerd.io",
    "containerd",
    "runc",
)
ENGINE_STEPS = (
    "start-docker",
    "restart-docker",
    "write-docker-settings",
    "describe-gpus",
    "set-docker-proxy",
)
REMOVABLE = ("/var/lib/docker", "/var/lib/containerd", "/etc/docker", "/etc/cdi", "/opt/containerd")
"""Folders that are removed whole, where they were not there before; others only when empty."""


MANY = 10
"""Upgraded packages that are named one by one when they stay upgraded."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something that stays on the host, and why."""

    what: str
    why: str


APT_LISTS = Left(
    "apt's package lists in /var/lib/apt/lists",
    "they are apt's own; the next apt-get update drops those of repositories that are gone",
)
STAYS = {
    "refresh-packages": APT_LISTS,
    "upgrade-system": Left("the upgraded system", "packages are not turned back"),
    "add-el-repositories": Left(
        "the repository CRB, enabled", "others may use it by now; `crb disable` switches it off"
    ),
    "add-containers-module": Left(
        "the Containers Module of SLES",
        "others may use it by now; SUSEConnect --de-register --product takes it away",
    ),
}
"""Steps of which something stays that no snapshot shows."""


@dataclass(frozen=True, slots=True)
class Reversal:
    """How one entry is taken back."""

    entry: Entry
    packages: tuple[str, ...] = ()
    reinstall: tuple[str, ...] = ()
    files: tuple[FileBefore, ...] = ()
    folders: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    members: tuple[tuple[str, str], ...] = ()
    restart: bool = False
    """Docker stays and has to read its settings again."""


@dataclass(frozen=True, slots=True)
class UndoPlan:
    reversals: tuple[Reversal, ...] = ()
    left: tuple[Left, ...] = ()
    question: str = ""
    """What must be answered with yes first."""


@dataclass(slots=True)
class _Making:
    now: Snapshot
    engine_goes: bool
    engine_stays_for: str
    left: list[Left] = field(default_factory=list)


def plan_undo(
    entries: Sequence[Entry],
    now: Snapshot,
    facts: HostFacts,
    owner: str,
    projects: Collection[str] | None = None,
) -> UndoPlan:
    """Containers of `owner` (label remotedl.owner) may go with the engine; where `projects` are
    given, only theirs: several people may share one login."""

    def may_go(container: HostContainer) -> bool:
        known = projects is None or container.project in projects
        return container.owner == owner and known

    others = sorted({c.name for c in facts.engine.containers if not may_go(c)})
    ours = sorted({c.name for c in facts.engine.containers if may_go(c)})
    stays_for = f"containers of others are on it ({', '.join(others[:5])})" if others else ""
    brought = any(_brings_engine(entry) for entry in entries)
    making = _Making(now, brought and not others, stays_for)
    newest_first = sorted(entries, key=lambda entry: entry.number, reverse=True)
    reversals = [r for entry in newest_first if (r := _reversal(entry, making)) is not None]
    if not reversals:
        return UndoPlan(left=tuple(making.left))
    question = f"Take back {len(reversals)} step(s) of remotedl?"
    if making.engine_goes:
        lost = ", ".join(ours) if ours else "none"
        question += f" Docker goes, with all images and volumes; containers: {lost}."
    return UndoPlan(tuple(reversals), tuple(making.left), question)


def removable(ours: Collection[str], simulate: Callable[[Collection[str]], set[str]]) -> set[str]:
    """Those of `ours` that can go without anything else going.

    `simulate` tells what a removal would take along, itself included.
    """
    going = set(ours)
    while going:
        if simulate(going) <= going:
            return going
        needed = {name for name in going if not simulate({name}) <= going}
        going = going - needed if needed else set()
    return set()


def _brings_engine(entry: Entry) -> bool:
    names = {name.partition(":")[0] for name in entry.changes.packages_added}
    return not names.isdisjoint(ENGINE_PACKAGES)


def _of_engine(entry: Entry) -> bool:
    """Steps that whoever uses Docker on this host lives on."""
    return _brings_engine(entry) or entry.step in ENGINE_STEPS or entry.step.endswith("toolkit")


def _reversal(entry: Entry, making: _Making) -> Reversal | None:
    changes, now = entry.changes, making.now
    if making.engine_stays_for and _of_engine(entry):
        making.left.append(Left(entry.what, making.engine_stays_for))
        return None
    _leave_behind(entry, making)
    return Reversal(
        entry,
        packages=_packages(entry, making),
        reinstall=tuple(n for n in changes.packages_removed if n not in now.packages),
        files=entry.files,
        folders=changes.paths_made,
        units=() if changes.packages_added else changes.units_enabled,
        groups=changes.groups_added,
        users=changes.users_added,
        members=tuple((g, u) for g, u in changes.members_added if u in now.groups.get(g, ())),
        restart=bool(entry.files) and _of_engine(entry) and not making.engine_goes,
    )


def _leave_behind(entry: Entry, making: _Making) -> None:
    """What stays of a step that is taken back, each thing once."""
    stays = STAYS.get(entry.step)
    if stays is None and entry.step.startswith("add-") and _of_apt(entry):
        stays = APT_LISTS
    if stays is not None and stays not in making.left:
        making.left.append(stays)
    changed = entry.changes.packages_changed
    if entry.step == "upgrade-system" or not changed:
        return
    why = "packages are not turned back"
    if len(changed) > MANY:
        making.left.append(Left(f"{len(changed)} packages at newer versions", why))
        return
    for name, (old, new) in changed.items():
        making.left.append(Left(f"{name} {new} (it was {old})", why))


def _of_apt(entry: Entry) -> bool:
    return any(file.path.startswith("/etc/apt/sources.list.d/") for file in entry.files)


def _packages(entry: Entry, making: _Making) -> tuple[str, ...]:
    """What the step brought, is still there, and nobody asked for by name since."""
    going = list[str]()
    for name, version in entry.changes.packages_added.items():
        short = name.partition(":")[0]
        if name not in making.now.packages:
            continue
        asked_for = making.now.automatic and short not in making.now.automatic
        if asked_for and short not in entry.named:
            making.left.append(Left(f"{short} {version}", "somebody asked for it by name since"))
            continue
        going.append(name)
    return tuple(going)
