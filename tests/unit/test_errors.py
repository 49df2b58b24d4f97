"""The tree of errors: each has a code of its own, is told in the docs, and is raised somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remotedl import errors
from remotedl.cli.app import EPILOG
from remotedl.errors import RemotedlError

ROOT = Path(__file__).parents[2]


def tree(kind: type[RemotedlError] = RemotedlError) -> list[type[RemotedlError]]:
    return [kind, *(one for sub in kind.__subclasses__() for one in tree(sub))]


ALL = [one for one in tree() if one.__module__ == errors.__name__]


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = [one.exit_code for one in ALL]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 for code in codes)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_exit_code_is_in_the_docs_and_in_the_drawn_tree(kind: type[RemotedlError]) -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{kind.exit_code}\b", page)
    assert re.search(rf"{kind.__name__} +{kind.exit_code} ", errors.__doc__ or "")


@pytest.mark.parametrize("kind", ALL[1:], ids=lambda kind: kind.__name__)
def test_every_error_is_raised_somewhere(kind: type[RemotedlError]) -> None:
    sources = (p for p in (ROOT / "remotedl").rglob("*.py") if p.name != "errors.py")
    used = re.compile(rf"\b{kind.__name__}\b(?!,$)", re.MULTILINE)
    passive = re.compile(r"^\s*(from|import|except|class)\b.*$", re.MULTILINE)
    assert any(used.search(passive.sub("", p.read_text(encoding="utf-8"))) for p in sources)


def test_help_names_every_exit_code() -> None:
    spans = [(int(a), int(b or a)) for a, b in re.findall(r"(\d+)(?:-(\d+))? [a-z]", EPILOG)]
    assert all(any(a <= one.exit_code <= b for a, b in spans) for one in ALL)
