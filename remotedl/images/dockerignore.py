"""Which files of a context .dockerignore leaves out: Docker's rules, not git's. Pure.

The last pattern that matches decides, "!" takes back, "**" is any number of folders, and a
pattern that matches a folder matches all that is in it. Patterns are anchored at the context.
"""

from __future__ import annotations

import re
from collections.abc import Callable

NAMES = (".dockerignore",)


def left_out_by(text: str) -> Callable[[str], bool]:
    """A judge of names, as `context_files` takes it, for the text of a .dockerignore."""
    rules = [rule for line in text.splitlines() if (rule := _rule(line))]

    def left_out(name: str) -> bool:
        out = False
        for pattern, keeps in rules:
            if pattern.match(name.rstrip("/")):
                out = not keeps
        return out

    return left_out


def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    keeps = line.startswith("!")
    parts = [part for part in line.lstrip("!").strip().split("/") if part not in ("", ".")]
    if not parts:
        return None
    return re.compile(_folders(parts) + r"(/.*)?\Z", re.DOTALL), keeps


def _folders(parts: list[str]) -> str:
    found = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            found += ".*" if last else "(.*/)?"
        else:
            found += _name(part) + ("" if last else "/")
    return found


def _name(part: str) -> str:
    found, at = "", 0
    while at < len(part):
        char = part[at]
        end = part.find("]", at + 2) if char == "[" else -1
        if char == "*":
            found += "[^/]*"
        elif char == "?":
            found += "[^/]"
        elif end > 0:
            inside = part[at + 1 : end]
            found += "[" + inside.replace("\\", "\\\\") + "]"
            at = end
        elif char == "\\" and at + 1 < len(part):
            at += 1
            found += re.escape(part[at])
        else:
            found += re.escape(char)
        at += 1
    return found
