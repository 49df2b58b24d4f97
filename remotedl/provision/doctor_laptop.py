"""What is wrong with the laptop, from what `laptop.py` saw. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from remotedl.provision.findings import Finding, Grade, LocalFix, Place

DISK_WANTED = 1_000_000_000
OTHERS = 0o077
OTHERS_WRITE = 0o022


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key, or the folder of keys."""

    path: str
    exists: bool
    mode: int | None = None
    """Permission bits; None where they mean nothing (Windows)."""
    folder: bool = False


@dataclass(frozen=True, slots=True)
class LaptopFacts:
    system: str = ""
    python: str = ""
    agent: Literal["none", "unreachable", "empty", "keys"] = "none"
    agent_keys: int = 0
    keys: tuple[KeyFile, ...] = ()
    watches: int | None = None
    """How many folders inotify may watch; None where there is no inotify."""
    folders: int = 0
    """Folders of the project."""
    ports_taken: tuple[int, ...] = ()
    disk_free: int | None = None
    disk_path: str = ""


def findings_of_laptop(facts: LaptopFacts) -> list[Finding]:
    return [
        Finding("laptop", Place.LAPTOP, Grade.GOOD, f"{facts.system}, Python {facts.python}"),
        *_agent(facts),
        *_keys(facts),
        *_watches(facts),
        *_ports(facts),
        *_disk(facts),
    ]


def _agent(facts: LaptopFacts) -> Iterator[Finding]:
    readable = any(key.exists and not key.folder for key in facts.keys)
    if facts.agent == "keys":
        what = f"the SSH agent holds {facts.agent_keys} keys"
        yield Finding("agent", Place.LAPTOP, Grade.GOOD, what)
    elif facts.agent == "unreachable":
        yield Finding(
            "agent-unreachable",
            Place.LAPTOP,
            Grade.WARN,
            "SSH_AUTH_SOCK names an agent that does not answer",
            "it ended, or the variable comes from another session",
            'eval "$(ssh-agent)"; ssh-add',
        )
    elif not readable:
        yield Finding(
            "no-keys",
            Place.LAPTOP,
            Grade.WARN,
            "neither an SSH agent with keys nor a key file is there",
            "hosts can then be entered by password only",
            "ssh-keygen -t ed25519",
        )


def _keys(facts: LaptopFacts) -> Iterator[Finding]:
    for key in facts.keys:
        if not key.exists and not key.folder:
            what = f"{key.path} is named in hosts.toml and not there"
            yield Finding("key-missing", Place.LAPTOP, Grade.BAD, what, mend=f"ls -l {key.path}")
        elif key.exists and key.mode is not None:
            wrong = key.mode & (OTHERS_WRITE if key.folder else OTHERS)
            right = 0o700 if key.folder else 0o600
            may = "write to" if key.folder else "read"
            if wrong:
                yield Finding(
                    "key-permissions",
                    Place.LAPTOP,
                    Grade.WARN,
                    f"others may {may} {key.path} (its mode is {key.mode:04o})",
                    "ssh refuses keys that are not the owner's alone",
                    f"chmod {right:o} {key.path}",
                    LocalFix(key.path, right),
                )


def _watches(facts: LaptopFacts) -> Iterator[Finding]:
    if facts.watches is not None and facts.folders * 2 > facts.watches:
        yield Finding(
            "inotify",
            Place.LAPTOP,
            Grade.WARN,
            f"the project has {facts.folders} folders, inotify may watch {facts.watches}",
            "editors and other programs need watches too",
            "sudo sysctl fs.inotify.max_user_watches=524288",
        )


def _ports(facts: LaptopFacts) -> Iterator[Finding]:
    for port in facts.ports_taken:
        what = f"port {port} is taken on this laptop"
        cause = "another program listens there; the next free port is used"
        yield Finding("port-taken", Place.PORTS, Grade.NOTE, what, cause)


def _disk(facts: LaptopFacts) -> Iterator[Finding]:
    if facts.disk_free is not None and facts.disk_free < DISK_WANTED:
        what = f"{facts.disk_free / 1e9:.1f} GB free for {facts.disk_path}"
        yield Finding("disk", Place.LAPTOP, Grade.WARN, what, "", "make room on the laptop")
