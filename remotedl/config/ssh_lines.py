"""The lines of ~/.ssh/config, cut into words as OpenSSH cuts them. The one tokeniser.

A line is a keyword and words (readconf.c: `strdelim` finds the keyword, `argv_split` the rest); an
Include holds the lines of the files that it names. What a keyword means, and which lines count for
a host, is not known here: `ssh/client_config.py` decides that.
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from remotedl.errors import ConfigError

DEEPEST_INCLUDE = 16
SYSTEM_FOLDER = Path("/etc/ssh")
BLANK = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Line:
    """One line that says something."""

    keyword: str
    """In lower case."""
    rest: str
    """All that follows the keyword, as it stands."""
    words: tuple[str, ...]
    """The same, cut: quotes and what they protect, `\\`, and a comment taken off."""
    where: str
    """file:line, for messages."""
    included: tuple[tuple[Line, ...], ...] = ()
    """For an Include: the lines of each file that it names."""


def read_file(path: Path, *, checked: bool = False) -> tuple[Line, ...]:
    """Every line of `path`; none where there is no such file.

    With `checked`, a file that others may write to is refused, as OpenSSH refuses it.
    Raises ConfigError.
    """
    return _read(path, path.parent == SYSTEM_FOLDER, checked, 0)


def parse(text: str, where: str) -> tuple[Line, ...]:
    """The lines of a text that lies in no file. Raises ConfigError."""
    return tuple(_parse(text.split("\n"), where, of_system=False, depth=0))


def flat(lines: Iterable[Line]) -> Iterator[Line]:
    """All lines, those of included files in their place."""
    for line in lines:
        yield line
        for file in line.included:
            yield from flat(file)


def split_words(text: str) -> tuple[str, ...]:
    """As OpenSSH's argv_split: two kinds of quotes, backslashes, # begins a comment.

    Raises ValueError where a quote is not closed.
    """
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if text[at] == "#":
            break
        word, at = _one_word(text, at)
        words.append(word)
    return tuple(words)


def next_word(text: str) -> tuple[str | None, str]:
    """As OpenSSH's strdelim: the first word, and what follows it and one `=`.

    None where a quote is not closed.
    """
    at = next((i for i, char in enumerate(text) if char in BLANK or char in '"='), len(text))
    if at == len(text):
        return text, ""
    if text[at] == '"':
        body, closed, rest = text[at + 1 :].partition('"')
        return (text[:at] + body, rest.lstrip(BLANK)) if closed else (None, "")
    rest = text[at + 1 :].lstrip(BLANK)
    if text[at] != "=" and rest.startswith("="):
        rest = rest[1:].lstrip(BLANK)
    return text[:at], rest


def _one_word(text: str, at: int) -> tuple[str, int]:
    word, quote = "", ""
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text) and text[at + 1] in ("'\"\\" if quote else "'\"\\ "):
            at += 1
            word += text[at]
        elif not quote and char in " \t":
            break
        elif not quote and char in "\"'":
            quote = char
        elif char == quote:
            quote = ""
        else:
            word += char
        at += 1
    if quote:
        raise ValueError(f"a {quote} is not closed")
    return word, at


def _read(path: Path, of_system: bool, checked: bool, depth: int) -> tuple[Line, ...]:
    if depth > DEEPEST_INCLUDE:
        raise ConfigError(f"{path}: files that include each other, or more than 16 deep")
    try:
        with path.open("rb") as file:
            if checked:
                _check_owner(path, os.fstat(file.fileno()))
            text = file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return ()
    return tuple(_parse(text.split("\n"), str(path), of_system=of_system, depth=depth))


def _check_owner(path: Path, found: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    if found.st_uid in (0, os.getuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    raise ConfigError(
        f"{path} can be written by others, who could run commands as you: ssh refuses it, too",
        hint=f"chmod go-w {path}",
    )


def _parse(lines: list[str], file: str, *, of_system: bool, depth: int) -> Iterator[Line]:
    for number, raw in enumerate(lines, 1):
        text = raw.rstrip(BLANK + "\f")
        where = f"{file}:{number}"
        keyword, rest = next_word(text)
        if keyword == "":  # leading blanks
            keyword, rest = next_word(rest)
        if not keyword or keyword.startswith("#"):
            continue
        keyword = keyword.lower()
        try:
            words = split_words(rest)
        except ValueError as exc:
            raise ConfigError(f"{where}: {exc}: {text.strip()}", hint=_edit(file, number)) from exc
        if not rest:
            raise ConfigError(f"{where}: {keyword} has no value", hint=_edit(file, number))
        included: tuple[tuple[Line, ...], ...] = ()
        if keyword == "include":
            found = [path for word in words for path in _named(word, of_system)]
            included = tuple(_read(path, of_system, True, depth + 1) for path in found)
        yield Line(keyword, rest, words, where, included)


def _named(pattern: str, of_system: bool) -> list[Path]:
    """The files of an Include; relative names are those of ~/.ssh or /etc/ssh."""
    folder = SYSTEM_FOLDER if of_system else Path.home() / ".ssh"
    full = os.path.join(folder, os.path.expanduser(pattern))
    return [Path(name) for name in sorted(glob.glob(full))]


def _edit(file: str, number: int) -> str:
    return f"edit {file}, line {number}"
