"""What remotedl changed on a host, kept on that host: /var/lib/remotedl, owned by root.

One file of one line a step, written before the step begins and again when it has ended, each
time to a temporary name that is renamed. It is the host's and not a user's: several users (with
homes that several hosts may share) provision one host, and there is one set of changes to undo.
Anybody may read it; what files held before lies beside it, for root alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from remotedl.errors import StateCorrupt
from remotedl.provision.causes import Causes
from remotedl.provision.snapshot import Changes, Snapshot
from remotedl.ssh.remote import Remote

FOLDER = "/var/lib/remotedl"
JOURNAL = f"{FOLDER}/journal"
BACKUPS = f"{FOLDER}/backup"
VERSION = 1

WRITE = """\
set -e; umask 022; mkdir -p "${1%/*}"; chmod 0755 /var/lib/remotedl
cat > "$1.new"; sync "$1.new" 2>/dev/null || :; mv -f "$1.new" "$1"
"""
READ = """\
for f in /var/lib/remotedl/journal/*.json; do
    [ -e "$f" ] || continue
    printf '%s ' "$f"; cat "$f" && echo
done
"""


@dataclass(frozen=True, slots=True)
class FileBefore:
    """A file that a step writes: what it was, and what it is to be."""

    path: str
    existed: bool
    backup: str
    """Where its former content lies; there only if `existed`."""
    sha256: str
    """Of what remotedl writes. Whoever changed the file since keeps the change."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step that was begun."""

    number: int
    step: str
    what: str
    by: str
    """The login user whose remotedl did it."""
    when: int
    """Seconds since 1970, by the host's clock."""
    state: Literal["begun", "done"] = "begun"
    named: tuple[str, ...] = ()
    """Packages that the step asks for, and those that were expected to come along."""
    files: tuple[FileBefore, ...] = ()
    before: Snapshot | None = None
    """Kept only as long as the step is not done."""
    changes: Changes = field(default_factory=Changes)
    may: Causes = field(default_factory=Causes)
    """All that the step may cause."""

    @property
    def path(self) -> str:
        return f"{JOURNAL}/{self.number:04d}-{self.step}.json"


def read_journal(remote: Remote) -> tuple[Entry, ...]:
    """All entries, oldest first. Raises StateCorrupt: a damaged journal is not an empty one."""
    entries = list[Entry]()
    for line in remote.run(["sh", "-s"], stdin=READ.encode()).text.splitlines():
        if not line.strip():
            continue
        path, _, text = line.partition(" ")
        try:
            entries.append(parse_entry(text))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise StateCorrupt(
                f"{remote.name}: {path} is damaged ({exc}); what remotedl changed on this host is "
                "no longer known for sure",
                hint=f"ssh {remote.name} sudo mv {path} {path}.damaged",
            ) from exc
    return tuple(sorted(entries, key=lambda entry: entry.number))


def write_entry(remote: Remote, entry: Entry) -> None:
    """Put an entry down, over its former state. Raises RemoteCommandFailed (disk full)."""
    data = entry_text(entry).encode()
    remote.sudo(["sh", "-c", WRITE, "journal", entry.path], stdin=data)


def drop_entries(remote: Remote, entries: Sequence[Entry]) -> None:
    """Forget entries, and the files that they kept."""
    paths = [entry.path for entry in entries]
    paths += [file.backup for entry in entries for file in entry.files]
    remote.sudo(["rm", "-f", "--", *paths])
    folders = [BACKUPS, JOURNAL, FOLDER]
    remote.sudo(["rmdir", "--", *folders], check=False)


def entry_text(entry: Entry) -> str:
    """One line of JSON."""
    value = asdict(replace(entry, before=None))
    if entry.before is not None:
        value["before"] = asdict(entry.before)
    return json.dumps({"version": VERSION, **value}, default=sorted, sort_keys=True)


def parse_entry(text: str) -> Entry:
    """Raises ValueError, KeyError, TypeError or AttributeError for what is no entry."""
    value = json.loads(text)
    if value["version"] != VERSION:
        raise ValueError(f"version {value['version']} of the journal is not known here")
    before = value.get("before")
    return Entry(
        number=int(value["number"]),
        step=str(value["step"]),
        what=str(value["what"]),
        by=str(value["by"]),
        when=int(value["when"]),
        state="done" if value["state"] == "done" else "begun",
        named=tuple(value["named"]),
        files=tuple(FileBefore(**file) for file in value["files"]),
        before=_snapshot(before) if before is not None else None,
        changes=_changes(value["changes"]),
        may=_causes(value.get("may")),
    )


def _causes(value: dict[str, Any] | None) -> Causes:
    """An entry of an earlier version says nothing of it."""
    if value is None:
        return Causes()
    known = {name: tuple(names) for name, names in value.items()}
    return Causes(**{**known, "members": tuple((g, u) for g, u in value["members"])})


def _snapshot(value: dict[str, object]) -> Snapshot:
    known: dict[str, object] = dict(value)
    groups = known["groups"]
    if not isinstance(groups, dict):
        raise ValueError("groups are no object")
    known["groups"] = {name: tuple(members) for name, members in groups.items()}
    for name in ("automatic", "users", "units"):
        known[name] = frozenset(known[name])  # type: ignore[call-overload]
    return Snapshot(**known)  # type: ignore[arg-type]


def _changes(value: dict[str, object]) -> Changes:
    known: dict[str, object] = dict(value)
    changed = known["packages_changed"]
    if not isinstance(changed, dict):
        raise ValueError("packages_changed is no object")
    known["packages_changed"] = {name: tuple(pair) for name, pair in changed.items()}
    members = known["members_added"]
    if not isinstance(members, list):
        raise ValueError("members_added is no list")
    known["members_added"] = tuple((str(g), str(u)) for g, u in members)
    for name in ("groups_added", "users_added", "units_enabled", "paths_made"):
        known[name] = tuple(known[name])  # type: ignore[arg-type]
    return Changes(**known)  # type: ignore[arg-type]
