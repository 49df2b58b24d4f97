"""What an engine holds that people may want: its containers, volumes and images, by name and size.

It is looked at before an engine goes, while it still answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remotedl.provision.frame import Section, first_json, text_of
from remotedl.ssh.remote import Remote

NAMED = 8
"""Things of a kind that are named one by one."""
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class EngineData:
    """Lines like "volume weights (1.2GB)"; `known` is False where no engine answered."""

    things: tuple[str, ...] = ()
    known: bool = True
    size: str = ""
    """Of its folders, as du tells it."""

    @property
    def empty(self) -> bool:
        return self.known and not self.things

    @property
    def told(self) -> str:
        """In one line."""
        if not self.known:
            size = self.size or "of unknown size"
            return f"{size}; Docker does not answer, so what it holds is not known"
        return ", ".join(self.things)


def look_at_data(remote: Remote, folders: Sequence[str]) -> EngineData:
    """Raises SudoRefused, LinkLost."""
    argv = ["docker", "system", "df", "-v", "--format", "{{json .}}"]
    said = remote.sudo(argv, timeout_s=LIMIT_S, check=False)
    info = first_json(Section(said.code, said.text))
    if said.ok and info:
        return EngineData(things_of(info))
    size = folder_size(remote, folders)
    return EngineData(known=False, size=size)


def folder_size(remote: Remote, folders: Sequence[str]) -> str:
    """ "1.2G" of the folders that are there; "" where they cannot be measured."""
    found = remote.sudo(["du", "-shc", "--", *folders], timeout_s=LIMIT_S, check=False)
    last = (found.text.splitlines() or [""])[-1]
    return last.split()[0] if last.endswith("total") else ""


def things_of(info: Mapping[str, object]) -> tuple[str, ...]:
    """Of `docker system df -v`, in the order in which people would miss them."""
    found = list[str]()
    for word, key, name in (
        ("volume", "Volumes", "Name"),
        ("container", "Containers", "Names"),
        ("image", "Images", "Repository"),
    ):
        rows = info.get(key)
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        found += [f"{word} {_name(row, name)} ({_size(row)})" for row in rows[:NAMED]]
        if len(rows) > NAMED:
            found.append(f"{len(rows) - NAMED} more {word}s")
    return tuple(found)


def _name(row: Mapping[str, object], key: str) -> str:
    tag = text_of(row.get("Tag"))
    name = text_of(row.get(key))
    if name == "<none>":
        return text_of(row.get("ID"))[:19]
    return f"{name}:{tag}" if tag and tag != "<none>" else name


def _size(row: Mapping[str, object]) -> str:
    """A container's own layer, without its image: "0B (virtual 117MB)"."""
    return text_of(row.get("Size")).partition(" (")[0] or "size unknown"
