"""Asks the person at the terminal; where there is none, nobody answers."""

from __future__ import annotations

import getpass
import sys
from contextlib import AbstractContextManager, nullcontext

from remotedl.report import Report
from remotedl.shown import shown, shown_message


class TerminalPrompt:
    """The Prompt of ssh/, on stderr and the terminal; the live block makes way meanwhile."""

    def __init__(self, report: Report) -> None:
        self._report = report

    @property
    def attended(self) -> bool:
        return sys.stdin.isatty()

    def secret(self, question: str) -> str | None:
        if not sys.stdin.isatty():
            return None
        with self._aside():
            try:
                return getpass.getpass(f"{shown(question.rstrip(': '))}: ", stream=sys.stderr)
            except EOFError:
                return None

    def confirm(self, question: str) -> bool:
        if not sys.stdin.isatty():
            return False
        with self._aside():
            print(f"{shown_message(question.rstrip())} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
            return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _aside(self) -> AbstractContextManager[None]:
        hidden = getattr(self._report, "hidden", None)
        return nullcontext() if hidden is None else hidden()
