"""The rules of .dockerignore, which are not git's."""

from __future__ import annotations

import pytest

from remotedl.images.dockerignore import left_out_by

ROWS = [
    ("*.pyc", "a.pyc", True),
    ("*.pyc", "sub/a.pyc", False),  # anchored at the context
    ("**/*.pyc", "sub/deep/a.pyc", True),
    ("**/*.pyc", "a.pyc", True),
    ("data", "data/", True),
    ("data", "data/x/y", True),
    ("/data/", "data/x", True),
    ("data", "database", False),
    ("*/temp*", "sub/temporary.txt", True),
    ("*/temp*", "sub/deep/temporary.txt", False),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    ("[a-c].txt", "b.txt", True),
    ("[a-c].txt", "d.txt", False),
    ("*\n!keep.md", "keep.md", False),
    ("*\n!keep.md", "other.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("# data\n\ndata", "data", True),
    ("a.b", "aXb", False),
    ("sub/**", "sub/x", True),
    ("", "anything", False),
]


@pytest.mark.parametrize(("text", "name", "out"), ROWS)
def test_each_rule(text: str, name: str, out: bool) -> None:
    assert left_out_by(text)(name) is out
