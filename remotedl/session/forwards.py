"""`remotedl tunnel`: further ports by hand, both ways, for as long as the command runs.

-L  a port of the laptop that leads to the host     -R  a port of the host that leads here
-D  a SOCKS proxy on the laptop whose clients come out on the host
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from remotedl.errors import RemotedlError, TunnelError, UsageError
from remotedl.session.backoff import FINAL, delays
from remotedl.session.errands import Errand
from remotedl.session.own_ports import explained
from remotedl.session.pulse import Pulse
from remotedl.ssh.remote import Remote, Stream
from remotedl.tunnel.entrance import Dial
from remotedl.tunnel.forward import Forward, Place, TcpPlace, parse_dynamic, parse_forward
from remotedl.tunnel.reverse import Reverse
from remotedl.tunnel.socks import DialTo, open_socks
from remotedl.tunnel.tunnel import Tunnel, TunnelWish, open_tunnel
from remotedl.tunnel.way import Way

NAP_S = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for, taken apart."""

    local: tuple[Forward, ...]
    reverse: tuple[Forward, ...]
    dynamic: tuple[TcpPlace, ...]


def parse_asked(local: Sequence[str], reverse: Sequence[str], dynamic: Sequence[str]) -> Asked:
    """Raises UsageError, also where nothing is asked for. Pure."""
    if not (local or reverse or dynamic):
        raise UsageError("no tunnel is asked for", hint="remotedl tunnel -L 5000")
    return Asked(
        tuple(parse_forward(text) for text in local),
        tuple(parse_forward(text, "-R") for text in reverse),
        tuple(parse_dynamic(text) for text in dynamic),
    )


class Forwards:
    """Tunnels that stay while the link behind them comes and goes."""

    def __init__(self, asked: Asked, errand: Errand) -> None:
        self._report = errand.report
        self._local: list[tuple[Forward, Tunnel[Dial]]] = []
        self._socks: list[Tunnel[DialTo]] = []
        self._reverse = [Reverse(one, errand.report) for one in asked.reverse]
        self._way: Way | None = None
        try:
            for one in asked.local:
                wish = TunnelWish(f"-L {one}", one.listen, errand.host_name, may_move=False)
                with _explaining(one.listen):
                    self._local.append((one, open_tunnel(wish, None, report=errand.report)))
            for place in asked.dynamic:
                wish = TunnelWish(f"-D {place}", place, errand.host_name, may_move=False)
                with _explaining(place):
                    self._socks.append(open_socks(wish, None, report=errand.report))
        except RemotedlError:
            self.close()
            raise

    def lines(self) -> list[str]:
        """One a tunnel: where it listens and where it leads."""
        lines = [f"laptop {tunnel.place} → host {one.target}" for one, tunnel in self._local]
        lines += [f"laptop {tunnel.place} → SOCKS on the host" for tunnel in self._socks]
        return lines + [
            f"host {r.forward.listen} → laptop {r.forward.target}" for r in self._reverse
        ]

    def begin(self, remote: Remote) -> None:
        """Over the first link: a port that is taken on the host is an error. Raises TunnelError."""
        self._over(remote)
        for reverse in self._reverse:
            reverse.begin(self._need_way())

    def connect(self, remote: Remote) -> None:
        """Over a later link: what was listened on is listened on again."""
        self._over(remote)
        for reverse in self._reverse:
            reverse.set_way(self._need_way())

    def disconnect(self) -> None:
        for _, tunnel in self._local:
            tunnel.set_dial(None)
        for socks in self._socks:
            socks.set_dial(None)
        for reverse in self._reverse:
            reverse.set_way(None)
        way, self._way = self._way, None
        if way is not None:
            way.close()

    def close(self) -> None:
        self.disconnect()
        for _, tunnel in self._local:
            tunnel.close()
        for socks in self._socks:
            socks.close()
        for reverse in self._reverse:
            reverse.close()

    def _over(self, remote: Remote) -> None:
        way = self._way = Way(remote, report=self._report)
        for one, tunnel in self._local:
            tunnel.set_dial(_dial(way, one.target))
        for socks in self._socks:
            socks.set_dial(way.dial)

    def _need_way(self) -> Way:
        assert self._way is not None, "called by begin and connect alone, after _over"
        return self._way


@contextmanager
def _explaining(place: Place) -> Iterator[None]:
    """A port that a session of ours has is not "another program's"."""
    try:
        yield
    except TunnelError as exc:
        raise explained(exc, place) from exc


def hold(errand: Errand, forwards: Forwards, remote: Remote, stop: threading.Event) -> None:
    """Keep them alive until `stop`; a lost link is brought back. Raises what cannot be mended."""
    while not stop.is_set():
        why = _until_lost(remote, stop)
        forwards.disconnect()
        remote.close()
        if why is None:
            return
        errand.report.warn(f"link lost: {why.message}; coming back")
        for delay in delays(random.random):
            if stop.wait(delay):
                return
            try:
                remote = errand.connect()
                break
            except FINAL:
                raise
            except RemotedlError:
                continue
        forwards.connect(remote)
        errand.report.note("back")


def _until_lost(remote: Remote, stop: threading.Event) -> RemotedlError | None:
    gone = threading.Event()
    pulse = Pulse(remote, gone)
    pulse.start()
    try:
        while not gone.wait(NAP_S) and not stop.is_set():
            pass
    finally:
        pulse.stop()
    return pulse.why


def _dial(way: Way, target: Place) -> Dial:
    def dial() -> Stream:
        return way.dial_place(target)

    return dial
