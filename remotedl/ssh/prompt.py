"""Who answers questions while a connection is opened: a person, a keyring, or nobody.

`cli` and `session` bring their own. This room asks and never reads a terminal itself; an answer
is used and forgotten, except for the sudo password, which lives as long as the connection.
"""

from __future__ import annotations

from typing import Protocol


class Prompt(Protocol):
    """Asked from any thread; one question at a time."""

    def secret(self, question: str) -> str | None:
        """A password or passphrase, typed unseen; None when nobody can answer."""
        ...

    def confirm(self, question: str) -> bool:
        """Yes or no; False when nobody can answer."""
        ...


class _Nobody:
    def secret(self, question: str) -> str | None:
        return None

    def confirm(self, question: str) -> bool:
        return False


NOBODY: Prompt = _Nobody()
"""For scripts and background sessions: every question stays unanswered."""
