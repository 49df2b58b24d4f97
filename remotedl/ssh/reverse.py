"""Ports of the host that lead to the laptop: sshd listens, and we are handed what connects."""

from __future__ import annotations

import threading
from collections.abc import Callable

from paramiko.message import Message

from remotedl.errors import LinkLost, TunnelError
from remotedl.ssh.channel import Channel, ChannelRefused
from remotedl.ssh.process import RemoteStream
from remotedl.ssh.transport import UNKNOWN_CHANNEL_TYPE, Transport

ANSWER_DEADLINE_S = 30.0
NOT_ASKED_FOR = 1

Handler = Callable[[RemoteStream], None]
Where = tuple[str, int]  # an address and a port; a path and 0


class RemoteListener:
    """A port or unix socket on the host. `close` ends it; what is connected lives on."""

    def __init__(self, address: str, port: int, on_close: Callable[[], None]) -> None:
        self.address = address
        """The address, or the path of a unix socket."""
        self.port = port
        """The port, also where any was asked for; 0 for a unix socket."""
        self._on_close = on_close

    def close(self) -> None:
        """Idempotent."""
        self._on_close()


class ReverseDoor:
    """The listeners of one connection."""

    def __init__(self, transport: Transport, host: str) -> None:
        self._transport = transport
        self._host = host
        self._handlers: dict[Where, Handler] = {}
        self._lock = threading.Lock()
        transport.on_open = self._open

    def listen(self, address: str, port: int, handler: Handler) -> RemoteListener:
        """Each connection is handed to `handler`, in a thread of its own. Raises TunnelError."""
        answer = self._ask("tcpip-forward", address, port)
        bound = port or answer.get_int()
        return self._keep((address, bound), handler, "cancel-tcpip-forward", address, bound)

    def listen_unix(self, path: str, handler: Handler) -> RemoteListener:
        self._ask("streamlocal-forward@openssh.com", path)
        return self._keep((path, 0), handler, "cancel-streamlocal-forward@openssh.com", path)

    def _ask(self, kind: str, *fields: str | int) -> Message:
        answer = self._transport.ask(kind, *fields, deadline_s=ANSWER_DEADLINE_S)
        if answer is None:
            where = ":".join(map(str, fields))
            raise TunnelError(
                f"{self._host} does not listen on {where} for us: it is taken, or sshd forbids it",
                hint="see AllowTcpForwarding in /etc/ssh/sshd_config on the host",
            )
        return answer

    def _keep(
        self, where: Where, handler: Handler, cancel: str, *fields: str | int
    ) -> RemoteListener:
        with self._lock:
            self._handlers[where] = handler

        def close() -> None:
            with self._lock:
                if self._handlers.pop(where, None) is None:
                    return
            try:
                self._transport.ask(cancel, *fields, deadline_s=ANSWER_DEADLINE_S)
            except LinkLost:
                pass

        return RemoteListener(*where, close)

    def _open(self, kind: str, message: Message, channel: Channel) -> Callable[[], None]:
        if kind == "forwarded-tcpip":
            where = (message.get_text(), message.get_int())
        elif kind == "forwarded-streamlocal@openssh.com":
            where = (message.get_text(), 0)
        else:
            raise ChannelRefused(UNKNOWN_CHANNEL_TYPE, f"no channels of kind {kind} here")
        with self._lock:
            handler = self._handlers.get(where)
        if handler is None:
            raise ChannelRefused(NOT_ASKED_FOR, "nobody listens for this")
        return lambda: handler(RemoteStream(channel))
