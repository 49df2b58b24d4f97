"""Which paths are never synced: gitignore rules, matched as git matches them. Pure.

Runs on Python 3.8 with the standard library and does no I/O: who reads `.remotedlignore` or a
`.gitignore` hands its text in as a `Source`. Matching works on keys (NFC) and, as in git, on
the bytes of their UTF-8. An ignored dir is not descended into, so nothing below it can be
brought back by a `!` rule.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Tuple

ALWAYS = (".remotedl/",)
"""Our own marker, trash and staging area; no rule brings it back."""

DEFAULTS = (
    ".git/",
    ".venv/",
    "__pycache__/",
    ".ipynb_checkpoints/",
    ".~*",
    "*~",
    ".*.sw[a-p]",
    ".DS_Store",
)
"""Ignored unless a `!` rule of the user says otherwise."""


class Source(NamedTuple):
    """The text of one file of rules."""

    text: str
    """Lines as in a .gitignore."""
    folder: str = ""
    """The key of the dir whose paths the rules speak about; "" is the root."""


class Ignore:
    """Compiled rules. Immutable; the same sources give the same answers on both sides.

    A later source overrules an earlier one, a later line an earlier line. Give them in this
    order: defaults, .gitignore files (root first, then deeper ones), .remotedlignore, the
    configuration's own lines.
    """

    sources: Tuple[Source, ...]
    fingerprint: str
    """Hex; equal for equal sources. A scan says by which rules it was made."""

    def __init__(self, sources: Iterable[Source] = (), *, defaults: bool = True) -> None: ...

    def plus(self, *sources: Source) -> Ignore:
        """These rules and, overruling them, further sources."""
        ...

    def ignores(self, path: str, is_dir: bool) -> bool:
        """Whether `path`, or a dir above it, is ignored. A link to a dir is no dir."""
        ...

    def ignores_child(self, folder: str, leaf: str, is_dir: bool) -> bool:
        """The same for a scan that stands in `folder` and knows that it is not ignored."""
        ...
