"""What a step changed: the difference of two pictures of the host. Pure, but for the script's name.

A step is not believed about itself: packages bring other packages, groups, users and services
along, and a step that was killed half-way has changed something all the same. So the journal
keeps what the host looked like before, and what differed after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from remotedl.provision.frame import NOTHING, Section, whole


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A host, as far as provisioning can change it."""

    packages: Mapping[str, str] = field(default_factory=dict)
    """"name:arch" (dpkg), "name.arch" (rpm) or "name" (pacman) -> version."""
    automatic: frozenset[str] = frozenset()
    """Packages (dpkg's short names) that came as somebody's dependency."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    users: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()
    """Enabled systemd units."""
    paths: Mapping[str, bool] = field(default_factory=dict)
    """Asked path -> whether it exists."""
    now: int = 0
    """By the host's clock, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What became different between two snapshots. Everything sorted."""

    packages_added: Mapping[str, str] = field(default_factory=dict)
    packages_removed: Mapping[str, str] = field(default_factory=dict)
    packages_changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    groups_added: tuple[str, ...] = ()
    members_added: tuple[tuple[str, str], ...] = ()
    """(group, user), of groups that were there before."""
    users_added: tuple[str, ...] = ()
    units_enabled: tuple[str, ...] = ()
    paths_made: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        return self != Changes()


def parse_snapshot(sections: Mapping[str, Section]) -> Snapshot:
    def lines(name: str) -> list[str]:
        return sections.get(name, NOTHING).lines

    packages = (line.partition(" ") for line in lines("packages"))
    groups = (line.partition(":") for line in lines("groups"))
    paths = (line.partition(" ") for line in lines("paths"))
    return Snapshot(
        packages={name: version for name, _, version in packages},
        automatic=frozenset(lines("automatic")),
        groups={name: tuple(m for m in members.split(",") if m) for name, _, members in groups},
        users=frozenset(lines("users")),
        units=frozenset(lines("units")),
        paths={path: word == "there" for word, _, path in paths},
        now=whole("".join(lines("now"))),
    )


def difference(before: Snapshot, after: Snapshot) -> Changes:
    """From `before` to `after`; paths are those that were asked about both times."""
    old, new = before.packages, after.packages
    return Changes(
        packages_added={name: new[name] for name in sorted(new.keys() - old.keys())},
        packages_removed={name: old[name] for name in sorted(old.keys() - new.keys())},
        packages_changed={
            name: (old[name], new[name])
            for name in sorted(old.keys() & new.keys())
            if old[name] != new[name]
        },
        groups_added=tuple(sorted(after.groups.keys() - before.groups.keys())),
        members_added=tuple(
            sorted(
                (group, member)
                for group, members in after.groups.items()
                if group in before.groups
                for member in set(members) - set(before.groups[group])
            )
        ),
        users_added=tuple(sorted(after.users - before.users)),
        units_enabled=tuple(sorted(after.units - before.units)),
        paths_made=tuple(
            sorted(p for p, there in after.paths.items() if there and not before.paths.get(p, True))
        ),
    )
