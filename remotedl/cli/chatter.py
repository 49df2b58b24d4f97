"""What package managers say about each package: left out of plain lines, which are for reading.

On a terminal the last line stands for what goes on, whatever it is; in a log, a hundred lines of
"Unpacking" hide the two that matter. What a failed step printed last is in its error, unabridged.
"""

from __future__ import annotations

import re

NOISE = re.compile(
    r"\s*$"
    r"|\(Reading database|Selecting previously|Preparing to unpack|Unpacking |Setting up "
    r"|Processing triggers|(Get|Hit|Ign):\d+ |Fetched |Reading (package lists|state information)"
    r"|Building dependency tree|Need to get |After this operation|debconf: |update-alternatives: "
    r"|\d+ files and directories|\d+ upgraded, |\s*(Collecting|Downloading|Using cached) "
    r"|\s*Requirement already satisfied|\s*Installing collected packages|\s*━"
    r"|\s*(Preparing metadata|Building wheel|Created wheel|Stored in directory)"
    r"|\[internal\] load (remote build context|\.dockerignore)|copy /context /$"
)
LISTS = re.compile(r"(The following|Suggested packages:|Recommended packages:)")
SPACES = re.compile(r"  +")


class Chatter:
    """Tells chatter from news, line by line: a list of packages goes on over several."""

    def __init__(self) -> None:
        self._in_list = False

    def news(self, line: str) -> str:
        """The line to print, or "" for none."""
        self._in_list = LISTS.match(line) is not None or (self._in_list and line[:2] == "  ")
        if self._in_list or NOISE.match(line):
            return ""
        # The steps of a Dockerfile come with the spaces of their continued lines.
        return SPACES.sub(" ", line) if line.startswith("[") else line
