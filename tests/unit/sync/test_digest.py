"""What contents are called, and what two versions of a big one share."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from remotedl.sync.agent.blocks import Range, compare
from remotedl.sync.agent.digest import BLOCK, FROM, Blocks, Digest, digest_of_zeros

CHANCE = random.Random(1)
OLD = CHANCE.randbytes(FROM + 3 * BLOCK + 1234)
SAVED = CHANCE.randbytes(BLOCK // 2)

# What is changed, and how many bytes of the new version are not in the old one at most.
CHANGES: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "nothing": (lambda old: old, 0),
    "in place": (lambda old: old[:5000] + SAVED + old[5000 + len(SAVED) :], BLOCK),
    "in two places": (lambda old: SAVED + old[len(SAVED) : -5] + b"12345", 2 * BLOCK),
    "inserted": (lambda old: old[: BLOCK + 77] + SAVED + old[BLOCK + 77 :], 2 * BLOCK),
    "inserted, a whole block": (lambda old: old[:77] + SAVED * 2 + old[77:], 2 * BLOCK),
    "put in front": (lambda old: SAVED + old, BLOCK),
    "appended": (lambda old: old + SAVED, 2 * BLOCK),
    "cut out": (lambda old: old[: BLOCK + 1] + old[2 * BLOCK + 9 :], 2 * BLOCK),
    "cut off": (lambda old: old[: FROM + 5], BLOCK),
    "in place, and appended": (
        lambda old: old[:9] + SAVED + old[9 + len(SAVED) :] + b"x",
        3 * BLOCK,
    ),
    "another file": (lambda old: bytes(len(old)), len(OLD)),
}


def blocks_of(data: bytes, start: int = 0) -> Blocks:
    pieces = (data[at : at + BLOCK] for at in range(start, len(data), BLOCK))
    digests = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    return Blocks(len(data), digests)


@pytest.mark.parametrize("change", CHANGES)
def test_a_version_is_put_together_from_the_one_before(change: str) -> None:
    alter, limit = CHANGES[change]
    new = alter(OLD)
    ranges = compare(blocks_of(OLD), blocks_of(new), lambda start, _: blocks_of(new, start).digests)
    assert b"".join(_content(one, new) for one in ranges) == new
    assert sum(one.size for one in ranges if one.old is None) <= limit


def _content(one: Range, new: bytes) -> bytes:
    source, start = (new, one.start) if one.old is None else (OLD, one.old)
    return source[start : start + one.size]


def test_a_small_content_is_called_by_its_sha256() -> None:
    data = OLD[: FROM - 1]
    engine = Digest(len(data))
    engine.update(data)
    assert engine.digest() == hashlib.sha256(data).digest()
    assert engine.blocks() is None


@pytest.mark.parametrize("piece", [BLOCK // 3 + 1, BLOCK, 3 * BLOCK + 1, len(OLD)])
def test_a_digest_does_not_depend_on_how_the_bytes_come(piece: int) -> None:
    engine = Digest(len(OLD))
    for at in range(0, len(OLD), piece):
        engine.update(OLD[at : at + piece])
    assert engine.blocks() == blocks_of(OLD)
    assert engine.digest() == blocks_of(OLD).digest


def test_known_blocks_count_as_their_bytes() -> None:
    known = blocks_of(OLD)
    engine = Digest(len(OLD))
    engine.take(known.some(0, 2))
    engine.update(OLD[2 * BLOCK : 3 * BLOCK])
    engine.take(known.some(3, known.number))
    assert engine.digest() == known.digest


def test_no_other_content_has_the_same_digest() -> None:
    names = {blocks_of(alter(OLD)).digest for alter, _ in CHANGES.values()}
    assert len(names) == len(CHANGES)
    assert blocks_of(OLD).digest != hashlib.sha256(OLD).digest()


@pytest.mark.parametrize("size", [0, 1, BLOCK, FROM - 1, FROM, FROM + 1, FROM + BLOCK])
def test_zeros_have_the_digest_of_zeros(size: int) -> None:
    engine = Digest(size)
    engine.update(bytes(size))
    assert digest_of_zeros(size) == engine.digest()
