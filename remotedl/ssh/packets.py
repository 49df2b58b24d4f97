"""Packets on the wire, for ciphers that seal, at a third of the CPU time that paramiko takes.

paramiko reads a packet in two system calls (and waits before each), copies it five times, and
writes one packet a call. Here one read brings many packets and one write takes many. Everything
before the first keys, and every other cipher, is paramiko's own code still (`sealed.py`).

It knows packets only. Of channels it knows as much as this: data may be handed straight to
`on_data`, without a trip through paramiko's loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from paramiko.common import MSG_CHANNEL_DATA
from paramiko.message import Message
from paramiko.packet import NeedRekeyException
from paramiko.packet import Packetizer as ParamikoPacketizer
from paramiko.ssh_exception import SSHException

from remotedl.ssh.sealed import PREFIX, SEQUENCE_MASK, TAG, Engine, Gcm, Sealed

READ_AT_ONCE = 256 << 10
WRITE_AT_ONCE = 256 << 10
LONGEST_PACKET = 1 << 20
LONGEST_GREETING = 8 << 10
STALL_LIMIT_S = 60.0
"""A peer that takes no byte for so long is gone: sshd reads whatever else it does."""

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
        self._reader: Sealed | None = None
        self._writer: Sealed | None = None
        self._write_lock = threading.Lock()
        self._out = bytearray(WRITE_AT_ONCE + WRITE_AT_ONCE // 8)
        self._buffer = bytearray(READ_AT_ONCE)
        self._begin = 0
        self._end = 0
        self._overflow = 0
        self._rekey_told = False

    def set_inbound_cipher(self, block_engine: Any, *args: Any, **options: Any) -> None:
        super().set_inbound_cipher(block_engine, *args, **options)
        before = self._reader
        if options.get("aead"):
            number = self._Packetizer__sequence_number_in if before is None else before.sequence  # type: ignore[attr-defined]
            self._reader = Sealed(_engine(block_engine, options["iv_in"]), number)
        elif self._end > self._begin:
            raise SSHException("the other side changed to a cipher of another kind")
        else:
            self._reader = None
        self._overflow = 0
        self._rekey_told = False

    def set_outbound_cipher(self, block_engine: Any, *args: Any, **options: Any) -> None:
        super().set_outbound_cipher(block_engine, *args, **options)
        before = self._writer
        self._writer = None
        if options.get("aead"):
            number = self._Packetizer__sequence_number_out if before is None else before.sequence  # type: ignore[attr-defined]
            self._writer = Sealed(_engine(block_engine, options["iv_out"]), number)

    def reset_seqno_in(self) -> None:
        super().reset_seqno_in()
        if self._reader is not None:
            self._reader.sequence = 0

    def reset_seqno_out(self) -> None:
        super().reset_seqno_out()
        if self._writer is not None:
            self._writer.sequence = 0

    def readline(self, timeout: float) -> str:
        """A line of the greeting. Raises SSHException where it has no end, TimeoutError."""
        deadline = time.monotonic() + timeout
        line = b""
        while not line.endswith(b"\n"):
            if len(line) > LONGEST_GREETING or time.monotonic() > deadline:
                raise SSHException(": a greeting without an end")
            line += self.read_greeting(deadline)
        return line.rstrip(b"\r\n").decode("utf-8", "replace")

    def read_greeting(self, deadline: float) -> bytes:
        """One byte: what follows the greeting is paramiko's to read. Raises EOFError."""
        while True:
            try:
                came: bytes = self._sock.recv(1)
            except TimeoutError:
                if self.closed or time.monotonic() > deadline:
                    raise EOFError from None
                continue
            if not came:
                raise EOFError
            return came

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

    def _open_packet(self, reader: Sealed) -> int:
        """Decrypt the next packet into `reader.plain`; where its payload, begun at 1, ends."""
        self._need(PREFIX)
        begin = self._begin
        size = reader.length(memoryview(self._buffer)[begin : begin + PREFIX])
        if not reader.block <= size <= LONGEST_PACKET or size % reader.block:
            raise SSHException("Invalid packet blocking")
        self._need(PREFIX + size + TAG)
        begin = self._begin
        after = begin + PREFIX + size + TAG
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
        last = time.monotonic()
        while left:
            try:
                left = left[self._sock.send(left) :]
                last = time.monotonic()
            except (TimeoutError, BlockingIOError):
                if self.closed or time.monotonic() - last > STALL_LIMIT_S:
                    raise EOFError from None
            except OSError:
                raise EOFError from None

    def _count_sent(self, writer: Sealed) -> None:
        if writer.bytes >= self.REKEY_BYTES and not self.need_rekey():
            self._trigger_rekey()  # type: ignore[attr-defined]

    def _count_received(self, reader: Sealed, size: int) -> None:
        if self.need_rekey():
            self._overflow += size
            if self._overflow >= self.REKEY_BYTES_OVERFLOW_MAX:
                raise SSHException("Remote transport is ignoring rekey requests")
        elif reader.bytes >= self.REKEY_BYTES:
            self._trigger_rekey()  # type: ignore[attr-defined]


def _engine(cipher: Any, iv: bytes) -> Engine:
    sealing: Engine = cipher if hasattr(cipher, "seal") else Gcm(cipher, iv)
    return sealing


def _uint32(number: int) -> bytes:
    return number.to_bytes(4, "big")
