"""The rules that every project starts with, and what our own matcher adds to git's."""

from __future__ import annotations

import time

import pytest

from remotedl.sync.agent.ignore import Ignore, Source


@pytest.mark.parametrize(
    "path, is_dir",
    [
        (".git", True),
        (".git", False),
        ("deep/down/.git", True),
        (".venv/lib/python3.11/site.py", False),
        ("pkg/__pycache__/a.cpython-311.pyc", False),
        (".ipynb_checkpoints", True),
        ("nb/.~lock.plot.ods#", False),
        (".train.py.swp", False),
        ("train.py~", False),
        (".DS_Store", False),
        (".remotedl/project.toml", False),
        (".remotedl", True),
    ],
)
def test_defaults_ignore(path: str, is_dir: bool) -> None:
    assert Ignore().ignores(path, is_dir)


@pytest.mark.parametrize(
    "path, is_dir",
    [(".gitignore", False), ("train.py", False), ("git", True), ("a.swp", False), ("#1", False)],
)
def test_defaults_leave_the_rest(path: str, is_dir: bool) -> None:
    assert not Ignore().ignores(path, is_dir)


def test_a_rule_brings_a_default_back() -> None:
    assert not Ignore([Source("!.DS_Store")]).ignores("a/.DS_Store", False)


def test_no_rule_brings_our_own_folder_back() -> None:
    assert Ignore([Source("!.remotedl\n!.remotedl/\n!*")]).ignores(".remotedl/trash/x", False)


@pytest.mark.parametrize("path", [".git/hooks/x", ".GIT", "sub/.git", ".g\u200cit/x", "GIT~1/x"])
def test_no_rule_brings_git_back(path: str) -> None:
    rules = "!.git\n!.GIT/\n!.g\u200cit\n!GIT~1\n!*\n!/sub/.git"
    assert Ignore([Source(rules)]).ignores(path, False)
    assert Ignore([Source(rules, folder="sub")]).ignores(path, False)


def test_below_an_ignored_dir_nothing_is_brought_back() -> None:
    assert Ignore([Source("data/\n!data/keep.csv")]).ignores("data/keep.csv", False)


def test_a_dir_rule_spares_a_file_and_a_link_of_that_name() -> None:
    assert not Ignore([Source("build/")]).ignores("build", False)


def test_rules_speak_about_both_unicode_forms() -> None:
    assert Ignore([Source("e\u0301t\u00e9/")]).ignores("\u00e9te\u0301", True)


def test_names_that_are_not_utf8_can_match() -> None:
    assert Ignore([Source("*.raw")]).ignores("\udcff\udcfe.raw", False)


def test_a_deeper_source_overrules_and_stays_in_its_folder() -> None:
    ignore = Ignore([Source("*.csv"), Source("!keep.csv\n/local", "data")])
    assert not ignore.ignores("data/x/keep.csv", False)
    assert ignore.ignores("keep.csv", False)
    assert ignore.ignores("data/local", False)
    assert not ignore.ignores("local", False)


def test_plus_overrules() -> None:
    assert not Ignore([Source("*.csv")]).plus(Source("!a.csv")).ignores("a.csv", False)


def test_the_fingerprint_tells_rules_apart() -> None:
    one = Ignore([Source("a")])
    assert one.fingerprint == Ignore([Source("a")]).fingerprint
    others = [Ignore(), Ignore([Source("b")]), Ignore([Source("a", "d")])]
    others.append(Ignore([Source("a")], defaults=False))
    assert one.fingerprint not in {other.fingerprint for other in others}


def test_a_hundred_thousand_paths_that_no_rule_names() -> None:
    ignore = Ignore([Source("node_modules/\n*.log\n!keep.log\n/data/raw\nruns/**\ndoc[s]/*.html")])
    names = [f"file_{number}.py" for number in range(100_000)]
    assert not any(ignore.ignores_child("pkg/sub", leaf, False) for leaf in names)


@pytest.mark.parametrize(
    "pattern, path",
    [
        ("*a*a*a*a*a*b", "a" * 200),
        ("*a" * 60 + "*b", "a" * 255),
        ("*[ab]?*[ab]?*[ab]?*[ab]?*c", "ab" * 127),
        ("**/a*/**/a*/**/a*/**/b", "/".join(["a" * 5] * 600)),
        ("/**/*a*/**/*a*/**/*a*/**/*a*/**/*z", "/".join(["aa"] * 1300)),
        ("a/**\\/a/**\\/a/**\\/a/**\\/b", "/".join(["a"] * 2000)),
        ("**/" * 40 + "b", "/".join(["a"] * 2000)),
        ("a*a*/**/a*a*/**/*b", "/".join(["a" * 250] * 16)),
    ],
)
def test_no_pattern_takes_long(pattern: str, path: str) -> None:
    ignore = Ignore([Source(f"{pattern}\n{pattern}/x\n/{pattern}")], defaults=False)
    began = time.process_time()
    assert not ignore.ignores_child(*path.rpartition("/")[::2], False)
    assert time.process_time() - began < 1.0
    again = Ignore([Source(pattern)], defaults=False)
    last = pattern[-1]
    assert again.ignores(path[:-1] + last if "/" not in path else f"{path}/{last}", False)
