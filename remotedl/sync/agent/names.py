"""Names that a filesystem may take for one that matters, such as `.git`. Pure; Python 3.8.

macOS ignores case, the Unicode form and some invisible characters; Windows ignores case, dots
and spaces at the end and what follows a colon, and knows a file by its short name (`GIT~1`) too.
Which of them the disk at hand does is not asked: all are always taken for the name.
Source: git's utf8.c (`next_hfs_char`) and path.c (`is_ntfs_dotgit`, `is_ntfs_dot_generic`).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Dict, Iterable, Optional, Set, Tuple

_INVISIBLE = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)
_SHORT = re.compile(r"([^~.]{1,6})~[0-9]{1,6}(?:\.([^.]{0,3}))?")
_HASHED = re.compile(r"[0-9a-f]{4}")
_MEMORY = 1 << 16


def plain(leaf: str) -> str:
    """What `leaf` is where case, Unicode form, invisible characters and endings do not count."""
    if not leaf.isascii():
        leaf = unicodedata.normalize("NFD", leaf.translate(_INVISIBLE)).casefold()
        leaf = unicodedata.normalize("NFC", leaf)
    return leaf.partition(":")[0].rstrip(". ").casefold()


class Names:
    """A set of names that are recognised in every form."""

    def __init__(self, names: Iterable[str]) -> None:
        self._plain: Dict[str, str] = {plain(name): name for name in names}
        self._short: Dict[Tuple[str, str], str] = {}
        self._starts: Dict[Tuple[str, str], str] = {}
        for folded, name in self._plain.items():
            stem, dot, ending = folded.lstrip(". ").rpartition(".")
            stem, ending = (stem, ending[:3]) if dot and stem else (ending, "")
            stem = re.sub(r"[ .]", "", stem)
            for length in range(4, 7):  # the higher the number, the shorter the stem
                self._short[stem[:length], ending] = name
            self._starts[stem[:2], ending] = name
        self._firsts: Set[str] = {folded[:1] for folded in self._plain}
        self._firsts |= {stem[:1] for stem, _ in self._short}
        self._known: Dict[str, Optional[str]] = {}

    def match(self, leaf: str) -> Optional[str]:
        """The name that `leaf` may be taken for; None for any other."""
        if leaf.isascii() and leaf[:1].lower() not in self._firsts:
            return None
        if leaf in self._known:
            return self._known[leaf]
        if len(self._known) >= _MEMORY:
            self._known.clear()
        found = self._known[leaf] = self._look_up(plain(leaf))
        return found

    def _look_up(self, folded: str) -> Optional[str]:
        name = self._plain.get(folded)
        if name is not None or "~" not in folded:
            return name
        short = _SHORT.fullmatch(folded)
        if short is None:
            return None
        stem, ending = short[1], short[2] or ""
        if len(stem) == 6 and _HASHED.fullmatch(stem[2:]) and (stem[:2], ending) in self._starts:
            return self._starts[stem[:2], ending]
        return self._short.get((stem, ending))
