"""A prompt that remembers secrets for as long as the process lives.

A reconnect, a second connection and sudo must not ask again; nothing is written anywhere.
"""

from __future__ import annotations

import threading

from remotedl.ssh.prompt import Prompt


class RememberingPrompt:
    """Asks `inner` once a question; a secret that was asked for again right away was wrong."""

    def __init__(self, inner: Prompt) -> None:
        self._inner = inner
        self._known: dict[str, str] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A new connection begins: every secret may be used once more."""
        with self._lock:
            self._used.clear()

    def secret(self, question: str) -> str | None:
        with self._lock:
            known = self._known.get(question)
            if known is not None and question not in self._used:
                self._used.add(question)
                return known
            answer = self._inner.secret(question)
            if answer is not None:
                self._known[question] = answer
                self._used.add(question)
            return answer

    def confirm(self, question: str) -> bool:
        return self._inner.confirm(question)
