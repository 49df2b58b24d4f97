"""A packed tree is a tree like any other."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotedl.sync.agent import packed
from remotedl.sync.agent.packed import (
    Packed,
    alike,
    copy_of,
    count_files,
    holds,
    pack,
    unpack,
)
from remotedl.sync.agent.protocol import Malformed, count_rows, pack_entries
from remotedl.sync.agent.tree import DIR, Entry, Kind, Tree, changed_keys

KEYS = ["a", "a/b", "ä", "x\udce4", "long/" * 20 + "x", "z\nz"]
ENTRIES = [
    DIR,
    Entry(Kind.LINK, target="../x"),
    *(
        Entry(Kind.FILE, hashlib.sha256(bytes([size])).digest(), size, bool(size % 2))
        for size in range(4)
    ),
]
trees = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(ENTRIES))
edits = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([None, *ENTRIES])))


@pytest.fixture(autouse=True)
def _every_tree_is_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "FROM", 0)


def packed_of(tree: dict[str, Entry]) -> Packed[Entry]:
    found, _ = pack(dict(tree), {}, 4)
    assert isinstance(found, Packed)
    return found


def edit(tree: Tree, key: str, entry: Entry | None) -> None:
    if entry is None:
        tree.pop(key, None)
    else:
        tree[key] = entry


@given(trees, edits)
def test_it_is_edited_and_read_as_a_dict_is(begun: dict[str, Entry], steps: list) -> None:
    tree, small = dict(begun), packed_of(begun)
    for key, entry in steps:
        edit(tree, key, entry)
        edit(small, key, entry)
        assert (small.get(key), key in small, len(small)) == (entry, entry is not None, len(tree))
    assert dict(small) == dict(small.items()) == tree
    assert sorted(small) == sorted(tree) and small == tree
    assert sorted(map(repr, small.values())) == sorted(map(repr, tree.values()))
    assert count_files(small) == count_files(tree)
    for one in ENTRIES[2:]:
        assert holds(small, one.digest or b"") == (one.digest in {e.digest for e in tree.values()})


@given(trees, trees)
def test_two_that_are_alike_share_what_they_can(
    one: dict[str, Entry], other: dict[str, Entry]
) -> None:
    first = packed_of(one)
    second = alike(dict(other), first)
    assert isinstance(second, Packed) and second == other
    assert second.column is first.column
    assert set(second.changes) == changed_keys(one, other)
    copied = copy_of(second)
    copied["a"] = ENTRIES[3]
    assert second == other and first == one


@given(trees, edits)
def test_it_is_packed_anew(begun: dict[str, Entry], steps: list) -> None:
    small = packed_of(begun)
    for key, entry in steps:
        edit(small, key, entry)
    again, _ = pack(small, {}, 4)
    assert isinstance(again, Packed) and again == small and not again.changes


@given(trees)
def test_what_is_kept_beside_it_is_packed_too(tree: dict[str, Entry]) -> None:
    records = {key: b"%04d" % number for number, key in enumerate([*tree, "of another key"])}
    _, small = pack(dict(tree), dict(records), 4)
    assert small == records
    for key in records:
        del small[key]
    assert not small and len(small) == 0


@given(trees.filter(bool))
def test_a_table_is_taken_as_it_comes(tree: dict[str, Entry]) -> None:
    table = pack_entries(list(tree.items()))
    assert count_rows(table) == len(tree)
    found, beside = unpack(table, b"".join(b"%04d" % number for number in range(len(tree))), 4)
    assert found == tree and list(found) == list(tree)
    assert beside == {key: b"%04d" % number for number, key in enumerate(tree)}


@pytest.mark.parametrize("paths", [["a/../b"], ["/a"], [""]])
def test_a_table_that_leads_out_is_refused(paths: list[str]) -> None:
    with pytest.raises(Malformed):
        unpack(pack_entries([(path, DIR) for path in paths]), b"", 0)


def test_a_table_with_a_row_of_nothing_is_refused() -> None:
    with pytest.raises(Malformed):
        unpack(pack_entries([("a", DIR), ("b", None)]), b"", 0)


def test_a_small_tree_stays_a_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tree = {"a": DIR}
    assert pack(tree, {}, 4)[0] is tree
    assert alike(tree, {}) is tree
