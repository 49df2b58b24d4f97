"""Finding the marks that `quoting.py` puts before a command's own output.

What comes before the start mark is noise (a banner, an `echo` in .bashrc) and is kept apart.
Pure: bytes in, bytes out.
"""

from __future__ import annotations

import re

START = re.compile(rb"\x1eremotedl:([0-9]+) \x1e")
PROMPT = b"\x1eremotedl? \x1e"
NOISE_LIMIT = 1 << 20
ENDLESS = 8 << 20
"""No login says so much before it runs a command."""


class StartFinder:
    """Drops everything up to the start mark. `prompts` counts sudo's questions on the way."""

    def __init__(self) -> None:
        self.pid: int | None = None
        """The command's process id on the host, once it has started."""
        self.noise = b""
        """What came before the mark, sudo's questions left out."""
        self.prompts = 0
        self.noise_seen = 0
        """Bytes of noise, those too that are not kept."""

    @property
    def endless(self) -> bool:
        return not self.started and self.noise_seen > ENDLESS

    @property
    def started(self) -> bool:
        return self.pid is not None

    def take_for_prompt(self) -> None:
        """Nothing more has come for a while: a line that ends in a colon is a question then.

        sudo asks in the words of PAM, and not in ours, where PAM does not just want a password.
        """
        last = self.noise.rpartition(b"\n")[2]
        if not self.started and last.rstrip().endswith(b":"):
            self.prompts += 1
            self.noise += b"\n"

    def feed(self, data: bytes) -> bytes:
        """The part of `data` that is the command's own."""
        if self.started:
            return data
        self.noise_seen += len(data)
        seen = self.noise + data
        self.prompts += seen.count(PROMPT)
        seen = seen.replace(PROMPT, b"")
        if (mark := START.search(seen)) is None:
            self.noise = seen[-NOISE_LIMIT:]
            return b""
        self.pid = int(mark[1])
        self.noise = seen[: mark.start()]
        return seen[mark.end() :]
