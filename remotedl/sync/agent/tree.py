"""What a replica looks like: entries by relative path. Pure; shared by laptop and agent.

Must run on Python 3.8 and must not do I/O: no os, no time. A path is a `str` of components
joined by "/", never empty, absolute, "." or ".."; bytes that are not UTF-8 are carried by
surrogateescape. The root itself has no entry.
"""

from __future__ import annotations

from enum import Enum
from typing import Dict, NamedTuple, Optional


class Kind(str, Enum):
    """What stands at a path. Anything else (FIFO, socket, device) is never synced."""

    FILE = "file"
    DIR = "dir"
    LINK = "link"


class Entry(NamedTuple):
    """What both sides compare. mtimes, owners and the other mode bits are not part of it."""

    kind: Kind
    digest: Optional[bytes] = None
    """sha256 of a file's content, 32 bytes; None for dirs and links."""
    size: int = 0
    """A file's length in bytes; 0 for dirs and links."""
    executable: bool = False
    """The owner's x bit of a file."""
    target: Optional[str] = None
    """Where a link points, verbatim."""


Tree = Dict[str, Entry]
