"""`run [HOST] -- CMD…` taken apart."""

from __future__ import annotations

import pytest

from remotedl.cli.commands.work import split_command
from remotedl.errors import UsageError


@pytest.mark.parametrize(
    ("raw", "words", "host", "argv"),
    [
        (["--", "ls"], ["ls"], None, ["ls"]),
        (["h1", "--", "ls", "-l"], ["h1", "ls", "-l"], "h1", ["ls", "-l"]),
        (["-d", "h1", "--", "a", "--", "b"], ["h1", "a", "--", "b"], "h1", ["a", "--", "b"]),
        (["ls", "x"], ["ls", "x"], None, ["ls", "x"]),
    ],
)
def test_host_and_command(
    raw: list[str], words: list[str], host: str | None, argv: list[str]
) -> None:
    assert split_command(raw, words) == (host, argv)


def test_nothing_after_the_dashes_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing to run"):
        split_command(["h1", "--"], ["h1"])


def test_two_words_before_the_dashes_are_an_error() -> None:
    with pytest.raises(UsageError, match="one HOST"):
        split_command(["a", "b", "--", "c"], ["a", "b", "c"])
