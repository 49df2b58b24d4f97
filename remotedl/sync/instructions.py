"""Which files tell a program of the laptop what to do, and so never come down unasked. Pure.

Two groups. What remotedl, ssh and git read goes up only, whatever the configuration says. What
editors, shells and tools run by themselves is `ask_before` of `[project.sync]`, the user's to
change. A change of either on the host is a conflict (`reconcile`), taken only by somebody who was
shown what it does. Ordinary code comes down: to run it is the user's own act. `.git` and
`.remotedl` are never synced at all (`agent/ignore`).

Decision: known by name, at any depth, in every form that a disk takes for that name. Alternative:
by what a file does. Reason: a list can be read, and what a new tool reads is one line more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.names import Names, plain
from remotedl.sync.agent.tree import Kind, join

UP_ONLY = (
    *("hosts.toml", ".remotedlignore", ".env"),
    *(".gitmodules", ".gitattributes", ".gitconfig", ".gitignore", ".gitmessage", ".mailmap"),
    *(".lfsconfig", ".git-credentials", ".githooks", ".husky"),
    *(".hg", ".jj", ".ssh", ".netrc"),
)
"""Names of files and folders."""
UP_ONLY_STARTS = (".git-blame",)
"""As in .git-blame-ignore-revs."""
REPOSITORY = "head"
"""A file of this name makes a folder a repository without `.git`: git obeys the settings in it."""
IN_REPOSITORY = frozenset(["config", "config.worktree", "commondir", "hooks", "info"])
"""What git obeys in a bare repository, `data.git/`; objects and branches come down."""
SPECIAL = re.compile(r"[*?\[\\]")
HOME = ("/.*", "/bin/", "/Library/", "/AppData/")
"""What is asked about as well where the folder is somebody's home: all of it is settings."""


class Instructions:
    """Which paths are held back; one per configuration, since it remembers what it was asked."""

    def __init__(self, ask_before: Iterable[str] = (), named: Iterable[str] = ()) -> None:
        """`ask_before`: lines as in a .gitignore. `named`: keys of further files and folders that
        remotedl, ssh or git were told to read."""
        patterns = [line.casefold() for text in ask_before for line in text.split("\n")]
        words = [line.rstrip().strip("/") for line in patterns if line[:1] not in ("!", "#")]
        literal = [word for word in words if "/" not in word and not SPECIAL.search(word)]
        self._names = Names([*UP_ONLY, *UP_ONLY_STARTS, *(word for word in literal if word)])
        self._asked = Ignore([Source("\n".join(patterns))] if patterns else [], defaults=False)
        self._named = frozenset(map(_plain_key, named))
        leaves = [word.rpartition("/")[2] for word in (*words, *self._named)]
        starts = [f"{one}*" for one in UP_ONLY_STARTS]
        self._hints = _Hints([*UP_ONLY, REPOSITORY, *IN_REPOSITORY, *starts, *leaves])
        self._folders: dict[str, tuple[bool, str]] = {"": (False, "")}

    def holds(self, key: str, kind: Kind) -> bool:
        """Whether `key`, or a folder above it, tells a program of the laptop what to do."""
        folder, _, leaf = key.rpartition("/")
        held, above = self._folder(folder)
        return held or self._holds(above, leaf, kind)

    def _folder(self, folder: str) -> tuple[bool, str]:
        """Whether a folder is held, and its key in plain letters."""
        pending: list[str] = []
        while (known := self._folders.get(folder)) is None:
            folder, _, leaf = folder.rpartition("/")
            pending.append(leaf)
        held, above = known
        while pending:
            leaf = pending.pop()
            held = held or self._holds(above, leaf, Kind.DIR)
            above, folder = join(above, plain(leaf)), join(folder, leaf)
            self._folders[folder] = held, above
        return held, above

    def _holds(self, folder: str, leaf: str, kind: Kind) -> bool:
        if not self._hints.may_be(leaf):
            return False
        if self._names.match(leaf) is not None:
            return True
        name = plain(leaf)
        if name.startswith(UP_ONLY_STARTS) or (name == REPOSITORY and kind is not Kind.DIR):
            return True
        if name in IN_REPOSITORY and folder.endswith(".git"):
            return True
        if self._named and join(folder, name) in self._named:
            return True
        return bool(name) and self._asked.ignores_child(folder, name, kind is Kind.DIR)


class _Hints:
    """Tells most names apart from those that need a closer look: 100,000 take 0.1 s."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[str] = set()
        starts, ends = set(), set()
        for pattern in patterns:
            found = [match.start() for match in SPECIAL.finditer(pattern)]
            if not found:
                self._exact.add(pattern.casefold())
            elif found[0]:
                starts.add(pattern[: found[0]])
            else:  # nothing but a star at the end of this leaves every name to be looked at
                ends.add("" if "\\" in pattern else re.split(r"[*?\]]", pattern)[-1])
        self._starts, self._ends = tuple(starts), tuple(ends)

    def may_be(self, leaf: str) -> bool:
        """False only for what no pattern can mean."""
        if not leaf.isascii() or "~" in leaf or ":" in leaf or leaf[-1:] in (".", " "):
            return True
        name = leaf.lower()
        return name in self._exact or name.startswith(self._starts) or name.endswith(self._ends)


def _plain_key(key: str) -> str:
    return "/".join(map(plain, key.split("/")))
