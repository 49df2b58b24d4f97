"""What a step may cause, by name: whatever else changes meanwhile is somebody else's. Pure.

A host has other people on it. While a step waits for a lock or installs for minutes, an admin may
add an account or a package: `provision --undo` must not take that away, so it is never recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from remotedl.provision.snapshot import Changes
from remotedl.provision.steps import Run, Step

OF_DOCKER = ("docker.service", "docker.socket", "containerd.service")
ACCOUNTS: Mapping[str, tuple[str, ...]] = {
    "install-docker": ("docker",),
    "install-driver": ("nvidia-persistenced", "nvpd"),
}
"""Users and groups that the packages of a step make."""
OF_OTHERS = ("finish-packages", "upgrade-system")
"""Their packages are those that others asked for, or the system itself."""


@dataclass(frozen=True, slots=True)
class Causes:
    """Names. Packages without their architecture."""

    packages: tuple[str, ...] = ()
    """Those that may come, go or change; fnmatch's patterns."""
    accounts: tuple[str, ...] = ()
    """Users and groups that may come."""
    members: tuple[tuple[str, str], ...] = ()
    """(group, user) that may be joined."""
    units: tuple[str, ...] = ()


def causes_of(step: Step, packages: Collection[str]) -> Causes:
    """`packages`: what the package manager said that it would do for this step."""
    units, members = set[str](), list[tuple[str, str]]()
    patterns = {short(name) for name in packages}
    for action in step.actions:
        argv = action.argv if isinstance(action, Run) else ()
        if argv[:2] == ("systemctl", "enable"):
            units |= {word for word in argv[2:] if not word.startswith("-")}
        if argv[:1] == ("ubuntu-drivers",):
            patterns |= {"*nvidia*", "libcuda*"}
        if argv[:2] == ("usermod", "-aG"):
            members.append((argv[2], argv[3]))
    if "docker.service" in units:
        units |= set(OF_DOCKER)
    return Causes(
        packages=() if step.name in OF_OTHERS else tuple(sorted(patterns)),
        accounts=ACCOUNTS.get(step.name, ()),
        members=tuple(members),
        units=tuple(sorted(units)),
    )


def within(changes: Changes, may: Causes) -> Changes:
    """Of what changed, what the step may have caused."""

    def packages(name: str) -> bool:
        return any(fnmatchcase(short(name), pattern) for pattern in may.packages)

    return replace(
        changes,
        packages_added={n: v for n, v in changes.packages_added.items() if packages(n)},
        packages_removed={n: v for n, v in changes.packages_removed.items() if packages(n)},
        packages_changed={n: v for n, v in changes.packages_changed.items() if packages(n)},
        groups_added=tuple(name for name in changes.groups_added if name in may.accounts),
        users_added=tuple(name for name in changes.users_added if name in may.accounts),
        members_added=tuple(pair for pair in changes.members_added if pair in may.members),
        units_enabled=tuple(name for name in changes.units_enabled if name in may.units),
    )


def short(name: str) -> str:
    """A package's name without dpkg's ":amd64" or rpm's ".x86_64"."""
    bare, _, arch = name.rpartition(".")
    if arch in ("x86_64", "aarch64", "noarch", "i686"):
        name = bare
    return name.partition(":")[0]
