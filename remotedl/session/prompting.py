"""A prompt that remembers secrets for as long as the process lives.

A reconnect, a second connection and sudo must not ask again; nothing is written anywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from remotedl.session import keyring
from remotedl.ssh.prompt import Prompt

AGAIN = ("That was not it. ", "Wrong passphrase. ")
"""What `ssh` says before a question that was answered wrongly."""


def attended(prompt: Prompt) -> bool:
    """Whether somebody is there who can answer; a Prompt that does not say is nobody."""
    return bool(getattr(prompt, "attended", False))


class RememberingPrompt:
    """Asks the keyring, then `inner`; a secret that is asked for again right away was wrong."""

    def __init__(self, inner: Prompt, kept: Callable[[str], str | None] = keyring.look_up) -> None:
        self._inner = inner
        self._kept = kept
        self._known: dict[str, str] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()
        self.asked = False
        """Whether somebody was asked anything: then it is them who is waited for."""

    @property
    def attended(self) -> bool:
        return attended(self._inner)

    def begin(self) -> None:
        """A new connection begins: every secret may be used once more."""
        with self._lock:
            self._used.clear()

    def secret(self, question: str) -> str | None:
        key = _plain(question)
        with self._lock:
            answer = None
            if key not in self._used:
                answer = self._known.get(key) or self._kept(key)
            if answer is None:
                self.asked = True
                answer = self._inner.secret(question)
            if answer is not None:
                self._known[key] = answer
                self._used.add(key)
            return answer

    def confirm(self, question: str) -> bool:
        self.asked = True
        return self._inner.confirm(question)


def _plain(question: str) -> str:
    for words in AGAIN:
        question = question.removeprefix(words)
    return question
