"""Which names a disk may take for `.git`: the ones that git itself refuses in a tree."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from remotedl.sync.agent.names import Names, plain

GIT = Names([".git", ".gitmodules", "hosts.toml"])
FORMS = (
    *(".git", ".GIT", ".Git", ".g\u200cit", "\u200d.git", ".git\ufeff", ".gi\u206ft", ".\u202agit"),
    *(".git.", ".git ", ".git . .", ".git:stream", ".git::$INDEX_ALLOCATION", "git~1", "GIT~1"),
)
OTHERS = ("git", ".gitt", ".gi", "a.git", "git1", "git~", "git~x", ". git", ".gi t", ".\u0261it")


@pytest.mark.parametrize("leaf", FORMS)
def test_forms_of_git(leaf: str) -> None:
    assert GIT.match(leaf) == ".git"


@pytest.mark.parametrize("leaf", OTHERS)
def test_other_names(leaf: str) -> None:
    assert GIT.match(leaf) is None


@pytest.mark.parametrize(
    ("leaf", "name"),
    [
        ("GITMOD~1", ".gitmodules"),
        ("gitmod~4", ".gitmodules"),
        ("gitmo~12", ".gitmodules"),
        ("gi7eba~1", ".gitmodules"),
        ("HOSTS~1.TOM", "hosts.toml"),
        ("ho12ab~1.tom", "hosts.toml"),
    ],
)
def test_short_names_of_windows(leaf: str, name: str) -> None:
    assert GIT.match(leaf) == name


def test_plain_letters() -> None:
    assert plain("\xc9T\xc9. ") == plain("e\u0301te\u0301") == "\xe9t\xe9"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")
def test_what_git_refuses_is_known(tmp_path: Path) -> None:
    """git's own check, with the protections of macOS and Windows switched on, is the judge."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    blob = _git(tmp_path, "hash-object", "-w", "--stdin", text="x").stdout.strip()
    options = ["-c", "core.protectHFS=true", "-c", "core.protectNTFS=true"]
    refused = set()
    for leaf in (*FORMS, *OTHERS):
        entry = f"100644,{blob},{leaf}/config"
        added = _git(tmp_path, *options, "update-index", "--add", "--cacheinfo", entry)
        if added.returncode != 0:
            refused.add(leaf)
    assert {".GIT", ".g\u200cit", "GIT~1"} <= refused <= set(FORMS)


def _git(folder: Path, *argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(folder), *argv]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)
