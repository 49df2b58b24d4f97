"""Text that somebody else filled, made safe to be seen: the one border between hosts and terminals.

A host fills names of files, jobs, images and containers, what its programs say, prompts and errors.
A terminal obeys what it is sent: it sets its title, writes into the clipboard, moves its cursor and
turns the direction of writing. Nothing of that gets there: what people cannot see is spelled out.
"""

from __future__ import annotations

import re
import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that are obeyed by programs and not seen by people."""
JOINERS = "\u200c\u200d"
"""Of category Cf, and part of words and of emoji."""
ASIDE = "\n  | "
"""In front of what follows in a message of several lines: none of them looks like one of ours."""
SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, the cursor
    r"|\x1b[\]PX^_](?s:.)*?(?:\x07|\x1b\\|\x9c)"  # titles, the clipboard, links
    r"|\x1b(?![\[\]PX^_])[ -/]*[0-~]"
)
OPEN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x9c]*|[ -/]*)?\Z")
"""A sequence that the end of a piece of text cuts."""
UNUSUAL = re.compile(r"[^ -~]+")
"""What has to be looked at one by one."""
LONGEST = 4096
"""Characters of a sequence that are waited for."""


def is_hidden(ch: str) -> bool:
    """Whether it is none that people see: control, direction, line separator."""
    return unicodedata.category(ch) in HIDDEN and ch not in JOINERS


def shown(text: str, keep: str = "") -> str:
    """One line: every character that cannot be seen is spelled out, `keep` excepted."""

    def spell(found: re.Match[str]) -> str:
        return "".join(_spelled(ch) if is_hidden(ch) and ch not in keep else ch for ch in found[0])

    return UNUSUAL.sub(spell, text)


def _spelled(ch: str) -> str:
    return ch.encode("unicode_escape").decode()


def shown_message(text: str) -> str:
    """Several lines, of which all but the first are set off."""
    return ASIDE.join(shown(line, "\t") for line in text.splitlines())


class Plain:
    """A program's output as text: without colours and titles, and what is left is spelled out.

    Takes it in pieces, wherever they are cut.
    """

    def __init__(self) -> None:
        import codecs

        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """What can be shown by now; `last`: nothing more comes."""
        text = SEQUENCE.sub("", self._held + self._decoder.decode(data, last))
        cut = None if last else OPEN.search(text)
        self._held = text[cut.start() :] if cut and len(text) - cut.start() < LONGEST else ""
        return shown(text[: len(text) - len(self._held)], "\n\r\t")
