"""A tunnel: a port of the laptop that stays bound, whose far end may come and go.

    listener -> (wait for a link) -> dial -> splice

The listener is bound once and lives until `close`, so that the address a browser holds stays
good through every loss of the link. `set_dial` exchanges the far end: None while there is no
link. The dial is called for each connection, so a port that changes with the container is looked
up anew each time. Opens no links itself and never prints.

Decision: threads, not one event loop. A `Stream` of the contract blocks, paramiko's channels have
no descriptor to poll on every system, and an idle pair of threads costs some 50 KB of memory.
"""

from __future__ import annotations

import contextlib
import functools
import select
import selectors
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Generic, TypeVar

from remotedl.errors import LinkLost, RemotedlError
from remotedl.report import SILENT, Report
from remotedl.tunnel.entrance import (
    Answered,
    Caller,
    Dial,
    Entrance,
    PlainEntrance,
    Refusal,
    Why,
)
from remotedl.tunnel.forward import Place, TcpPlace
from remotedl.tunnel.listen import Bound, bind, is_loopback
from remotedl.tunnel.peer import GONE, own_uids, stranger
from remotedl.tunnel.splice import Splice
from remotedl.tunnel.workers import Workers

Link = TypeVar("Link")

GRACE_S = 3.0
"""How long a new connection waits for the link to come back before it is told."""
LIMIT = 1000
"""Connections at once; further ones wait in the listener's backlog."""
RETRY_S = 0.2
"""Pause before a link that is not known to be gone, and yet failed, is dialled again."""
GREETING_S = 10.0
"""How long a client may take to say where it wants to go."""
LOOK_S = 2.0
"""How often open connections are looked at for clients that vanished without a word."""
HUNG_UP = "it hung up before it could be told whose it is"
BREATH_S = 0.1
"""Pause after an accept that failed (no more descriptors), so that it does not spin."""


@dataclass(frozen=True, slots=True)
class TunnelWish:
    """What the user wants to have on the laptop."""

    name: str
    """What it leads to, for messages: "Jupyter", "TensorBoard", "port 8080"."""
    listen: Place
    host: str
    """What the user calls the host."""
    may_move: bool = True
    """Whether the next free port will do when this one is taken."""
    private: bool = False
    """Whether other users of the laptop are refused, where the system tells who is who."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a tunnel has carried since it was opened. Bytes, connections."""

    now: int
    total: int
    to_remote: int
    to_laptop: int
    errors: int
    """Connections that were refused or ended by an error."""
    last_error: str

    def plus(
        self,
        *,
        now: int = 0,
        total: int = 0,
        to_remote: int = 0,
        to_laptop: int = 0,
        errors: int = 0,
        last_error: str = "",
    ) -> Counters:
        return Counters(
            now=self.now + now,
            total=self.total + total,
            to_remote=self.to_remote + to_remote,
            to_laptop=self.to_laptop + to_laptop,
            errors=self.errors + errors,
            last_error=last_error or self.last_error,
        )


NOTHING = Counters(now=0, total=0, to_remote=0, to_laptop=0, errors=0, last_error="")


def open_tunnel(
    wish: TunnelWish,
    dial: Dial | None,
    *,
    report: Report = SILENT,
    grace_s: float = GRACE_S,
    limit: int = LIMIT,
) -> Tunnel[Dial]:
    """Listen as wished and connect each client to what `dial` returns. Raises TunnelError.

    A port that is taken is warned about through `report`; see `Tunnel.port` and `moved_from`.
    """
    entrance = PlainEntrance(wish.name, wish.host)
    return start_tunnel(wish, entrance, dial, report=report, grace_s=grace_s, limit=limit)


def start_tunnel(
    wish: TunnelWish,
    entrance: Entrance[Link],
    link: Link | None,
    *,
    report: Report = SILENT,
    grace_s: float = GRACE_S,
    limit: int = LIMIT,
) -> Tunnel[Link]:
    """As `open_tunnel`, with clients received by `entrance`."""
    bound = bind(wish.listen, may_move=wish.may_move)
    if bound.moved_from is not None:
        report.warn(
            f"port {bound.moved_from} of this laptop is taken: {wish.name} is on {bound.place}",
            hint=f"to have {bound.moved_from}, end the program that uses it and start again",
        )
    if not is_loopback(bound.place):
        report.warn(f"{wish.name}: whoever can reach this laptop can use {bound.place}")
    return Tunnel(wish, bound, entrance, link, grace_s=grace_s, limit=limit)


class Tunnel(Generic[Link]):
    """An open tunnel. All calls may come from any thread."""

    def __init__(
        self,
        wish: TunnelWish,
        bound: Bound,
        entrance: Entrance[Link],
        link: Link | None,
        *,
        grace_s: float,
        limit: int,
    ) -> None:
        self.wish = wish
        self.place = bound.place
        self.moved_from = bound.moved_from
        self._bound = bound
        self._entrance = entrance
        self._own = own_uids() if wish.private else frozenset()
        self._grace_s = grace_s
        self._limit = limit
        self._changed = threading.Condition()
        # Guarded by _changed:
        self._link = link
        self._generation = 0
        self._closed = False
        self._visits: set[_Visit] = set()
        self._past = NOTHING
        self._next_look = 0.0
        self._workers = Workers(f"tunnel {wish.name} connection")
        self._wake, self._waker = socket.socketpair()
        self._acceptor = threading.Thread(
            target=self._accept_all, name=f"tunnel {wish.name}", daemon=True
        )
        self._acceptor.start()

    @property
    def port(self) -> int:
        """The port that is listened on; 0 for a unix socket."""
        return self.place.port if isinstance(self.place, TcpPlace) else 0

    def set_dial(self, link: Link | None) -> None:
        """Exchange the far end. None: the link is gone, and so are the connections over it."""
        with self._changed:
            self._link = link
            self._generation += 1
            over = [] if link is not None else list(self._visits)
            self._changed.notify_all()
        for visit in over:
            visit.cut("the link is gone")

    def counters(self) -> Counters:
        with self._changed:
            splices = [visit.splice for visit in self._visits if visit.splice is not None]
            return self._past.plus(
                now=len(self._visits),
                to_remote=sum(s.to_remote for s in splices),
                to_laptop=sum(s.to_laptop for s in splices),
            )

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop listening and end every connection. Idempotent."""
        with self._changed:
            first, self._closed = not self._closed, True
            self._link = None
            visits = list(self._visits)
            self._changed.notify_all()
        if first:
            self._waker.close()
            self._acceptor.join(timeout_s)
            self._bound.close()
            self._wake.close()
        for visit in visits:
            visit.end()
        with self._changed:
            self._changed.wait_for(lambda: not self._visits, timeout_s)
        self._workers.close()

    def __enter__(self) -> Tunnel[Link]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- accepting -----------------------------------------------------------------------------

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            for listener in self._bound.sockets:
                listener.setblocking(False)
                selector.register(listener, selectors.EVENT_READ)
            while self._has_room():
                for key, _ in selector.select(LOOK_S if self._visits else None):
                    if key.fileobj is not self._wake:
                        assert isinstance(key.fileobj, socket.socket)
                        self._accept(key.fileobj)
                self._end_the_gone()

    def _has_room(self) -> bool:
        """Wait until one more connection may be taken; False once the tunnel is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._is_room(), LOOK_S)
                if self._closed or self._is_room():
                    return not self._closed
            self._end_the_gone()

    def _is_room(self) -> bool:
        return len(self._visits) < self._limit

    def _end_the_gone(self) -> None:
        """A client may vanish while both of its threads wait for the host; nobody else looks."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        with self._changed:
            visits = list(self._visits)
        for visit in visits:
            if visit.is_gone():
                visit.cut("the client is gone")

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as exc:
            self._note_error(f"cannot accept: {exc.strerror}")
            with self._changed:
                self._changed.wait_for(lambda: self._closed, BREATH_S)
            return
        client.setblocking(True)
        visit = _Visit(client)
        with self._changed:
            self._visits.add(visit)
            self._past = self._past.plus(total=1)
        try:
            self._workers.do(functools.partial(self._serve, visit))
        except RuntimeError as exc:
            self._forget(visit, str(exc))

    # -- one connection ------------------------------------------------------------------------

    def _serve(self, visit: _Visit) -> None:
        error = ""
        try:
            error = self._connect(visit)
        except (OSError, RemotedlError) as exc:
            error = str(exc) or type(exc).__name__
        finally:
            self._forget(visit, error)

    def _connect(self, visit: _Visit) -> str:
        """From the greeting to the end of the last byte; the error, or ""."""
        other = stranger(visit.client, self._own)
        if other is not None:
            return HUNG_UP if other == GONE else f"uid {other} of this laptop was refused"
        visit.client.settimeout(GREETING_S)
        try:
            caller = self._entrance.greet(visit.client)
        except Answered as answered:
            return answered.refused
        found = self._reach(visit, caller)
        if isinstance(found, Refusal):
            with contextlib.suppress(OSError):  # it may have gone, or be slow to say its wish
                caller.refuse(found)
            return found.reason
        caller.welcome()
        visit.client.settimeout(None)
        found.run(self._workers)
        return found.error

    def _reach(self, visit: _Visit, caller: Caller[Link]) -> Splice | Refusal:
        """Dial until it works, waiting for the link where there is none."""
        found = self._dial_within(self._grace_s, visit, caller)
        if isinstance(found, Refusal) and found.why is Why.NO_LINK and caller.patience_s:
            found = self._dial_within(caller.patience_s, visit, caller)
        return found

    def _dial_within(self, limit_s: float, visit: _Visit, caller: Caller[Link]) -> Splice | Refusal:
        deadline = time.monotonic() + limit_s
        while True:
            link, generation = self._wait_for_link(deadline)
            if link is None:
                return Refusal(Why.NO_LINK, "no link")
            try:
                stream = caller.dial(link)
            except LinkLost as exc:
                if time.monotonic() >= deadline:
                    return Refusal(Why.NO_LINK, exc.message)
                self._pause(generation)
                continue
            except RemotedlError as exc:
                return Refusal(Why.REFUSED, exc.message)
            splice = Splice(visit.client, stream, caller.explanation)
            if self._adopt(visit, splice, generation):
                return splice
            stream.close()

    def _wait_for_link(self, deadline: float) -> tuple[Link | None, int]:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._link is not None, deadline - time.monotonic()
            )
            return self._link, self._generation

    def _pause(self, generation: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._generation != generation, RETRY_S)

    def _adopt(self, visit: _Visit, splice: Splice, generation: int) -> bool:
        """Count the splice as one over the present link; False when that link is no more."""
        with self._changed:
            if self._closed or self._generation != generation:
                return False
            visit.splice = splice
            return True

    def _forget(self, visit: _Visit, error: str) -> None:
        splice = visit.splice
        visit.client.close()
        with self._changed:
            self._visits.discard(visit)
            if splice is not None:
                self._past = self._past.plus(to_remote=splice.to_remote, to_laptop=splice.to_laptop)
            self._changed.notify_all()
        if error and not self._closed:
            self._note_error(error)

    def _note_error(self, error: str) -> None:
        with self._changed:
            self._past = self._past.plus(errors=1, last_error=error)


class _Visit:
    """An accepted client, from the accept to the last byte."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.splice: Splice | None = None
        if client.family in (socket.AF_INET, socket.AF_INET6):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def is_gone(self) -> bool:
        """Whether the client has reset the connection; False where that cannot be told."""
        if sys.platform == "win32":
            return False
        look = select.poll()
        try:
            look.register(self.client, 0)
        except ValueError:
            return False  # closed by its own thread in this moment
        return bool(look.poll(0))

    def cut(self, reason: str) -> None:
        """End it if its bytes already flow; one that still waits goes on waiting."""
        if self.splice is not None:
            self.splice.abort(reason)

    def end(self) -> None:
        """End it wherever it stands."""
        self.cut("the tunnel is closed")
        try:
            self.client.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # ended by itself
