"""How connections get to the host: by sshd's forwarding, or by the relay where sshd forbids it.

One for each link; it ends with the link. Starts the relay when it is first needed and not before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from remotedl.errors import ForwardingForbidden, TunnelError
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Remote, Stream
from remotedl.tunnel.forward import LOOPBACK, Place, UnixPlace
from remotedl.tunnel.relay import Listening, OnAccept, Relay


@runtime_checkable
class Hastened(Protocol):
    """A Remote that can prepare for many dials; not all can."""

    def hasten(self) -> None: ...


class Way:
    """Dials and listens on the host of `remote`. All calls may come from any thread."""

    def __init__(self, remote: Remote, *, report: Report = SILENT, hasten: bool = True) -> None:
        """`hasten`: many connections are to come, worth a second login of the system's ssh."""
        self._remote = remote
        self._report = report
        self._starting = threading.Lock()
        self._relay: Relay | None = None
        self._forbidden: set[str] = set()
        """Targets that sshd forbids; a permission may be of single ports."""
        if hasten and isinstance(remote, Hastened):
            remote.hasten()

    def dial(self, address: str, port: int) -> Stream:
        """As `Remote.dial`."""
        return self._dial(
            f"{address}:{port}",
            lambda: self._remote.dial(address, port),
            lambda: self.relay().dial(address, port),
        )

    def dial_unix(self, path: str) -> Stream:
        """As `Remote.dial_unix`."""
        if path in self._forbidden:
            return self.relay().dial_unix(path)
        try:
            return self._remote.dial_unix(path)
        except TunnelError as refused:
            return self._dial_unix_relayed(path, refused)

    def dial_place(self, place: Place) -> Stream:
        """Whatever the place is. Raises TunnelError, LinkLost."""
        if isinstance(place, UnixPlace):
            return self.dial_unix(place.path)
        return self.dial(place.host or LOOPBACK, place.port)

    def listen(self, place: Place, on_accept: OnAccept) -> Listening:
        """Listen on the host; see `Relay.listen`. Raises TunnelError, LinkLost."""
        return self.relay().listen(place, on_accept)

    def relay(self) -> Relay:
        """The relay, started if need be. Raises TunnelError, LinkLost."""
        with self._starting:
            if self._relay is None or not self._relay.alive:
                self._relay = Relay(self._remote)
            return self._relay

    def close(self) -> None:
        """End the relay if one was started. Idempotent."""
        with self._starting:
            if self._relay is not None:
                self._relay.close()

    def _dial_unix_relayed(self, path: str, refused: TunnelError) -> Stream:
        """OpenSSH's sshd says the same of a socket that it forbids (AllowStreamLocalForwarding no),
        of one that is not there, of one that refuses and of a path that is too long for it. The
        relay tells them apart, and connects where that can be done."""
        try:
            relay = self.relay()
        except TunnelError:
            raise refused from None
        stream = relay.dial_unix(path)
        try:
            directly = self._remote.dial_unix(path)
        except TunnelError:
            self._note_forbidden(path)
            return stream
        stream.close()  # it has only just begun to listen
        return directly

    def _dial(
        self, where: str, directly: Callable[[], Stream], relayed: Callable[[], Stream]
    ) -> Stream:
        if where not in self._forbidden:
            try:
                return directly()
            except ForwardingForbidden:
                self._note_forbidden(where)
        return relayed()

    def _note_forbidden(self, where: str) -> None:
        if not self._forbidden:
            self._report.note(
                f"sshd on {self._remote.name} forbids forwarding: "
                "tunnels go through a command there, which is slower"
            )
        self._forbidden.add(where)
