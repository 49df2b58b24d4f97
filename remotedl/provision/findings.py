"""What the doctor says: findings, their order, and the last line. Values and pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from remotedl.provision.steps import Step


class Grade(StrEnum):
    """How bad a finding is; in the order in which they are worked through."""

    BAD = "bad"
    """Nothing works, or soon will not."""
    WARN = "warn"
    """Something works badly or will fail later."""
    NOTE = "note"
    """Worth knowing."""
    GOOD = "good"
    """Looked at, and well."""


class Place(StrEnum):
    """Where a finding was made."""

    LAPTOP = "laptop"
    LINK = "link"
    HOST = "host"
    GPU = "gpu"
    ENGINE = "engine"
    TOOLKIT = "toolkit"
    DISK = "disk"
    PORTS = "ports"


@dataclass(frozen=True, slots=True)
class LocalFix:
    """A repair on the laptop: the mode of a file that is the user's own."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix` is there only where it can do no harm."""

    name: str
    place: Place
    grade: Grade
    what: str
    cause: str = ""
    mend: str = ""
    """The next command to type; empty where there is none."""
    fix: Step | LocalFix | None = None

    @property
    def safe_to_fix(self) -> bool:
        return self.fix is not None


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first; within a grade from the laptop to the ports."""
    grades, places = list(Grade), list(Place)
    return tuple(sorted(findings, key=lambda f: (grades.index(f.grade), places.index(f.place))))


def last_line(findings: Sequence[Finding], host: str) -> str:
    """ "ready", or the first thing to do."""
    for finding in in_order(findings):
        if finding.grade in (Grade.BAD, Grade.WARN) and (finding.mend or finding.fix):
            first = finding.mend or f"remotedl doctor {host} --fix"
            return f"first: {first}    ({finding.what})"
    bad = [finding for finding in findings if finding.grade is Grade.BAD]
    return f"not ready: {in_order(bad)[0].what}" if bad else "ready"
