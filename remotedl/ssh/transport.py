"""The SSH protocol: paramiko's Transport, made safe for many channels and long transfers.

Three things are different, each for a reason that was met in practice:
- Rekeying. paramiko's reader thread answers channel messages by the same call that waits for the
  end of a key exchange; while one is on, it waits for itself, and after 30 s the connection dies
  ("Key-exchange timed out"). Here, what the reader thread has to say meanwhile is kept, in order,
  until the new keys are in force.
- Order. A message about a channel is checked and sent under one lock, so that nothing follows
  the channel's close; sshd ends the connection for that.
- Replies. Global requests are answered in order; each waits for its own answer (paramiko keeps one
  event for all threads, and uses it for key exchanges as well).
Nothing here knows hosts, keys or commands.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import paramiko
from paramiko import common
from paramiko.message import Message

from remotedl.errors import LinkLost
from remotedl.ssh import algorithms, certificate
from remotedl.ssh.channel import Channel, ChannelRefused, add_fields
from remotedl.ssh.packets import Packetizer

WINDOW = 16 << 20
PACKET = 128 << 10
PROHIBITED = 1
UNKNOWN_CHANNEL_TYPE = 3
MOST_OPENING = 256
REKEY_LIMIT_S = 60.0

OnOpen = Callable[[str, Message, Channel], Callable[[], None]]
OnGlobal = Callable[[str, Message], tuple[Any, ...] | None]

logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class Transport(paramiko.Transport):
    """One SSH connection, either side of it."""

    active: bool
    H: bytes
    host_key_type: str
    host_key: paramiko.PKey | None
    _preferred_keys: tuple[str, ...]
    _expected_packet: tuple[int, ...]
    _preferred_ciphers = algorithms.CIPHERS
    _preferred_macs = algorithms.MACS
    _preferred_kex = algorithms.KEX
    _cipher_info = algorithms.CIPHER_INFO
    _kex_info = algorithms.KEX_INFO
    _channel_handler_table = {  # noqa: RUF012  (paramiko's own class attribute)
        common.MSG_CHANNEL_SUCCESS: Channel._request_success,
        common.MSG_CHANNEL_FAILURE: Channel._request_failed,
        common.MSG_CHANNEL_DATA: Channel._feed,
        common.MSG_CHANNEL_EXTENDED_DATA: Channel._feed_extended,
        common.MSG_CHANNEL_WINDOW_ADJUST: Channel._window_adjust,
        common.MSG_CHANNEL_REQUEST: Channel._handle_request,
        common.MSG_CHANNEL_EOF: Channel._handle_eof,
        common.MSG_CHANNEL_CLOSE: Channel._handle_close,
    }

    def __init__(self, sock: Any, **options: Any) -> None:
        options.setdefault("packetizer_class", Packetizer)
        super().__init__(sock, **options)
        self.name = "remotedl-ssh"
        self.peer = "the other side"
        """What the user calls the other side; for messages."""
        self.on_open: OnOpen | None = None
        """Decides about a channel that the other side opens; without it, all are refused.

        Called in a thread of its own with the kind, the rest of the request and the channel, not
        confirmed yet. Raises ChannelRefused, or returns what is called once it is confirmed.
        """
        self.host_certificate: certificate.Certificate | None = None
        """What vouches for the server's key, where it showed a certificate."""
        self._certificates: tuple[str, ...] = ()
        self.on_global: OnGlobal | None = None
        """Answers the other side's global requests; without it, all are refused."""
        self._channels: Any = ChannelTable()
        self.channels_seen: Any = self._channels
        self.packetizer.on_data = self._take_data  # type: ignore[attr-defined]
        self.packetizer.on_drained = self._wake_readers  # type: ignore[attr-defined]
        self._fed: dict[int, Channel] = {}
        self._fault = ""
        self._opening = threading.BoundedSemaphore(MOST_OPENING)
        self._kept: deque[tuple[Message, Callable[[], bool]]] = deque()
        self._replies: deque[_Reply] = deque()

    @property
    def heard(self) -> float:
        """When a packet last came, as time.monotonic()."""
        return float(self.packetizer.heard)  # type: ignore[attr-defined]

    def breaks_rules(self, how: str) -> paramiko.SSHException:
        """The error that ends the connection, for what the protocol forbids the other side."""
        self._fault = how
        return paramiko.SSHException(how)

    def lost(self, why: str = "") -> LinkLost:
        """The error to raise when the connection has failed."""
        why = self._fault or why or "it ended"
        return LinkLost(f"the connection to {self.peer} is lost: {why}", hint="remotedl doctor")

    def ask_for(self, kinds: Sequence[str], *, certificates: bool) -> None:
        """Ask for these kinds of host keys first, and before all for certificates."""
        every = self._preferred_keys
        wanted = [kind for kind in kinds if kind in every]
        self._preferred_keys = tuple(dict.fromkeys([*wanted, *every]))
        if certificates:
            self._certificates = tuple(kind + certificate.SUFFIX for kind in self._preferred_keys)

    def open(self, kind: str, *fields: str | int, timeout_s: float = 30.0) -> Channel:
        """Open a channel of `kind`; `fields` follow in the request.

        Raises ChannelRefused, TimeoutError, LinkLost.
        """
        channel = self._new_channel()
        message = Message()
        message.add_byte(common.cMSG_CHANNEL_OPEN)
        message.add_string(kind)
        message.add_int(channel.number)
        message.add_int(WINDOW)
        message.add_int(PACKET)
        add_fields(message, *fields)
        try:
            self.send_in_order(message)
            channel.wait_open(timeout_s)
        except (TimeoutError, LinkLost):
            channel.close()
            raise
        return channel

    def ask(self, kind: str, *fields: str | int, deadline_s: float) -> Message | None:
        """A global request; its answer, None where it was refused.

        Raises LinkLost when nothing at all was heard for `deadline_s`: a link that is busy with a
        long transfer is slow to answer, but not lost.
        """
        reply = _Reply()
        message = Message()
        message.add_byte(common.cMSG_GLOBAL_REQUEST)
        message.add_string(kind)
        message.add_boolean(True)
        add_fields(message, *fields)
        asked = time.monotonic()

        def enqueue() -> bool:
            self._replies.append(reply)
            return True

        self.send_in_order(message, enqueue)
        while not reply.ready.wait(
            max(0.0, max(asked, self.heard) + deadline_s - time.monotonic())
        ):
            if not self.active or time.monotonic() >= max(asked, self.heard) + deadline_s:
                raise self.lost(f"no answer for {deadline_s:g} s")
        if reply.lost:
            raise self.lost()
        return reply.message

    def send_in_order(self, message: Message, still: Callable[[], bool] = lambda: True) -> bool:
        """Send unless `still`, asked where the order of messages is made, says no any more.

        Blocks during a key exchange, except on the transport's own thread, where the message is
        kept for later. Raises LinkLost.
        """
        if threading.current_thread() is self:
            return self._send_or_keep(message, still)
        began = time.monotonic()
        while True:
            self._await_keys(began)
            with self.clear_to_send_lock:
                if self.clear_to_send.is_set():
                    return self._send_if(message, still)

    def send_data(
        self, header: bytes, data: memoryview, packet: int, still: Callable[[], bool]
    ) -> bool:
        """As `send_in_order`, for channel data of any size; not for the transport's own thread."""
        began = time.monotonic()
        while True:
            self._await_keys(began)
            with self.clear_to_send_lock:
                if self.clear_to_send.is_set():
                    if not still():
                        return False
                    try:
                        self.packetizer.send_data(header, data, packet)  # type: ignore[attr-defined]
                    except (EOFError, OSError, paramiko.SSHException) as exc:
                        raise self.lost() from exc
                    return True

    def forget(self, number: int) -> None:
        """A channel is closed on both sides; its number may be used again."""
        self._channels.delete(number)

    def close(self) -> None:
        """End the connection and its thread; idempotent."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass
        super().close()
        self.sock.close()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(5.0)

    # What paramiko calls.

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Certificates only where someone may vouch for one: paramiko does not check them."""
        return (*self._certificates, *self._filter_algorithm("keys"))  # type: ignore[attr-defined]

    def run(self) -> None:
        super().run()
        for reply in list(self._replies):
            reply.lose()

    def _really_parse_kex_init(self, *args: Any, **options: Any) -> Any:
        theirs = super()._really_parse_kex_init(*args, **options)  # type: ignore[misc]
        if not self.server_mode:
            names = ("kex", "keys", "ciphers", "macs", "compression")
            ours = {name: getattr(self, f"preferred_{name}") for name in names}
            algorithms.without_needless_macs(theirs, ours)
            clash = algorithms.nothing_in_common(theirs, ours)
            if clash is not None:
                raise clash
        return theirs

    def _verify_key(self, host_key: bytes, signature: bytes) -> None:
        """A certificate is opened here: the key inside must have signed."""
        if not self.host_key_type.endswith(certificate.SUFFIX):
            self.host_certificate = None
            super()._verify_key(host_key, signature)  # type: ignore[misc]
            return
        signed = certificate.read(host_key)
        if signed.key.kind != certificate.plain_kind(self.host_key_type):
            raise paramiko.SSHException("the server's certificate is not of the kind agreed on")
        key = paramiko.PKey.from_type_string(signed.key.kind, signed.key.blob)
        if not key.verify_ssh_sig(self.H, Message(signature)):
            raise paramiko.SSHException("the server has not the key of its certificate")
        self.host_certificate, self.host_key = signed, key

    def _send_user_message(self, message: Message) -> None:
        self.send_in_order(message)

    def _parse_newkeys(self, message: Message) -> None:
        super()._parse_newkeys(message)  # type: ignore[misc]
        while self._kept:
            self._send_or_keep(*self._kept.popleft())

    def _parse_request_success(self, message: Message) -> None:
        if self._replies:
            self._replies.popleft().come(message)

    def _parse_request_failure(self, message: Message) -> None:
        if self._replies:
            self._replies.popleft().come(None)

    def _parse_global_request(self, message: Message) -> None:
        kind = message.get_text()
        wants_reply = message.get_boolean()
        fields = self.on_global(kind, message) if self.on_global is not None else None
        if not wants_reply:
            return
        answer = Message()
        if fields is None:
            answer.add_byte(common.cMSG_REQUEST_FAILURE)
        else:
            answer.add_byte(common.cMSG_REQUEST_SUCCESS)
            answer.add(*fields)
        self.send_in_order(answer)

    def _parse_channel_open_success(self, message: Message) -> None:
        channel = self._channels.get(message.get_int())
        if channel is not None:
            channel._confirm(message.get_int(), message.get_int(), message.get_int())

    def _parse_channel_open_failure(self, message: Message) -> None:
        number = message.get_int()
        channel = self._channels.get(number)
        if channel is not None:
            self.forget(number)
            channel._refuse(message.get_int(), message.get_text())

    def _parse_channel_open(self, message: Message) -> None:
        """In a thread of its own, unless it is refused anyhow: nobody asked for it, or for so
        many at once."""
        if self.on_open is None or not self._opening.acquire(blocking=False):
            message.get_text()
            self._refuse_open(message.get_int(), ChannelRefused(PROHIBITED, "nobody asked for it"))
            return
        threading.Thread(
            target=self._answer_open, args=(message,), name="remotedl-opened", daemon=True
        ).start()

    def _refuse_open(self, peer: int, why: ChannelRefused) -> None:
        answer = Message()
        answer.add_byte(common.cMSG_CHANNEL_OPEN_FAILURE)
        answer.add(peer, why.code, str(why), "en")
        self.send_in_order(answer)

    # Below: how it is done.

    def _take_data(self, packet: memoryview, begin: int, end: int) -> bool:
        """Channel data on its short way; during a key exchange paramiko has to see it."""
        if self._expected_packet:
            return False
        channel = self._channels.get(int.from_bytes(packet[begin + 1 : begin + 5], "big"))
        length = int.from_bytes(packet[begin + 5 : begin + 9], "big")
        if channel is None or begin + 9 + length != end:
            return False
        channel._take_data(bytes(packet[begin + 9 : end]))
        self._fed[channel.number] = channel
        return True

    def _wake_readers(self) -> None:
        """Once for all packets that came together: waking a thread costs more than a packet."""
        while self._fed:
            self._fed.popitem()[1]._wake()

    def _answer_open(self, message: Message) -> None:
        kind = message.get_text()
        peer, window, packet = message.get_int(), message.get_int(), message.get_int()
        answer = Message()
        try:
            channel = self._new_channel()
            try:
                if self.on_open is None:
                    raise ChannelRefused(UNKNOWN_CHANNEL_TYPE, "nobody asked for it")
                begin = self.on_open(kind, message, channel)
            except ChannelRefused as exc:
                self.forget(channel.number)
                self._refuse_open(peer, exc)
                return
            channel._confirm(peer, window, packet)
            answer.add_byte(common.cMSG_CHANNEL_OPEN_SUCCESS)
            answer.add(peer, channel.number, WINDOW, PACKET)
            self.send_in_order(answer)
            begin()
        except LinkLost:
            pass
        finally:
            self._opening.release()

    def _await_keys(self, began: float) -> None:
        """A moment of a key exchange. Raises LinkLost where it does not come to an end."""
        self.clear_to_send.wait(0.1)
        if not self.active:
            raise self.lost()
        if not self.clear_to_send.is_set() and time.monotonic() - began > REKEY_LIMIT_S:
            raise self.lost(f"a key exchange did not end in {REKEY_LIMIT_S:g} s")

    def _new_channel(self) -> Channel:
        with self.lock:
            if not self.active:
                raise self.lost("it is closed")
            number = self._channels.free_number()
            channel = Channel(self, number, WINDOW, PACKET)
            self._channels.put(number, channel)
            return channel

    def _send_or_keep(self, message: Message, still: Callable[[], bool]) -> bool:
        with self.clear_to_send_lock:
            if self.clear_to_send.is_set():
                return self._send_if(message, still)
        self._kept.append((message, still))
        return True

    def _send_if(self, message: Message, still: Callable[[], bool]) -> bool:
        if not still():
            return False
        try:
            self._send_message(message)  # type: ignore[attr-defined]
        except (EOFError, OSError, paramiko.SSHException) as exc:
            raise self.lost() from exc
        return True


class ChannelTable:
    """The channels by number. Unlike paramiko's it holds them until both sides have closed."""

    def __init__(self) -> None:
        self._channels: dict[int, Channel] = {}
        self._lock = threading.Lock()

    def free_number(self) -> int:
        """The lowest number not in use; one comes back when both sides are done with it."""
        with self._lock:
            number = 0
            while number in self._channels:
                number += 1
            return number

    def put(self, number: int, channel: Channel) -> None:
        with self._lock:
            self._channels[number] = channel

    def get(self, number: int) -> Channel | None:
        return self._channels.get(number)

    def delete(self, number: int) -> None:
        with self._lock:
            self._channels.pop(number, None)

    def values(self) -> list[Channel]:
        with self._lock:
            return list(self._channels.values())

    def __len__(self) -> int:
        return len(self._channels)

    def __contains__(self, number: int) -> bool:
        """Whether a message for an unknown number may be passed over; it always may."""
        return True


class _Reply:
    """An answer that is waited for."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.message: Message | None = None
        self.lost = False

    def come(self, message: Message | None) -> None:
        self.message = message
        self.ready.set()

    def lose(self) -> None:
        self.lost = True
        self.ready.set()
