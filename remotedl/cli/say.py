"""What is printed: one line a call, and nothing in it that a terminal would obey."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

from remotedl.shown import Plain, shown, shown_message

Writer = Callable[[bytes], None]


def say(line: str = "", *, err: bool = False) -> None:
    """One line on stdout, or on stderr. Whatever a host filled in stays in it."""
    typer.echo(shown(line, "\t"), err=err)


def say_json(value: object) -> None:
    """For programs; JSON spells out by itself what is not ASCII."""
    typer.echo(json.dumps(value, indent=2))


def say_message(text: str) -> None:
    """Talk that may quote a host over several lines: only the first looks like one of ours."""
    print(shown_message(text), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def job_output(*, plain: bool) -> Iterator[tuple[Writer, Writer]]:
    """Where a job's stdout and stderr go: as they are to a terminal, else as plain text."""
    both = [_Passing(stream, plain=plain) for stream in (sys.stdout, sys.stderr)]
    try:
        yield both[0].write, both[1].write
    finally:
        for one in both:
            one.end()


class _Passing:
    """One stream of a job on its way to one of ours."""

    def __init__(self, stream: TextIO, *, plain: bool) -> None:
        self._stream = stream
        self._text = Plain() if plain or not stream.isatty() else None

    def write(self, data: bytes) -> None:
        self._put(data if self._text is None else self._encoded(data))

    def end(self) -> None:
        if self._text is not None and (rest := self._encoded(b"", last=True)):
            self._put(rest)

    def _encoded(self, data: bytes, *, last: bool = False) -> bytes:
        assert self._text is not None
        return self._text.feed(data, last=last).encode("utf-8", "backslashreplace")

    def _put(self, data: bytes) -> None:
        self._stream.buffer.write(data)
        self._stream.buffer.flush()
