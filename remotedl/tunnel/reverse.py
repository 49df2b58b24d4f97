"""-R: a port of the host that leads to a port of the laptop.

The listener is on the host and so comes and goes with the link; where it was opened once, it is
opened again on every new link, at the same port. A listener that is not told where to bind is on
the host's 127.0.0.1, whatever GatewayPorts says.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import threading

from remotedl.errors import LinkLost, TunnelError
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Stream
from remotedl.tunnel.forward import LOOPBACK, Forward, Place, TcpPlace, UnixPlace
from remotedl.tunnel.relay import Listening
from remotedl.tunnel.splice import Splice
from remotedl.tunnel.tunnel import LIMIT, NOTHING, Counters
from remotedl.tunnel.way import Way
from remotedl.tunnel.workers import Workers

CONNECT_LIMIT_S = 10.0
RETRY_S = 2.0
"""After a cut the host may hold the port until its sshd notices that we are gone."""


def open_reverse(forward: Forward, way: Way, *, report: Report = SILENT) -> Reverse:
    """Listen on the host at `forward.listen`. Raises TunnelError when the port is taken there."""
    reverse = Reverse(forward, report)
    reverse.begin(way)
    return reverse


class Reverse:
    """An open reverse tunnel. All calls may come from any thread."""

    def __init__(self, forward: Forward, report: Report = SILENT) -> None:
        self.forward = forward
        self._report = report
        self._changed = threading.Condition()
        self._way: Way | None = None
        self._generation = 0
        self._listening: Listening | None = None
        self._splices: set[Splice] = set()
        self._past = NOTHING
        self._workers = Workers("tunnel reverse connection")

    @property
    def port(self) -> int:
        """The port on the host; 0 for a unix socket, and while there is no link."""
        listening = self._listening
        return listening.port if listening is not None else 0

    def begin(self, way: Way) -> None:
        """Listen over `way`. Raises TunnelError, LinkLost."""
        generation = self._exchange(way)
        self._keep(self._listen(way, generation), generation)

    def set_way(self, way: Way | None) -> None:
        """Exchange the link. None: it is gone. Returns at once; a port that is held is retried."""
        generation = self._exchange(way)
        if way is not None:
            threading.Thread(
                target=self._listen_again,
                args=(way, generation),
                name="tunnel reverse",
                daemon=True,
            ).start()

    def counters(self) -> Counters:
        with self._changed:
            return self._past.plus(
                now=len(self._splices),
                to_remote=sum(s.to_remote for s in self._splices),
                to_laptop=sum(s.to_laptop for s in self._splices),
            )

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop listening and end every connection. Idempotent."""
        self._exchange(None)
        with self._changed:
            self._changed.wait_for(lambda: not self._splices, timeout_s)
        self._workers.close()

    # -- how it is done --------------------------------------------------------------------------

    def _exchange(self, way: Way | None) -> int:
        with self._changed:
            self._way = way
            self._generation += 1
            listening, self._listening = self._listening, None
            splices = list(self._splices)
            self._changed.notify_all()
            generation = self._generation
        if listening is not None:
            listening.close()
        for splice in splices:
            splice.abort("the link is gone")
        return generation

    def _keep(self, listening: Listening, generation: int) -> None:
        with self._changed:
            if self._generation == generation:
                self._listening = listening
                return
        listening.close()

    def _listen_again(self, way: Way, generation: int) -> None:
        warned = False
        while self._generation == generation:
            try:
                self._keep(self._listen(way, generation), generation)
                return
            except LinkLost:
                return
            except TunnelError as exc:
                if not warned:
                    self._report.warn(f"{exc.message}; trying again", exc.hint)
                    warned = True
            with self._changed:
                self._changed.wait_for(lambda: self._generation != generation, RETRY_S)

    def _listen(self, way: Way, generation: int) -> Listening:
        try:
            return way.listen(self.forward.listen, functools.partial(self._accept, generation))
        except TunnelError as exc:
            if exc.hint:
                raise
            raise TunnelError(exc.message, hint=another_place(self.forward)) from exc

    def _accept(self, generation: int, stream: Stream) -> None:
        """One connection from the host, in a thread of its own."""
        error = ""
        splice = None
        try:
            splice = Splice(_connect(self.forward.target), stream)
            if self._adopt(splice, generation):
                splice.run(self._workers)
            error = splice.error
        except OSError as exc:
            error = f"{self.forward.target} on this laptop: {exc.strerror or exc}"
        finally:
            stream.close()
            self._forget(splice, error)

    def _adopt(self, splice: Splice, generation: int) -> bool:
        """Whether the splice belongs to the present link, and there is room for it."""
        with self._changed:
            self._past = self._past.plus(total=1)
            if self._generation == generation and len(self._splices) < LIMIT:
                self._splices.add(splice)
                return True
        splice.abort("too many connections at once, or the link is gone")
        splice.close()
        return False

    def _forget(self, splice: Splice | None, error: str) -> None:
        with self._changed:
            if splice is not None:
                self._splices.discard(splice)
                self._past = self._past.plus(to_remote=splice.to_remote, to_laptop=splice.to_laptop)
            if error:
                self._past = self._past.plus(errors=1, last_error=error)
            self._changed.notify_all()


def another_place(forward: Forward) -> str:
    """What to type where the host does not listen at the place that was asked for. Pure."""
    listen = forward.listen
    if isinstance(listen, UnixPlace):
        return f"remotedl tunnel -R {listen.path}.2:{forward.target}"
    # Below 1024 is the administrator's, and so would be the next one.
    step = 8000 if listen.port < 1024 else 1 if listen.port < 65535 else -1
    other = TcpPlace(listen.host, listen.port + step)
    return f"remotedl tunnel -R {other if listen.host else other.port}:{forward.target}"


def _connect(place: Place) -> socket.socket:
    """Raises OSError."""
    if isinstance(place, UnixPlace):
        if sys.platform == "win32":
            raise OSError("unix sockets are not to be had here")
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(os.path.expanduser(place.path))
        except OSError:
            end.close()
            raise
        return end
    assert isinstance(place, TcpPlace)
    end = socket.create_connection((place.host or LOOPBACK, place.port), CONNECT_LIMIT_S)
    end.settimeout(None)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return end
