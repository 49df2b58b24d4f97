"""Paths, keys, and what may come over the wire."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotedl.sync.agent.tree import (
    DIR,
    BadPath,
    Entry,
    Folding,
    Kind,
    Traits,
    bottom_up,
    changed_keys,
    check_path,
    check_tree,
    children,
    diff,
    index,
    key,
    nameable,
    parents,
    patched,
    top_down,
    twins,
)
from tests.unit.sync.worlds import file, link, tree

PARTS = st.text(st.sampled_from("ab-. é\u0301\udcff"), min_size=1, max_size=3)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PATHS, st.sampled_from([DIR, file("1"), file("2"), link("x")]))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/..",
        "../a",
        "a/../b",
        ".",
        "a/.",
        "./a",
        "a//b",
        "a/",
        "a\0b",
    ],
)
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(BadPath):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["a", "a/b", "...", "..a", "a\nb", "a\\b", "\udcff", "é" * 127, "-"]
)
def test_a_path_that_is_only_odd_is_taken(path: str) -> None:
    assert check_path(path) == path


def test_a_path_of_bytes_is_refused() -> None:
    with pytest.raises(BadPath):
        check_path(b"a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entries",
    [
        {"a/b": file("1")},
        {"a": file("1"), "a/b": file("1")},
        {"a": link("/etc"), "a/passwd": file("1")},
        {"a": Entry(Kind.FILE)},
        {"a": Entry(Kind.FILE, b"short", 1)},
        {"a": file("1")._replace(size=-1)},
        {"a": file("1")._replace(target="x")},
        {"a": DIR._replace(executable=True)},
        {"a": DIR._replace(digest=bytes(32))},
        {"a": Entry(Kind.LINK)},
        {"a": link("")},
        {"a": link("b\0c")},
        {"../a": DIR},
    ],
)
def test_a_tree_that_cannot_be_is_refused(entries: dict[str, Entry]) -> None:
    with pytest.raises(BadPath):
        check_tree(entries)


def test_a_sound_tree_is_taken() -> None:
    check_tree(tree(d=DIR, d__a=file("1", x=True), d__l=link("/anywhere")))


@given(PATHS)
def test_a_key_is_its_own_key(path: str) -> None:
    assert key(key(path)) == key(path) == unicodedata.normalize("NFC", path)


def test_index_leads_from_keys_back_to_disk() -> None:
    entries = [("e\u0301", DIR), ("e\u0301/a", file("1")), ("b", file("2"))]
    found, spelling, same = index(entries)
    assert found == {"é": DIR, "é/a": file("1"), "b": file("2")}
    assert spelling == {"é": "e\u0301", "é/a": "e\u0301/a"} and not same


@pytest.mark.parametrize("order", [["é", "e\u0301"], ["e\u0301", "é"]])
def test_index_reports_twins_by_unicode_form(order: list[str]) -> None:
    assert index([(path, file("1")) for path in order])[2] == {"é"}


def test_twins_by_case() -> None:
    blind = Folding(case_insensitive=True)
    assert twins(["a", "A", "b", "ß", "SS"], blind) == [frozenset("aA"), frozenset(["ß", "SS"])]
    assert twins(["a", "A"], Folding()) == []


@given(st.lists(PATHS, unique=True))
def test_parents_come_before_children(paths: list[str]) -> None:
    order = top_down(paths)
    assert order == bottom_up(paths)[::-1]
    for place, path in enumerate(order):
        assert not any(later in parents(path) for later in order[place:])


def test_children_by_dir() -> None:
    assert children(["a/c", "a", "a/b", "a/b/x"]) == {
        "": ["a"],
        "a": ["a/b", "a/c"],
        "a/b": ["a/b/x"],
    }


def test_parents_nearest_first() -> None:
    assert list(parents("a/b/c")) == ["a/b", "a"] and list(parents("a")) == []


@given(TREES, TREES)
def test_a_diff_leads_from_one_tree_to_the_other(
    old: dict[str, Entry], new: dict[str, Entry]
) -> None:
    changes = diff(old, new)
    assert patched(old, {change.path: change.new for change in changes}) == new
    assert {change.path for change in changes} == changed_keys(old, new)
    assert all(change.old != change.new for change in changes)


@pytest.mark.parametrize(
    "name",
    [
        "CON",
        "con.txt",
        "nul",
        "COM1.log",
        "lpt¹",
        "a.",
        "a ",
        "a:b",
        "a\\b",
        "a?",
        "\x01",
        "\udcff",
    ],
)
def test_what_windows_cannot_hold(name: str) -> None:
    assert not nameable(name, Traits(windows_names=True))
    assert not nameable(f"d/{name}/e", Traits(windows_names=True))


@pytest.mark.parametrize("name", ["console", "a.b.c", ".hidden", "com", "com10", "ünï", "a b"])
def test_what_windows_can_hold(name: str) -> None:
    assert nameable(f"d/{name}", Traits(windows_names=True))


def test_what_macos_cannot_hold() -> None:
    mac = Traits(Folding(True, True))
    assert nameable("a:b", mac) and not nameable("a\udcff", mac)
