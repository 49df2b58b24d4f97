"""Which version of every file a folder holds, as text: what a job saw. Pure.

One line a path, sorted: digest (a link: `->` and its target; a dir: `-`), size, `x` or `-`, and the
path as a JSON string, since names may hold anything. The digest is the sha256; of a file of 8 MiB
and more see agent/digest.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from remotedl.sync.agent.tree import Entry, Tree


def manifest(tree: Tree) -> bytes:
    """The same tree gives the same bytes."""
    return "".join(_lines(tree)).encode("ascii")


def digest_of(text: bytes) -> str:
    """The name of a manifest: 32 hex characters."""
    return hashlib.sha256(text).hexdigest()[:32]


def _lines(tree: Tree) -> Iterator[str]:
    for key in sorted(tree):
        entry = tree[key]
        yield f"{_version(entry)} {entry.size} {'x' if entry.executable else '-'} "
        yield f"{json.dumps(key)}\n"


def _version(entry: Entry) -> str:
    if entry.digest is not None:
        return entry.digest.hex()
    return "-" if entry.target is None else f"->{json.dumps(entry.target)}"
