"""What a content is called. Pure.

A file's digest is the sha256 of what it holds; from `FROM` bytes on, the sha256 of the sha256s of
its blocks of 1 MiB. So several threads count it, two versions show which blocks they share, and
what is put together from known blocks has a digest that is known.

Decision: the digests of all blocks are hashed at once. Alternative: a tree of them. Reason: they
are 32 KB for 1 GB, and nobody asks for the proof of one block.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Optional

BLOCK = 1 << 20
FROM = 8 << 20
"""Smaller contents are hashed, and sent, whole."""
SIZE = 32
_KIND = b"remotedl: sha256 of every MiB\0"


class Blocks(NamedTuple):
    """A big content, known by its blocks."""

    size: int
    digests: bytes
    """Of every block, one after the other; the last block may be short."""

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(_KIND + self.digests).digest()

    @property
    def number(self) -> int:
        """How many blocks there are."""
        return len(self.digests) // SIZE

    def some(self, first: int, end: int) -> bytes:
        """The digests of some blocks."""
        return self.digests[first * SIZE : end * SIZE]


class Digest:
    """Counts the digest of a content that comes piece by piece."""

    def __init__(self, size: int) -> None:
        """`size`: how long the content will be."""
        self._size = size
        self._engine = hashlib.sha256()
        self._digests: Optional[bytearray] = bytearray() if size >= FROM else None
        self._left = BLOCK
        """Bytes that the block at hand still lacks."""

    def update(self, data: Any) -> None:
        if self._digests is None:
            self._engine.update(data)
            return
        view = memoryview(data)
        while view:
            piece, view = view[: self._left], view[self._left :]
            self._engine.update(piece)
            self._left -= len(piece)
            if not self._left:
                self._end_block()

    def take(self, digests: bytes) -> None:
        """Instead of the bytes of whole blocks, or of the last one: what is known of them."""
        assert self._digests is not None and self._left == BLOCK, "a block has begun"
        self._digests += digests

    def blocks(self) -> Optional[Blocks]:
        """What is known at the end of a big content."""
        if self._digests is None:
            return None
        if self._left < BLOCK:
            self._end_block()
        return Blocks(self._size, bytes(self._digests))

    def digest(self) -> bytes:
        """At the end."""
        blocks = self.blocks()
        return self._engine.digest() if blocks is None else blocks.digest

    def _end_block(self) -> None:
        assert self._digests is not None
        self._digests += self._engine.digest()
        self._engine = hashlib.sha256()
        self._left = BLOCK


def digest_of_zeros(size: int) -> bytes:
    """What a file has whose content never reached the disk; an empty one too."""
    if size < FROM:
        return hashlib.sha256(bytes(size)).digest()
    whole = hashlib.sha256(bytes(BLOCK)).digest() * (size // BLOCK)
    rest = size % BLOCK
    return Blocks(size, whole + (hashlib.sha256(bytes(rest)).digest() if rest else b"")).digest
