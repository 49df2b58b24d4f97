"""Three versions in, one out: every word of both is in it, or the other version is kept."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytest.importorskip("merge3", reason="make unit installs it")

from hypothesis import given
from hypothesis import strategies as st
from remotedl_merge import (
    Merged,
    edits,
    lines_of,
    merge_notebook,
    merge_text,
    nearest,
    plain,
)


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ("a\nb\nc", "a\nb typed\nc", "A\nb\nc", "A\nb typed\nc"),
        ("a\nb", "a typed\nb", "a\nb\n# laptop", "a typed\nb\n# laptop"),
        ("w1 wor", "w1 word2 w", "w1 wor\n# laptop", "w1 word2 w\n# laptop"),
        ("w1 wor", "w1 wo", "w1 wor\n# laptop", "w1 wo\n# laptop"),
        ("x", "foo x", "# laptop\nx", "# laptop\nfoo x"),
        ("x", "x\ny", "x # noqa", "x # noqa\ny"),
        ("x\n", "x\ntyped\n", "x\n# laptop\n", "x\ntyped\n# laptop\n"),
        ("", "typed", "# laptop", "typed\n# laptop"),
        ("f(a,b)", "f(a,b) + g", "f(a, b)", "f(a, b) + g"),
        ("a b c", "a b c d", "c", "c d"),
        ("a\nb\nc", "a\nb\nc", "", ""),
        ("a\nb", "a typed\nb", "b", "a typed\nb"),
        ("", "both wrote", "both wrote this", "both wrote this"),
        ("ä😀 x", "ä😀 x y", "ä😀 x\n# ö", "ä😀 x y\n# ö"),
    ],
)
def test_what_both_wrote_is_in_it(base: str, ours: str, theirs: str, merged: str) -> None:
    assert merge_text(base, ours, theirs) == Merged(merged, True)


@pytest.mark.parametrize(
    ("base", "ours", "theirs"),
    [
        ("lr = 1", "lr = 2", "lr = 3"),
        ("total", "totals", "totally"),
        ("a\nb\nc", "a\nc", "a\nB\nc"),
        ("x = ", "x = f(1)", "x = g(2)"),
    ],
)
def test_where_both_changed_the_same_words_ours_stays(base: str, ours: str, theirs: str) -> None:
    assert merge_text(base, ours, theirs) == Merged(ours, False)


# --- every word


WORDS = st.sampled_from(["aa", "bb", "cc", "= 1", "(x)", "ä😀"])
LINES = st.lists(st.lists(WORDS, max_size=4).map(" ".join), min_size=1, max_size=6)
TEXTS = LINES.map("\n".join)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["line", "line above", "word", "cut"]), st.floats(0, 0.999)),
    max_size=4,
)


def changed(text: str, changes: list[tuple[str, float]], tag: str) -> str:
    for number, (kind, part) in enumerate(changes):
        at = int(part * (len(text) + 1))
        if kind == "cut":
            text = text[:at] + text[at + 4 :]
        elif kind == "word":
            text = f"{text[:at]} {tag}{number} {text[at:]}"
        elif kind == "line":
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            text = f"{text[:end]}\n# {tag}{number}{text[end:]}"
        else:
            start = text.rfind("\n", 0, at) + 1
            text = f"{text[:start]}# {tag}{number}\n{text[start:]}"
    return text


def tagged(text: str, tag: str) -> list[str]:
    return re.findall(rf"\b{tag}\d\b", text)


@given(TEXTS, CHANGES, CHANGES)
def test_every_word_is_in_the_result_in_order_or_theirs_is_kept(
    base: str, mine: list[tuple[str, float]], others: list[tuple[str, float]]
) -> None:
    ours, theirs = changed(base, mine, "ours"), changed(base, others, "theirs")
    merged, whole = merge_text(base, ours, theirs)
    assert tagged(merged, "ours") == tagged(ours, "ours")
    if whole:
        assert tagged(merged, "theirs") == tagged(theirs, "theirs")


@given(TEXTS, CHANGES)
def test_who_alone_changed_something_gets_exactly_that(
    base: str, changes: list[tuple[str, float]]
) -> None:
    now = changed(base, changes, "new")
    assert merge_text(base, base, now) == merge_text(base, now, base) == Merged(now, True)
    assert merge_text(base, now, now) == Merged(now, True)


@given(TEXTS, CHANGES)
def test_edits_make_the_one_of_the_other(before: str, changes: list[tuple[str, float]]) -> None:
    after = changed(before, changes, "new")
    text = before
    for start, end, new in edits(before, after):
        text = text[:start] + new + text[end:]
    assert text == after


def test_edits_touch_only_what_differs() -> None:
    assert edits("a word here", "a word there") == [(7, 7, "t")]
    assert edits("one\ntwo\nthree", "one\n2\nthree") == [(4, 7, "2")]
    assert edits("x", "x\n# laptop") == [(1, 1, "\n# laptop")]


# --- the version that the other side started from


def test_the_base_is_the_version_that_was_read_not_the_last_one() -> None:
    typed = [f"{'word ' * count}\n\n# other" for count in range(9)]
    theirs = typed[4] + "\n# laptop"
    assert nearest([lines_of(one) for one in typed], lines_of(theirs)) == 4
    merged = merge_text(typed[4], typed[8], theirs)
    assert merged == Merged(typed[8] + "\n# laptop", True)


def test_the_base_is_found_within_the_line_that_both_changed() -> None:
    typed = ["a ", "a he", "a hello", "a hello wor"]
    assert nearest([lines_of(one) for one in typed], lines_of("A he")) == 1


def test_what_a_cell_printed_tells_versions_apart() -> None:
    printed = [book(code("one", "x", outputs=[stream("." * count)])) for count in range(5)]
    theirs = book(code("one", "x", outputs=[stream("...")]), code("two", "# laptop"))
    assert nearest([lines_of(one) for one in printed], lines_of(theirs)) == 3


# --- notebooks


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def code(key: str, source: str, **more: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "id": key, "source": source, "metadata": {}, "outputs": []}
    return {**cell, "execution_count": None, **more}


def book(*cells: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def shape(merged: Merged) -> list[tuple[str, str]]:
    return [(cell["id"], cell["source"]) for cell in merged.content["cells"]]


def test_cells_are_merged_by_their_ids() -> None:
    base = book(code("a", "one"), code("b", "two"))
    ours = book(code("a", "one typed"), code("b", "two"), code("mine", "new"))
    theirs = book(code("laptop", "first"), code("a", "one"), code("b", "two\n# laptop"))
    merged = merge_notebook(base, ours, theirs)
    wanted = [("laptop", "first"), ("a", "one typed"), ("b", "two\n# laptop"), ("mine", "new")]
    assert (shape(merged), merged.whole) == (wanted, True)


def test_a_cell_that_was_edited_outlives_its_deletion() -> None:
    base = book(code("a", "one"), code("b", "two"))
    assert shape(merge_notebook(base, book(code("a", "one typed")), book(code("b", "two")))) == [
        ("a", "one typed")
    ]
    lost = merge_notebook(base, book(code("a", "one")), book(code("a", "one"), code("b", "2")))
    assert (shape(lost), lost.whole) == ([("a", "one")], False)


def test_a_cell_that_runs_or_printed_is_not_taken_out() -> None:
    base = book(code("a", "one"), code("b", "two"))
    printed = book(code("a", "one"), code("b", "two", outputs=[stream("x")]))
    left = book(code("a", "one"))
    assert shape(merge_notebook(base, base, left)) == [("a", "one")]
    assert shape(merge_notebook(base, base, left, {"b"})) == [("a", "one"), ("b", "two")]
    assert shape(merge_notebook(base, printed, left)) == [("a", "one"), ("b", "two")]


def test_cells_that_the_other_side_moved_are_moved() -> None:
    base = book(code("a", "one"), code("b", "two"), code("c", "three"))
    ours = book(code("a", "one typed"), code("new", ""), code("b", "two"), code("c", "three"))
    theirs = book(code("c", "three"), code("a", "one"), code("b", "two"))
    order = [key for key, _ in shape(merge_notebook(base, ours, theirs))]
    assert order == ["c", "a", "new", "b"]
    assert next(key for key, _ in shape(merge_notebook(base, ours, theirs, {"a"}))) == "a"


def test_outputs_are_those_of_the_side_that_ran_the_cell() -> None:
    base = book(code("a", "x"))
    ran = book(code("a", "x", outputs=[stream("1")], execution_count=3))
    other = book(code("a", "x", outputs=[stream("2")], execution_count=4))
    edited = book(code("a", "x # laptop"))
    here = merge_notebook(base, ran, edited)
    assert here == Merged(book({**ran["cells"][0], "source": "x # laptop"}), True)
    assert merge_notebook(base, edited, ran).content == here.content
    both = merge_notebook(base, ran, other)
    assert both == Merged(ran, False)


def test_the_metadata_of_both_is_kept() -> None:
    merged = merge_notebook(
        book(kernelspec={"name": "a"}, gone=1),
        book(kernelspec={"name": "a"}, gone=1, mine=1),
        book(kernelspec={"name": "b"}, theirs=2),
    )
    assert merged.content["metadata"] == {"kernelspec": {"name": "b"}, "mine": 1, "theirs": 2}


def test_cells_without_ids_get_those_of_the_same_cells() -> None:
    """Notebooks of formats before 4.5."""
    known = book(code("a", "one"), code("b", "two"), code("c", "three"))
    cells = [code("", source) for source in ("one", "2", "three", "new")]
    for cell in cells:
        del cell["id"]
    found = plain(book(*cells), known)
    assert [cell["id"] for cell in found["cells"]][:3] == ["a", "b", "c"]
    assert len({cell["id"] for cell in found["cells"]}) == 4


def test_two_cells_of_one_id_are_both_kept() -> None:
    found = plain(book(code("a", "one"), code("a", "two")))
    assert len({cell["id"] for cell in found["cells"]}) == 2
