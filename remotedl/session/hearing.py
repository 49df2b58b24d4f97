"""A report that is overheard: the session knows which stage it is in."""

from __future__ import annotations

from collections.abc import Callable

from remotedl.report import Report


class Heard:
    """Passes everything on to `inner`, and each stage to `hear` as well."""

    def __init__(self, inner: Report, hear: Callable[[str, str], None]) -> None:
        self._inner, self._hear = inner, hear

    def stage(self, name: str, detail: str = "") -> None:
        self._hear(name, detail)
        self._inner.stage(name, detail)

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        self._inner.progress(what, done, total, unit)

    def note(self, text: str) -> None:
        self._inner.note(text)

    def warn(self, text: str, hint: str = "") -> None:
        self._inner.warn(text, hint)

    def output(self, line: str) -> None:
        self._inner.output(line)
