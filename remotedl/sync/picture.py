"""The host's replica as the agent tells it. The laptop distrusts the agent: what it says is
checked here before anything is decided upon it. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

from remotedl.errors import ProtocolError
from remotedl.sync.agent.digest import digest_of_zeros
from remotedl.sync.agent.listing import Listing, Version
from remotedl.sync.agent.protocol import Malformed, check_path
from remotedl.sync.agent.tree import (
    BadPath,
    Entry,
    Issue,
    Kind,
    Side,
    Traits,
    Tree,
    changed_keys,
    check_entry,
)
from remotedl.sync.agent.tree import key as key_of

SIZE_LIMIT = (1 << 63) - 1
KEYS_LIMIT = 2_000_000
NAMES_LIMIT = 64 << 20
"""Characters of all paths together."""


class Picture:
    """What is known of the host's replica. One thread at a time."""

    def __init__(self, tree: Tree, version: Version | None) -> None:
        """From the database: what was known when the last session ended."""
        self.tree = tree
        self.version = version
        self.issues: dict[str, Issue] = {}
        self.spelling: dict[str, str] = {}
        self.holding: frozenset[str] = frozenset()
        self.twins: dict[str, tuple[str, ...]] = {}
        self.traits = Traits()
        self.marker: str | None = None
        self.gone = ""
        """Why the root is not there; "" while it is."""
        self.watching = "off"
        self.growing: set[str] = set()
        """Keys of logs that a program of the host goes on appending to."""
        self._zeroed: dict[str, Entry] = {}
        self._names = 0
        """Characters of the paths that were told in this session."""

    @property
    def side(self) -> Side:
        issues = self.issues
        if self._zeroed:
            issues = {**dict.fromkeys(self.zeroed, Issue.ZEROED), **issues}
        return Side(self.tree, issues, self.spelling, self.holding, self.traits, self.twins)

    @property
    def zeroed(self) -> list[str]:
        """Keys that a crash of the host emptied, and that nobody wrote to since."""
        return [key for key, entry in self._zeroed.items() if self.tree.get(key) == entry]

    def note_crash(self, ancestor: Tree) -> None:
        """The host was started anew: a file that is empty or all zeros, and was not when both
        sides agreed on it, is no edit. The agent may have lost its own memory of it.
        """
        for key in changed_keys(ancestor, self.tree):
            before, now = ancestor.get(key), self.tree.get(key)
            if before is None or now is None or not before.size or now.kind is not Kind.FILE:
                continue
            if now.digest == digest_of_zeros(now.size) and before.digest != now.digest:
                self._zeroed[key] = now

    def take(self, listing: Listing) -> set[str]:
        """Take one part in; the keys whose entry or issue changed. Raises ProtocolError."""
        self.gone, self.marker = listing.gone, listing.marker
        self.watching = listing.watching
        if listing.gone:
            return set()
        changed: set[str] = set()
        if listing.whole:
            changed.update(self.tree)
            self.tree = {}
            self._names = 0
        try:
            for key, entry in listing.rows:
                self._take_row(key, entry)
                changed.add(key)
            if self.growing or listing.growing:
                self.growing -= {key for key, _ in listing.rows}
                self.growing |= {key for key in listing.growing if key in self.tree}
            if listing.around is not None:
                changed |= self._take_issues(listing.around.issues)
                self.spelling = _checked_spelling(listing.around.spelling)
                self.holding = frozenset(listing.around.holding)
                self.twins = _checked_twins(listing.around.twins)
        except (BadPath, Malformed) as exc:
            raise ProtocolError(f"the agent on the host speaks nonsense: {exc}") from exc
        if len(self.tree) > KEYS_LIMIT or self._names > NAMES_LIMIT:
            raise ProtocolError(
                "the agent on the host lists more files than are synced: more than two million, or "
                f"{NAMES_LIMIT >> 20} MB of names",
                hint="leave folders out of the sync in .remotedlignore, or set another workdir",
            )
        if listing.last:
            self.version = listing.version
        return changed

    def believe(self, key: str, path: str, entry: Entry | None) -> None:
        """What the agent acknowledged to have put there."""
        self.issues.pop(key, None)
        if entry is None:
            self.tree.pop(key, None)
            self.spelling.pop(key, None)
            return
        self.tree[key] = entry
        if path != key:
            self.spelling[key] = path
        else:
            self.spelling.pop(key, None)

    def _take_row(self, key: str, entry: Entry | None) -> None:
        if not key.isascii() and key_of(key) != key:
            raise BadPath(f"a key that is none: {key!r}")
        if entry is None:
            if self.tree.pop(key, None) is not None:
                self._names -= len(key)
            return
        if entry.kind is not Kind.FILE:
            check_entry(key, entry)
        elif entry.size > SIZE_LIMIT:
            raise BadPath(f"a file of {entry.size} bytes: {key!r}")
        if key not in self.tree:
            self._names += len(key)
        self.tree[key] = entry

    def _take_issues(self, issues: Mapping[str, Issue]) -> set[str]:
        for key in issues:
            if key:
                check_path(key)
        changed = {
            key for key in {*issues, *self.issues} if issues.get(key) is not self.issues.get(key)
        }
        self.issues = dict(issues)
        return changed


def _checked_twins(twins: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    for key, paths in twins.items():
        for path in paths:
            _checked_spelling({key: path})
    return dict(twins)


def _checked_spelling(spelling: Mapping[str, str]) -> dict[str, str]:
    for key, path in spelling.items():
        check_path(path)
        if key_of(path) != key:
            raise BadPath(f"{path!r} is no spelling of {key!r}")
    return dict(spelling)
