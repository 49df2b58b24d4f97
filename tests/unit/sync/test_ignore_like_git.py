"""Our matcher against `git check-ignore` over random rules: the same answer for every path."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from remotedl.sync.agent.ignore import Ignore, Source

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

NAMES = ["a", "b", "ab", "a.b", "ba", "é", "a b", "a-", "!a", "#b", "a\\b", "[a]", "x*"]
DIRS = ["a", "b", "ab", "a.b", "é", "a/a", "a/b", "a/ab", "b/a", "a/b/a", "ab/b"]


class Git:
    """A work tree whose paths stand still while its rules change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "HOME": str(root),
        }
        subprocess.run(["git", "init", "-q", str(root)], check=True, env=self.env)
        self.paths: dict[str, bool] = {}
        for folder in sorted(DIRS):
            (root / folder).mkdir()
            self.paths[folder] = True
        for folder in ["", *DIRS]:
            for leaf in NAMES:
                path = f"{folder}/{leaf}" if folder else leaf
                if path not in self.paths:
                    (root / path).touch()
                    self.paths[path] = False

    def ignored(self, rules: dict[str, str]) -> set[str]:
        places = {self.root / folder / ".gitignore": text for folder, text in rules.items()}
        for place, text in places.items():
            place.write_text(text, newline="")
        found = subprocess.run(
            ["git", "-C", str(self.root), "check-ignore", "--no-index", "-z", "--stdin"],
            input="\0".join(self.paths).encode(),
            stdout=subprocess.PIPE,
            env=self.env,
        )
        assert found.returncode in (0, 1)
        for place in places:
            place.unlink()
        return {path.decode() for path in found.stdout.split(b"\0") if path}


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Git]:
    yield Git(tmp_path_factory.mktemp("git"))


def agree(git: Git, rules: dict[str, str]) -> None:
    ignore = Ignore((Source(text, folder) for folder, text in rules.items()), defaults=False)
    ours = {path for path, is_dir in git.paths.items() if ignore.ignores(path, is_dir)}
    assert ours == git.ignored(rules), rules
    assert ours == {path for path in git.paths if is_below(path, ours)} | walked(git, ignore)


def walked(git: Git, ignore: Ignore) -> set[str]:
    """What a scan skips: it asks child by child and never descends into an ignored dir."""
    skipped: set[str] = set()
    for path, is_dir in git.paths.items():
        folder, _, leaf = path.rpartition("/")
        if not is_below(path, skipped) and ignore.ignores_child(folder, leaf, is_dir):
            skipped.add(path)
    return skipped


def is_below(path: str, folders: set[str]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)


PIECES = [
    *["a", "b", "ab", ".", "é", " ", "\\ ", "-", "#", "!", "\\", "\\a", "\\*", "[", "]", "/"],
    *["/", "/", "*", "**", "***", "?", "/**", "**/", "/**/", "*.b", "!", "^", "\t", "\r"],
    *["[ab]", "[!a]", "[^b]", "[a-b]", "[]a]", "[a-]", "[[:alpha:]]", "[[:x:]]", "[\\a-b]"],
]
LINE = st.builds(
    lambda start, pieces, end: start + "".join(pieces) + end,
    st.sampled_from(["", "", "", "!", "/", "!/", "#", "\\!", "\\#"]),
    st.lists(st.sampled_from(PIECES), max_size=5),
    st.sampled_from(["", "", "", "/", " ", "  ", "\\ ", "\\"]),
)
TEXT = st.lists(LINE, min_size=1, max_size=5).map("\n".join)


@settings(
    max_examples=int(os.environ.get("REMOTEDL_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=TEXT)
@example("a\n!a/b\n")
@example("/a/*\n!/a/b\n")
@example("a**/b")
@example("ab/")
@example("a/ab/")
@example("/a/a/")
@example("*\n!*/\n!*.b")
@example("a\\")
@example("a \\ \n[a-")
@example("\ufeffa")
@example("**")
@example("a/**/b")
@example("a/**\\/b")
@example("[[:]")
@example("[[:]a]")
@example("[[:alpha:]-b]")
@example("a[[:punct:]-z]")
@example("a[.-[:alpha:]b]b")
@example("a*b\n!?b/\n")
@example("[a]b\n!ab/\n!?b/\n[ab]b\n![a-z]b/")
@example("a\\ b  \nb\\ \n")
@example("[!-a]")
@example("x\\*\n\\[a\\]\na\\\\b")
@example("**/a/**/b/**/a\n!**/**/b")
@example("*a*b*\n!a*?*b")
@example("a/**\\/a\n**\\/b")
def test_random_rules_match_as_in_git(git: Git, text: str) -> None:
    agree(git, {"": text})


@settings(max_examples=20, deadline=None)
@given(rules=st.dictionaries(st.sampled_from(["", "a", "a/b"]), TEXT, min_size=2))
@example({"": "a", "a": "!b"})
@example({"": "*.b\nb/", "a": "!b\n!a.b", "a/b": "/a\n!a.b"})
def test_nested_rule_files_match_as_in_git(git: Git, rules: dict[str, str]) -> None:
    agree(git, dict(sorted(rules.items())))
