"""Packets under the two ciphers that seal: AES-GCM (RFC 5647) and ChaCha20-Poly1305 (OpenSSH's
PROTOCOL.chacha20poly1305).

They work in buffers that stay: a fresh one for every packet costs four times the encryption. This
file knows how one packet is sealed and opened, and neither sockets nor messages.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305
from paramiko.ssh_exception import SSHException

TAG = 16
PREFIX = 4
FIRST_PLAIN = 40 << 10
LEAST_PADDING = 4
SEQUENCE_MASK = 0xFFFFFFFF
COUNTER_MASK = 0xFFFFFFFFFFFFFFFF


class Engine(Protocol):
    """A cipher with its key. `number` is the packet's, from the start of the connection."""

    block: int
    """What the length of a packet is a multiple of."""

    def length(self, number: int, prefix: bytes | memoryview) -> int:
        """What the first four bytes say."""
        ...

    def seal(self, number: int, size: int, plain: memoryview, into: memoryview) -> None:
        """Write prefix, `plain` encrypted and the tag."""
        ...

    def open(self, number: int, packet: memoryview, into: memoryview) -> None:
        """Raises InvalidTag, InvalidSignature."""
        ...


class Sealed:
    """One direction of a connection."""

    def __init__(self, engine: Engine, sequence: int) -> None:
        self.sequence = sequence
        self.bytes = 0
        self.block = engine.block
        self.plain = memoryview(bytearray(FIRST_PLAIN))
        """Padding length, payload and padding of the packet at hand."""
        self._engine = engine

    def seal(self, into: bytearray, at: int, *parts: bytes | memoryview) -> int:
        """Write a whole packet around a payload, given in parts, to `into`; where it ends."""
        length = sum(map(len, parts)) + 1
        padding = self.block - length % self.block
        if padding < LEAST_PADDING:
            padding += self.block
        size = length + padding
        plain = self._plain_of(size)
        plain[0] = padding
        end = 1
        for part in parts:
            begin, end = end, end + len(part)
            plain[begin:end] = part
        plain[end:size] = os.urandom(padding)
        after = at + PREFIX + size + TAG
        if after > len(into):
            into.extend(bytes(after - len(into)))
        with memoryview(into)[at:after] as space:
            self._engine.seal(self.sequence, size, plain[:size], space)
        self._count(after - at)
        return after

    def length(self, prefix: bytes | memoryview) -> int:
        return self._engine.length(self.sequence, prefix)

    def open(self, packet: memoryview) -> None:
        """Decrypt a whole packet into `plain`. Raises SSHException where it was tampered with."""
        size = len(packet) - PREFIX - TAG
        try:
            self._engine.open(self.sequence, packet, self._plain_of(size)[:size])
        except (InvalidTag, InvalidSignature) as exc:
            raise SSHException("Mismatched MAC") from exc
        self._count(len(packet))

    def _count(self, size: int) -> None:
        self.sequence = (self.sequence + 1) & SEQUENCE_MASK
        self.bytes += size

    def _plain_of(self, size: int) -> memoryview:
        if size > len(self.plain):
            self.plain = memoryview(bytearray(size))
        return self.plain


class Gcm:
    """AES-GCM: the length stays plain, the counter is ours to keep."""

    block = 16

    def __init__(self, engine: Any, iv: bytes) -> None:
        self._engine = engine
        self._fixed = iv[:4]
        self._counter = int.from_bytes(iv[4:], "big")

    def length(self, number: int, prefix: bytes | memoryview) -> int:
        return int.from_bytes(prefix, "big")

    def seal(self, number: int, size: int, plain: memoryview, into: memoryview) -> None:
        into[:PREFIX] = prefix = size.to_bytes(PREFIX, "big")
        self._engine.encrypt_into(self._next_iv(), plain, prefix, into[PREFIX:])

    def open(self, number: int, packet: memoryview, into: memoryview) -> None:
        self._engine.decrypt_into(self._next_iv(), packet[PREFIX:], packet[:PREFIX], into)

    def _next_iv(self) -> bytes:
        iv = self._fixed + self._counter.to_bytes(8, "big")
        self._counter = (self._counter + 1) & COUNTER_MASK
        return iv


class ChaChaPoly:
    """ChaCha20-Poly1305: two keys, one for the length and one for the rest and the tag."""

    block = 8

    def __init__(self, key: bytes) -> None:
        self._main, self._head = key[:32], key[32:]

    def length(self, number: int, prefix: bytes | memoryview) -> int:
        return int.from_bytes(_chacha(self._head, number, 0).update(prefix), "big")

    def seal(self, number: int, size: int, plain: memoryview, into: memoryview) -> None:
        prefix = size.to_bytes(PREFIX, "big")
        end = PREFIX + size
        into[:PREFIX] = _chacha(self._head, number, 0).update(prefix)
        _chacha(self._main, number, 1).update_into(plain, into[PREFIX:end])
        into[end:] = Poly1305.generate_tag(self._tag_key(number), bytes(into[:end]))

    def open(self, number: int, packet: memoryview, into: memoryview) -> None:
        sealed, tag = packet[:-TAG], packet[-TAG:]
        Poly1305.verify_tag(self._tag_key(number), bytes(sealed), bytes(tag))
        _chacha(self._main, number, 1).update_into(sealed[PREFIX:], into)

    def _tag_key(self, number: int) -> bytes:
        return _chacha(self._main, number, 0).update(bytes(32))


def _chacha(key: bytes, number: int, block: int) -> CipherContext:
    """The stream from `block` on; the nonce is the packet's number."""
    nonce = block.to_bytes(8, "little") + number.to_bytes(8, "big")
    return Cipher(ChaCha20(key, nonce), mode=None).encryptor()
