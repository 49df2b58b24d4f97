"""One SSH channel: bytes both ways, with windows, half-closes and an exit status.

Takes the place of paramiko's Channel, whose buffer is moved in memory at every read (costly with
windows of 16 MiB), which forgets exit signals, and which may send data after a close, for which
sshd ends the whole connection. Methods named `_like_this` are called by the transport's thread
and never block; the others may be called from any thread. It knows nothing of commands.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from paramiko import common
from paramiko.message import Message

from remotedl.errors import LinkLost

if TYPE_CHECKING:
    from remotedl.ssh.transport import Transport

STDERR = 1
SEND_AT_ONCE = 256 << 10
LEAST_PACKET = 1 << 10
"""Who takes no packets of a kilobyte means harm: each costs as much as a big one."""

Request = Callable[["Channel", str, Message], bool]


class ChannelRefused(Exception):
    """The other side does not open the channel. `code` as in RFC 4254, 5.1."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Channel:
    """One channel of a Transport. Made by the transport alone."""

    def __init__(self, transport: Transport, number: int, window: int, packet: int) -> None:
        self.number = number
        self.on_request: Request | None = None
        """Answers the other side's requests (`exec`, `pty-req`…) on the embedded host."""
        self._transport = transport
        self._changed = threading.Condition()
        self._window_in = window
        self._room_in = window
        self._packet_in = packet
        self._read_since_adjust = 0
        self._peer = -1
        self._window_out = 0
        self._packet_out = 0
        self._open = False
        self._refused: ChannelRefused | None = None
        self._out = _Buffer()
        self._err = _Buffer()
        self._eof_in = False
        self._eof_out = False
        self._closed_in = False
        self._closed_here = False
        self._close_sent = False
        self._lost = False
        self._request_failed_ = False
        self._status: int | None = None
        self._signal: str | None = None

    # What the room uses.

    @property
    def exit_status(self) -> int | None:
        """The status of the command; None while it runs, or where it was ended by a signal."""
        return self._status

    @property
    def exit_signal(self) -> str | None:
        """The name of the signal that ended the command, without SIG."""
        return self._signal

    @property
    def peer(self) -> str:
        """What the user calls the other side."""
        return self._transport.peer

    @property
    def room(self) -> int:
        """How much can be sent without waiting for the other side."""
        return self._window_out

    @property
    def lost(self) -> bool:
        """Whether the connection ended under the channel."""
        return self._lost

    @property
    def ended(self) -> bool:
        """Whether nothing more can come, neither data nor a status."""
        return self._closed_in or self._closed_here or self._lost

    def wait_open(self, timeout_s: float) -> None:
        """Raises ChannelRefused, LinkLost, TimeoutError."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._open or self._refused is not None or self._lost, timeout_s
            )
            if self._refused is not None:
                raise self._refused
            if self._lost:
                raise self._transport.lost("it ended while a channel was opened")
            if not self._open:
                raise TimeoutError(f"no answer to a channel request in {timeout_s:g} s")

    def request(self, kind: str, *fields: str | bytes | int, reply: bool = True) -> None:
        """Send a channel request; a refusal shows as `request_refused` and ends the channel."""
        message = self._message(common.cMSG_CHANNEL_REQUEST)
        message.add_string(kind)
        message.add_boolean(reply)
        add_fields(message, *fields)
        self._send(message)

    @property
    def request_refused(self) -> bool:
        return self._request_failed_

    def recv(self, size: int, deadline: float | None = None) -> bytes:
        """At most `size` bytes of data; b"" at the end or after `close`.

        `deadline` is a time of time.monotonic(). Raises LinkLost, TimeoutError.
        """
        return self._read(self._out, size, deadline)

    def recv_stderr(self, size: int, deadline: float | None = None) -> bytes:
        return self._read(self._err, size, deadline)

    def recv_any(self, size: int, deadline: float | None) -> tuple[bytes, bytes]:
        """Some data and some extended data, at least one of them not empty, except at the end.

        `deadline` is a time of time.monotonic(). Raises TimeoutError, LinkLost.
        """
        with self._changed:
            self._wait(lambda: self._out.size or self._err.size or self._input_over(), deadline)
            out, err = self._out.take(size), self._err.take(size)
            adjust = self._count_read(len(out) + len(err))
            if not out and not err and self._lost:
                raise self._transport.lost()
        self._adjust_window(adjust)
        return out, err

    def sendall(self, data: bytes | bytearray | memoryview, *, stderr: bool = False) -> None:
        """All of `data`, waiting while the other side's window is full. Raises LinkLost."""
        view = memoryview(data).cast("B")
        while view.nbytes:
            room = self._take_window(min(view.nbytes, SEND_AT_ONCE))
            header = self._peer.to_bytes(4, "big")
            if stderr:
                header = common.cMSG_CHANNEL_EXTENDED_DATA + header + STDERR.to_bytes(4, "big")
            else:
                header = common.cMSG_CHANNEL_DATA + header
            if not self._transport.send_data(
                header, view[:room], self._packet_out, lambda: not self._close_sent
            ):
                raise self._closed_there()
            view = view[room:]

    def shutdown_write(self) -> None:
        """Send end-of-file, once."""
        with self._changed:
            if self._eof_out or self._closed_here or not self._open:
                return
            self._eof_out = True
        self._send(self._message(common.cMSG_CHANNEL_EOF))

    def wait_end(self, deadline: float | None) -> None:
        """Until the exit status is there or can come no more. Raises TimeoutError."""
        with self._changed:
            self._wait(
                lambda: self._status is not None or self._signal is not None or self.ended,
                deadline,
            )

    def close(self) -> None:
        """Idempotent. A blocked `recv` ends with b"", a blocked `sendall` with LinkLost."""
        with self._changed:
            if self._closed_here:
                return
            self._closed_here = True
            self._out.clear()
            self._err.clear()
            self._changed.notify_all()
            if not self._open or self._lost:
                return
        self._send_close()

    def lost_while(self, doing: str) -> LinkLost:
        """The error for a channel that ended without saying how what ran on it did."""
        return self._transport.lost(f"it ended while {doing} was running")

    # What the transport calls, on its own thread.

    def _confirm(self, peer: int, window: int, packet: int) -> None:
        with self._changed:
            self._peer, self._window_out = peer, window
            self._packet_out = max(packet, LEAST_PACKET)
            self._open = True
            self._changed.notify_all()
            orphan = self._closed_here
        if orphan:
            self._send_close()

    def _refuse(self, code: int, text: str) -> None:
        with self._changed:
            self._refused = ChannelRefused(code, text)
            self._changed.notify_all()

    def _unlink(self) -> None:
        """The connection has ended."""
        with self._changed:
            self._lost = not self._closed_in
            self._changed.notify_all()

    def _take_data(self, data: bytes) -> None:
        """Data, without waking who waits for it; `_wake` follows."""
        with self._changed:
            self._spend(len(data))
            if not self._closed_here:
                self._out.put(data)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _feed(self, message: Message) -> None:
        self._take_in(self._out, message.get_binary())

    def _feed_extended(self, message: Message) -> None:
        kind, data = message.get_int(), message.get_binary()
        self._take_in(self._err, data, kept=kind == STDERR)

    def _window_adjust(self, message: Message) -> None:
        with self._changed:
            self._window_out += message.get_int()
            self._changed.notify_all()

    def _request_success(self, message: Message) -> None:
        pass

    def _request_failed(self, message: Message) -> None:
        self._request_failed_ = True
        self.close()

    def _handle_request(self, message: Message) -> None:
        kind = message.get_text()
        wants_reply = message.get_boolean()
        done = False
        if kind == "exit-status":
            with self._changed:
                self._status = message.get_int()
                self._changed.notify_all()
            done = True
        elif kind == "exit-signal":
            with self._changed:
                self._signal = message.get_text()
                self._changed.notify_all()
            done = True
        elif self.on_request is not None:
            done = self.on_request(self, kind, message)
        if wants_reply:
            answer = common.cMSG_CHANNEL_SUCCESS if done else common.cMSG_CHANNEL_FAILURE
            self._send(self._message(answer))

    def _handle_eof(self, message: Message) -> None:
        with self._changed:
            self._eof_in = True
            self._changed.notify_all()

    def _handle_close(self, message: Message) -> None:
        with self._changed:
            self._closed_in = True
            self._eof_in = True
            self._changed.notify_all()
        self._send_close()
        self._transport.forget(self.number)

    # Below: how it is done.

    def _message(self, kind: bytes) -> Message:
        message = Message()
        message.add_byte(kind)
        message.add_int(self._peer)
        return message

    def _send(self, message: Message) -> bool:
        """Whether it went out: after our close nothing does, decided where the order is made."""
        return self._transport.send_in_order(message, lambda: not self._close_sent)

    def _send_close(self) -> None:
        def first_close() -> bool:
            first, self._close_sent = not self._close_sent, True
            return first

        self._transport.send_in_order(self._message(common.cMSG_CHANNEL_CLOSE), first_close)

    def _read(self, buffer: _Buffer, size: int, deadline: float | None) -> bytes:
        with self._changed:
            self._wait(lambda: buffer.size or self._input_over(), deadline)
            data = buffer.take(size)
            adjust = self._count_read(len(data))
            if not data and self._lost and not self._eof_in and not self._closed_here:
                raise self._transport.lost()
        self._adjust_window(adjust)
        return data

    def _input_over(self) -> bool:
        return self._eof_in or self._closed_here or self._lost

    def _spend(self, size: int) -> None:
        """The other side may send what its window holds, and no more. Raises SSHException."""
        self._room_in -= size
        if self._room_in < 0:
            raise self._transport.breaks_rules("it sends more than it may")

    def _take_in(self, buffer: _Buffer, data: bytes, *, kept: bool = True) -> None:
        with self._changed:
            self._spend(len(data))
            if kept and not self._closed_here:
                buffer.put(data)
                self._changed.notify_all()

    def _take_window(self, wanted: int) -> int:
        """How much may be sent now, at least 1; waits for that."""
        with self._changed:
            self._wait(lambda: self._window_out > 0 or self._output_over(), None)
            if self._output_over():
                raise self._transport.lost() if self._lost else self._closed_there()
            room = min(wanted, self._window_out)
            self._window_out -= room
            return room

    def _closed_there(self) -> LinkLost:
        return LinkLost(f"{self._transport.peer} takes no more data on this stream")

    def _output_over(self) -> bool:
        return self._closed_in or self._closed_here or self._lost or self._eof_out

    def _count_read(self, size: int) -> int:
        """By how much the other side's window is to be opened again; 0: not yet."""
        self._read_since_adjust += size
        if self._read_since_adjust * 4 < self._window_in or self._eof_in:
            return 0
        adjust, self._read_since_adjust = self._read_since_adjust, 0
        self._room_in += adjust
        return adjust

    def _adjust_window(self, size: int) -> None:
        if size:
            message = self._message(common.cMSG_CHANNEL_WINDOW_ADJUST)
            message.add_int(size)
            self._send(message)

    def _wait(self, ready: Callable[[], object], deadline: float | None) -> None:
        while not ready():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self._changed.wait(left)


def add_fields(message: Message, *fields: str | bytes | int) -> None:
    """Numbers as uint32, the rest as strings, as SSH's requests have them."""
    for value in fields:
        if isinstance(value, int):
            message.add_int(value)
        else:
            message.add_string(value)


class _Buffer:
    """Pieces as they came; taking some moves at most one piece in memory."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self.size = 0

    def put(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def take(self, size: int) -> bytes:
        if not self._pieces:
            return b""
        taken = [self._pieces.popleft()]
        length = len(taken[0])
        while length < size and self._pieces and length + len(self._pieces[0]) <= size:
            taken.append(self._pieces.popleft())
            length += len(taken[-1])
        if length > size:
            whole = taken.pop()
            self._pieces.appendleft(whole[size:])
            taken.append(whole[:size])
            length = size
        self.size -= length
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def clear(self) -> None:
        self._pieces.clear()
        self.size = 0
