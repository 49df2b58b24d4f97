"""Which of the journal's changes can be taken back, and which stay because others use them. Pure.

The newest change goes first. What somebody changed after us is theirs: a file with another
content, a package that other packages need by now, a group with members, an engine that runs
other people's containers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from remotedl.provision.causes import short
from remotedl.provision.facts import Engine, HostContainer, HostFacts
from remotedl.provision.journal import Entry, FileBefore
from remotedl.provision.snapshot import Changes, Snapshot

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
DOCKERS = ("docker-ce", "docker.io", "docker", "moby-engine")
CONTAINERDS = (*DOCKERS, "containerd.io", "containerd")
DOCKER_DATA = "/var/lib/docker"
GRAPH_DRIVERS = ("overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs", "aufs", "devicemapper")
"""Docker's own ways to store images, as `docker info` names them."""
DATA: Mapping[str, tuple[str, ...]] = {
    DOCKER_DATA: DOCKERS,
    "/var/lib/containerd": CONTAINERDS,
}
"""Where an engine keeps what people put into it -> the packages that it belongs to."""
KEPT_FOR: Mapping[str, tuple[str, ...]] = {
    **DATA,
    "/etc/docker": DOCKERS,
    "/etc/docker/key.json": DOCKERS,
    "/opt/containerd": CONTAINERDS,
    "/etc/cni": CONTAINERDS,
    "/etc/cni/net.d": CONTAINERDS,
    "docker": DOCKERS,
}
"""A folder, or the group `docker` -> the packages that it stays with."""
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
    """Paths that the step made."""
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

    data: tuple[str, ...] = ()
    """Folders of an engine that goes: what they hold is asked about on its own."""


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
        question += f" Docker goes; containers on it: {lost}."
    data = _data(reversals, facts.engine)
    return UndoPlan(tuple(reversals), tuple(making.left), question, data)


def _data(reversals: Sequence[Reversal], engine: Engine) -> tuple[str, ...]:
    """Where what people put into the engine lies: all of it in Docker's own folder, unless its
    images are kept by containerd."""
    made = {path for reversal in reversals for path in reversal.folders}
    in_docker = engine.storage_driver in GRAPH_DRIVERS
    return tuple(path for path in DATA if path in made and (path == DOCKER_DATA or not in_docker))


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


def kept_for(what: str, staying: Collection[str]) -> str:
    """The package among `staying` that `what` (a folder, a group) belongs to; "" for none."""
    owners = KEPT_FOR.get(what, ())
    return next((name for name in map(short, sorted(staying)) if name in owners), "")


def remainder(entry: Entry, staying: Collection[str]) -> Entry | None:
    """What is left of an entry whose packages could not all go: those that stay, and what belongs
    to them. None where nothing does, and the entry may be forgotten."""
    changes = entry.changes
    paths = tuple(path for path in changes.paths_made if kept_for(path, staying))
    groups = tuple(group for group in changes.groups_added if kept_for(group, staying))
    if not paths and not groups:
        return None
    added = {name: v for name, v in changes.packages_added.items() if name in staying}
    left = Changes(packages_added=added, groups_added=groups, paths_made=paths)
    return replace(entry, files=(), changes=left)


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
        bare = short(name)
        if name not in making.now.packages:
            continue
        asked_for = making.now.automatic and bare not in making.now.automatic
        if asked_for and bare not in entry.named:
            making.left.append(Left(f"{bare} {version}", "somebody asked for it by name since"))
            continue
        going.append(name)
    return tuple(going)
