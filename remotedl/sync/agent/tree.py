"""What a replica looks like: entries by relative path. Pure; shared by laptop and agent.

Must run on Python 3.8 and must not do I/O: no os, no time. A path is a `str` of components
joined by "/", never empty, absolute, "." or ".."; bytes that are not UTF-8 are carried by
surrogateescape. The root itself has no entry.

A *path* is spelled as on disk; a *key* is its NFC form. Trees are compared by key, so that
"é" typed on macOS and "é" unpacked on Linux are one file; `Side.spelling` leads back to disk.
"""

from __future__ import annotations

import unicodedata
from enum import Enum
from typing import (
    AbstractSet,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    MutableMapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)


class Kind(str, Enum):
    """What stands at a path. Anything else (FIFO, socket, device) is never synced."""

    FILE = "file"
    DIR = "dir"
    LINK = "link"


class Entry(NamedTuple):
    """What both sides compare. mtimes, owners and the other mode bits are not part of it."""

    kind: Kind
    digest: Optional[bytes] = None
    """Of a file's content, 32 bytes (see `digest`); None for dirs and links."""
    size: int = 0
    """A file's length in bytes; 0 for dirs and links."""
    executable: bool = False
    """The owner's x bit of a file."""
    target: Optional[str] = None
    """Where a link points, verbatim."""


Tree = MutableMapping[str, Entry]
"""Entries by key."""

DIR = Entry(Kind.DIR)


class Issue(str, Enum):
    """Why a path (and all below it) is left as it is. A scan finds them, or the reconciler."""

    UNREADABLE = "unreadable"
    """EACCES, EIO, a stale handle: a file that cannot be read, a dir that cannot be listed."""
    UNSTABLE = "unstable"
    """It changed while it was read, or a program is in the middle of writing it."""
    COLLIDING = "colliding"
    """Two names that one of the sides cannot tell apart, by case or by Unicode form."""
    UNSUPPORTED = "unsupported"
    """A FIFO, socket or device."""
    UNNAMEABLE = "unnameable"
    """A name that the other side cannot hold."""
    MOUNTPOINT = "mountpoint"
    """Another filesystem is mounted there: a rename could not be atomic."""
    HOLDS_IGNORED = "holds-ignored"
    """A dir that would have to make room, with ignored data inside, which nobody may move."""
    ZEROED = "zeroed"
    """Empty or all zeros since its machine went down: an edit that never reached the disk."""


class Folding(NamedTuple):
    """How a filesystem looks names up; probed, never guessed from the platform."""

    case_insensitive: bool = False
    normalising: bool = False
    """NFC and NFD are one name there."""

    def fold(self, key: str) -> str:
        """Two keys with the same fold are one file there."""
        return unicodedata.normalize("NFC", key.casefold()) if self.case_insensitive else key


class Traits(NamedTuple):
    """What a side's filesystem can hold."""

    folding: Folding = Folding()
    executable: bool = True
    """It keeps the x bit (Windows does not)."""
    links: bool = True
    """It can make symbolic links (Windows without the privilege cannot)."""
    windows_names: bool = False
    """Names as Windows takes them: no CON, no "a:b", no trailing dot."""


class Side(NamedTuple):
    """One replica as its last scan saw it. `tree` and all keys are NFC."""

    tree: Tree
    issues: Mapping[str, Issue] = {}
    """By key; "" is the root. A key in here says nothing about presence: it may lack an entry,
    and nothing below it may be believed absent. So an issue goes only by looking there again."""
    spelling: Mapping[str, str] = {}
    """Key → path on disk, where they differ."""
    holding: AbstractSet[str] = frozenset()
    """Keys of dirs that directly hold something never synced: ignored, FIFO, socket, device."""
    traits: Traits = Traits()
    twins: Mapping[str, Tuple[str, ...]] = {}
    """Key → all paths on disk that have it, where there are several: they are an issue."""

    def path(self, key: str) -> str:
        """How `key` is spelled on this side's disk."""
        return self.spelling.get(key, key)


class BadPath(ValueError):
    """A path that must not reach a filesystem call."""


def check_path(path: str) -> str:
    """Return `path` if it stays below a root; raises BadPath if not.

    Refused: the empty path, absolute ones, empty components, "." and "..", NUL.
    """
    if not isinstance(path, str):
        raise BadPath(f"no path: {path!r}")
    if "\0" in path:
        raise BadPath(f"NUL in a path: {path!r}")
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise BadPath(f"not a path below the root: {path!r}")
    return path


def check_tree(tree: Mapping[str, Entry]) -> None:
    """Raise BadPath unless every entry is sound and lies in a dir of the same tree.

    For trees that came over the wire: an agent may lie.
    """
    for path, entry in tree.items():
        check_path(path)
        check_entry(path, entry)
        above = parent(path)
        if above and tree.get(above) != DIR:
            raise BadPath(f"{path!r} lies in {above!r}, which is no dir")


def check_entry(path: str, entry: Entry) -> None:
    """Raise BadPath unless the fields of `entry` fit its kind."""
    file = entry.kind is Kind.FILE
    digest = entry.digest
    sound = (
        isinstance(digest, bytes) and len(digest) == 32 and entry.size >= 0
        if file
        else digest is None and entry.size == 0 and not entry.executable
    )
    link = entry.kind is Kind.LINK
    if not sound or link != isinstance(entry.target, str):
        raise BadPath(f"an entry that cannot be: {path!r}: {entry!r}")
    if entry.target is not None and ("\0" in entry.target or not entry.target):
        raise BadPath(f"a link target that cannot be: {path!r}")


WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³"]
)
WINDOWS_FORBIDDEN = frozenset('<>:"|?*\\')


def nameable(path: str, traits: Traits) -> bool:
    """Whether a side with these traits can hold every component of `path`."""
    if traits.windows_names:
        return all(_windows_takes(part) for part in path.split("/"))
    if traits.folding.normalising:  # APFS and HFS+ refuse names that are not UTF-8
        return path.isascii() or not any("\udc80" <= ch <= "\udcff" for ch in path)
    return True


def key(path: str) -> str:
    """The form by which both sides know a path: NFC."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def index(found: Iterable[Tuple[str, Entry]]) -> Tuple[Tree, Dict[str, str], Set[str]]:
    """Paths on disk → (tree by key, spelling where it differs, keys with two spellings)."""
    tree: Tree = {}
    spelling: Dict[str, str] = {}
    twins: Set[str] = set()
    for path, entry in found:
        if path.isascii():
            tree[path] = entry
            continue
        name = unicodedata.normalize("NFC", path)
        if name in tree and spelling.get(name, name) != path:
            twins.add(name)
            continue
        tree[name] = entry
        if name != path:
            spelling[name] = path
    return tree, spelling, twins


def parent(path: str) -> str:
    """The dir that holds `path`; "" for one at the root."""
    return path.rpartition("/")[0]


def name(path: str) -> str:
    """The last component."""
    return path.rpartition("/")[2]


def parents(path: str) -> Iterator[str]:
    """The dirs above `path`, nearest first, without the root."""
    cut = path.rfind("/")
    while cut > 0:
        path = path[:cut]
        yield path
        cut = path.rfind("/")


def join(folder: str, leaf: str) -> str:
    """`leaf` inside `folder`; "" is the root."""
    return f"{folder}/{leaf}" if folder else leaf


def sort_key(path: str) -> str:
    """Sorts a dir right before its content: "a", "a/b", "a-b"."""
    return path.replace("/", "\0")


def top_down(paths: Iterable[str]) -> List[str]:
    """Parents before children, otherwise by name."""
    return sorted(paths, key=sort_key)


def bottom_up(paths: Iterable[str]) -> List[str]:
    """Children before parents: the reverse of `top_down`."""
    return sorted(paths, key=sort_key, reverse=True)


def children(paths: Iterable[str]) -> Dict[str, List[str]]:
    """Dir → its direct children among `paths`, sorted; "" is the root."""
    found: Dict[str, List[str]] = {}
    for path in top_down(paths):
        found.setdefault(parent(path), []).append(path)
    return found


def changed_keys(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Set[str]:
    """Keys whose entry was added, removed or altered. 100,000 equal entries cost about 10 ms."""
    if old is new:
        return set()
    before = old.get
    changed = {path for path, entry in new.items() if before(path) != entry}
    added = sum(1 for path in changed if path not in old)
    if len(old) + added != len(new):
        changed.update(path for path in old if path not in new)
    return changed


class Change(NamedTuple):
    """One difference between two trees."""

    path: str
    old: Optional[Entry]
    new: Optional[Entry]


def diff(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> List[Change]:
    """What leads from `old` to `new`, top-down."""
    return [Change(p, old.get(p), new.get(p)) for p in top_down(changed_keys(old, new))]


def patched(tree: Mapping[str, Entry], changes: Mapping[str, Optional[Entry]]) -> Tree:
    """`tree` with `changes` made to it; None removes."""
    result = dict(tree)
    amend(result, changes)
    return result


def amend(tree: Tree, changes: Mapping[str, Optional[Entry]]) -> None:
    """Make `changes` to `tree`; None removes."""
    for path, entry in changes.items():
        if entry is None:
            tree.pop(path, None)
        else:
            tree[path] = entry


def share(tree: Tree, other: Mapping[str, Entry]) -> None:
    """Hold the keys and entries that `other` has too as the same objects: 100,000 are 16 MB."""
    keys = {key: key for key in other}
    items = list(tree.items())
    tree.clear()
    for key, entry in items:
        same = other.get(key)
        tree[keys.get(key, key)] = same if same is not None and same == entry else entry


def twins(keys: Iterable[str], folding: Folding) -> List[FrozenSet[str]]:
    """Groups of two or more keys that are one file under `folding`, sorted by their least."""
    groups: Dict[str, List[str]] = {}
    for item in keys:
        groups.setdefault(folding.fold(item), []).append(item)
    found = [frozenset(group) for group in groups.values() if len(group) > 1]
    return sorted(found, key=min)


def _windows_takes(part: str) -> bool:
    if part[-1] in ". " or not WINDOWS_FORBIDDEN.isdisjoint(part):
        return False
    if any(ch < " " or "\udc80" <= ch <= "\udcff" for ch in part):
        return False
    return part.partition(".")[0].rstrip(" ").casefold() not in WINDOWS_DEVICES
