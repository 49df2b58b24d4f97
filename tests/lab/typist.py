"""People who type in JupyterLab, in a real Chromium, while somebody rewrites the same file."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import nbformat

KEYS_PER_S = 8.0
LIMIT_S = 60.0
END = "END"


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright's; the tests' own, Debian's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Typist:
    """One person in one document, at the end of the first line of one cell or text."""

    def __init__(self, browser: Any, url: str, name: str, tag: str, cell: int = 0) -> None:
        """`url`: Jupyter's, with its token. `tag`: what the words begin with."""
        parts = urlsplit(url)
        token = parse_qs(parts.query)["token"][0]
        self.tag = tag
        self.words: list[str] = []
        self._rest = ""
        self.page = browser.new_context().new_page()
        self.page.set_default_timeout(LIMIT_S * 1000)
        base = f"{parts.scheme}://{parts.netloc}"
        self.page.goto(f"{base}/doc/tree/{quote(name)}?token={token}")
        editors = self.page.locator(".jp-Cell .cm-content, .jp-FileEditor .cm-content")
        editors.nth(cell).wait_for()
        if name.endswith(".ipynb"):
            self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        self.box = editors.nth(cell)
        self.box.click()
        for key in ("Control+Home", "End", "Space"):
            self.page.keyboard.press(key)

    def press(self) -> None:
        """The next key."""
        if not self._rest:
            word = f"{self.tag}{len(self.words):03d}"
            self.words.append(word)
            self._rest = word + " "
        key, self._rest = self._rest[0], self._rest[1:]
        self.page.keyboard.type(key)

    def end(self) -> None:
        while self._rest:
            self.press()
        self.page.keyboard.type(END)

    @property
    def text(self) -> str:
        """All of it, in one piece: had the caret moved, it would be in several."""
        return " ".join([*self.words, END])


def type_for(seconds: float, *typists: Typist, meanwhile: Callable[[float], None] | None) -> None:
    """All of them at once, each at `KEYS_PER_S`; `meanwhile` is told how far it is, 0 to 1."""
    begun = time.monotonic()
    keys = 0
    while (passed := time.monotonic() - begun) < seconds:
        for typist in typists:
            typist.press()
        if meanwhile is not None:
            meanwhile(passed / seconds)
        keys += 1
        time.sleep(max(0.0, begun + keys / KEYS_PER_S - time.monotonic()))
    for typist in typists:
        typist.end()


@dataclass
class Rewriter:
    """An editor on the laptop: reads the file, adds a line, replaces it, again and again."""

    path: Path
    cell: int
    times: int
    seconds: float
    lines: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Rewriter:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(self.seconds + 10)
        self._stop.set()

    def _run(self) -> None:
        for number in range(self.times):
            if self._stop.wait(self.seconds / self.times):
                return
            line = f"# laptop {number:03d}"
            try:
                text = self._with(self.path.read_text(encoding="utf-8"), line)
            except FileNotFoundError:  # renamed
                continue
            new = self.path.with_name(f".~{self.path.name}")
            new.write_text(text, encoding="utf-8")
            os.replace(new, self.path)
            self.lines.append(line)

    def _with(self, text: str, line: str) -> str:
        if self.path.suffix != ".ipynb":
            if self.cell:
                return text.rstrip("\n") + f"\n{line}\n"
            first, _, rest = text.partition("\n")
            return f"{first}\n{line}\n{rest}"
        notebook = nbformat.reads(text, as_version=4)
        notebook.cells[self.cell].source += f"\n{line}"
        return str(nbformat.writes(notebook))


def notebook(path: Path, sources: Sequence[str]) -> None:
    cells = [
        nbformat.v4.new_code_cell(source, id=f"cell{number}")
        for number, source in enumerate(sources)
    ]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), path)


def sources_of(path: Path) -> list[str]:
    """The cells' texts, or the one text."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return [text]
    return [str(cell.source) for cell in nbformat.reads(text, as_version=4).cells]


def missing(path: Path, typists: Sequence[Typist], lines: Sequence[str]) -> list[str]:
    """What of all that was typed and written is not in the file or not in its order.

    A line of the laptop may be in a version that was kept beside the file.
    """
    texts = sources_of(path)
    found = [one.text for one in typists if not any(one.text in text for text in texts)]
    kept = [
        source
        for copy in path.parent.glob(f"{path.stem}.conflict-*")
        for source in sources_of(copy)
    ]
    found += [line for line in lines if not any(line in text for text in (*texts, *kept))]
    for text in texts:
        numbers = [int(number) for number in re.findall(r"# laptop (\d+)", text)]
        if numbers not in (sorted(numbers), sorted(numbers, reverse=True)):
            found.append(f"the laptop's lines are out of order: {numbers}")
    return found
