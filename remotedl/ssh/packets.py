"""Packets on the wire, for AES-GCM, at a third of the CPU time that paramiko takes.

paramiko reads a packet in two system calls (and waits before each), copies it five times, and
writes one packet a call. Here one read brings many packets and one write takes many. Everything
before the first keys, and every cipher but AES-GCM, is paramiko's own code still.

It knows packets only. Of channels it knows as much as this: data may be handed straight to
`on_data`, without a trip through paramiko's loop.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.message import Message
from paramiko.packet import NeedRekeyException
from paramiko.packet import Packetizer as ParamikoPacketizer
from paramiko.ssh_exception import SSHException

BLOCK = 16
TAG = 16
FIRST_PLAIN = 40 << 10
LEAST_PADDING = 4
READ_AT_ONCE = 256 << 10
WRITE_AT_ONCE = 256 << 10
LONGEST_PACKET = 1 << 20
SEQUENCE_MASK = 0xFFFFFFFF
COUNTER_MASK = 0xFFFFFFFFFFFFFFFF

OnData = Callable[[memoryview, int, int], bool]


class Packetizer(ParamikoPacketizer):
    """One side's packets. Reading is the transport thread's; writing is anyone's."""

    # paramiko's 512 MiB is for ciphers of old. RFC 4344 (3.2) lets AES go on for 2**32 blocks,
    # 64 GiB; this is a sixteenth of it.
    REKEY_BYTES = 1 << 32
    REKEY_BYTES_OVERFLOW_MAX = 1 << 32

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.heard = time.monotonic()
        """When something last came, as time.monotonic()."""
        self.on_data: OnData | None = None
        """Gets a decrypted packet of channel data: the packet, where its payload begins and ends.

        Says whether it took it; else the packet goes the usual way.
        """
        self.on_drained: Callable[[], None] = lambda: None
        """Called when all that came has been handed on, before more is waited for."""
        self._sock = sock
        self._reader: _Sealed | None = None
        self._writer: _Sealed | None = None
        self._write_lock = threading.Lock()
        self._out = bytearray(WRITE_AT_ONCE + WRITE_AT_ONCE // 8)
        self._buffer = bytearray(READ_AT_ONCE)
        self._begin = 0
        self._end = 0
        self._overflow = 0
        self._rekey_told = False

    def set_inbound_cipher(self, block_engine: Any, *args: Any, **options: Any) -> None:
        super().set_inbound_cipher(block_engine, *args, **options)
        sealed = _Sealed(block_engine, options["iv_in"]) if options.get("aead") else None
        if sealed is None and self._end > self._begin:
            raise SSHException("the other side changed to a cipher of another kind")
        if sealed is not None and self._reader is not None:
            sealed.sequence = self._reader.sequence
        self._reader = sealed
        self._overflow = 0
        self._rekey_told = False

    def set_outbound_cipher(self, block_engine: Any, *args: Any, **options: Any) -> None:
        super().set_outbound_cipher(block_engine, *args, **options)
        self._writer = _Sealed(block_engine, options["iv_out"]) if options.get("aead") else None

    def reset_seqno_in(self) -> None:
        super().reset_seqno_in()
        if self._reader is not None:
            self._reader.sequence = 0

    def read_message(self) -> tuple[int, Message]:
        """The next message for paramiko. Raises EOFError, SSHException, NeedRekeyException."""
        if self._reader is None:
            read: tuple[int, Message] = super().read_message()
            self.heard = time.monotonic()
            return read
        while True:
            if self.need_rekey() and not self._rekey_told:
                self._rekey_told = True
                raise NeedRekeyException
            end = self._open_packet(self._reader)
            plain = self._reader.plain
            if plain[1] == MSG_CHANNEL_DATA and self.on_data and self.on_data(plain, 1, end):
                continue
            message = Message(bytes(plain[2:end]))
            message.seqno = self._reader.sequence - 1 & SEQUENCE_MASK
            return plain[1], message

    def send_message(self, message: Message) -> None:
        """Raises EOFError."""
        if self._writer is None:
            super().send_message(message)
            return
        with self._write_lock:
            end = self._writer.seal(self._out, 0, message.asbytes())
            self._write(memoryview(self._out)[:end])
            self._count_sent(self._writer)

    def send_data(self, header: bytes, data: memoryview, packet: int) -> None:
        """Channel data in packets of at most `packet` bytes, written at once. Raises EOFError.

        `header` is what stands before the length: message type, channel, and so on.
        """
        if self._writer is None:
            for start in range(0, len(data), packet):
                piece = data[start : start + packet]
                super().send_message(Message(b"".join((header, _uint32(len(piece)), piece))))
            return
        with self._write_lock:
            end = 0
            for start in range(0, len(data), packet):
                piece = data[start : start + packet]
                end = self._writer.seal(self._out, end, header, _uint32(len(piece)), piece)
            self._write(memoryview(self._out)[:end])
            self._count_sent(self._writer)

    # Below: how it is done.

    def _open_packet(self, reader: _Sealed) -> int:
        """Decrypt the next packet into `reader.plain`; where its payload, begun at 1, ends."""
        self._need(4)
        begin = self._begin
        size = int.from_bytes(self._buffer[begin : begin + 4], "big")
        if not BLOCK <= size <= LONGEST_PACKET or size % BLOCK:
            raise SSHException("Invalid packet blocking")
        self._need(4 + size + TAG)
        begin = self._begin
        after = begin + 4 + size + TAG
        reader.open(memoryview(self._buffer)[begin:after])
        self._begin = after
        end = size - reader.plain[0]
        if end < 2:
            raise SSHException("Invalid packet padding")
        self._count_received(reader, after - begin)
        return end

    def _need(self, size: int) -> None:
        """Read until `size` bytes are there."""
        if self._end - self._begin >= size:
            return
        if self._begin + size > len(self._buffer):
            left = self._buffer[self._begin : self._end]
            if size > len(self._buffer):
                self._buffer = bytearray(LONGEST_PACKET + READ_AT_ONCE)
            self._buffer[: len(left)] = left
            self._begin, self._end = 0, len(left)
        self.on_drained()
        while self._end - self._begin < size:
            self._end += self._read_some()

    def _read_some(self) -> int:
        while True:
            try:
                count = self._sock.recv_into(memoryview(self._buffer)[self._end :])
            except (TimeoutError, BlockingIOError):
                if self.closed:
                    raise EOFError from None
                if self.need_rekey() and not self._rekey_told and self._end == self._begin:
                    self._rekey_told = True
                    raise NeedRekeyException from None
                continue
            except OSError:
                raise EOFError from None
            if count == 0:
                raise EOFError
            self.heard = time.monotonic()
            return int(count)

    def _write(self, left: memoryview) -> None:
        while left:
            try:
                left = left[self._sock.send(left) :]
            except (TimeoutError, BlockingIOError):
                if self.closed:
                    raise EOFError from None
            except OSError:
                raise EOFError from None

    def _count_sent(self, writer: _Sealed) -> None:
        if writer.bytes >= self.REKEY_BYTES and not self.need_rekey():
            self._trigger_rekey()  # type: ignore[attr-defined]

    def _count_received(self, reader: _Sealed, size: int) -> None:
        if self.need_rekey():
            self._overflow += size
            if self._overflow >= self.REKEY_BYTES_OVERFLOW_MAX:
                raise SSHException("Remote transport is ignoring rekey requests")
        elif reader.bytes >= self.REKEY_BYTES:
            self._trigger_rekey()  # type: ignore[attr-defined]


class _Sealed:
    """AES-GCM as SSH uses it (RFC 5647): the length stays plain, the counter is ours to keep.

    It works in buffers that stay: a fresh one for every packet costs four times the encryption.
    """

    def __init__(self, engine: Any, iv: bytes) -> None:
        self.sequence = 0
        self.bytes = 0
        self.plain = memoryview(bytearray(FIRST_PLAIN))
        """Padding length, payload and padding of the packet at hand."""
        self._engine = engine
        self._fixed = iv[:4]
        self._counter = int.from_bytes(iv[4:], "big")

    def seal(self, into: bytearray, at: int, *parts: bytes | memoryview) -> int:
        """Write a whole packet around a payload, given in parts, to `into`; where it ends."""
        length = sum(map(len, parts)) + 1
        padding = BLOCK - length % BLOCK
        if padding < LEAST_PADDING:
            padding += BLOCK
        size = length + padding
        plain = self._plain_of(size)
        plain[0] = padding
        end = 1
        for part in parts:
            begin, end = end, end + len(part)
            plain[begin:end] = part
        plain[end:size] = os.urandom(padding)
        after = at + 4 + size + TAG
        if after > len(into):
            into.extend(bytes(after - len(into)))
        into[at : at + 4] = prefix = _uint32(size)
        with memoryview(into)[at + 4 : after] as space:
            self._engine.encrypt_into(self._next_iv(), plain[:size], prefix, space)
        self.bytes += after - at
        return after

    def open(self, packet: memoryview) -> None:
        """Decrypt a whole packet into `plain`. Raises SSHException where it was tampered with."""
        size = len(packet) - 4 - TAG
        try:
            self._engine.decrypt_into(
                self._next_iv(), packet[4:], packet[:4], self._plain_of(size)[:size]
            )
        except InvalidTag as exc:
            raise SSHException("Mismatched MAC") from exc
        self.sequence = (self.sequence + 1) & SEQUENCE_MASK
        self.bytes += len(packet)

    def _plain_of(self, size: int) -> memoryview:
        if size > len(self.plain):
            self.plain = memoryview(bytearray(size))
        return self.plain

    def _next_iv(self) -> bytes:
        iv = self._fixed + self._counter.to_bytes(8, "big")
        self._counter = (self._counter + 1) & COUNTER_MASK
        return iv


def _uint32(number: int) -> bytes:
    return number.to_bytes(4, "big")
