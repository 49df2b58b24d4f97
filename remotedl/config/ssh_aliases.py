"""The names that ~/.ssh/config gives to hosts. Reads names only; ssh/ reads the rest."""

from __future__ import annotations

import glob
import os
from pathlib import Path

_DEEPEST_INCLUDE = 8


def ssh_aliases(path: Path | None = None) -> list[str]:
    """Every `Host` without a wildcard, sorted; [] where there is no such file."""
    return sorted(set(_aliases(path or Path.home() / ".ssh" / "config", 0)))


def _aliases(path: Path, depth: int) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found: list[str] = []
    for line in lines:
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        names = rest.replace('"', " ").split()
        if word.lower() == "host":
            found += [name for name in names if not set(name) & set("*?!")]
        elif word.lower() == "include" and depth < _DEEPEST_INCLUDE:
            for name in names:
                pattern = os.path.expanduser(name)
                if not os.path.isabs(pattern):
                    pattern = str(path.parent / pattern)
                for included in sorted(glob.glob(pattern)):
                    found += _aliases(Path(included), depth + 1)
    return found
