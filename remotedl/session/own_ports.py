"""A port of the laptop that is taken: by a session of ours, or by a stranger. Looks, never acts."""

from __future__ import annotations

import os
from dataclasses import dataclass

from remotedl.errors import SessionError, TunnelError
from remotedl.session.errands import snapshot_of
from remotedl.session.registry import running_sessions
from remotedl.session.status import Snapshot
from remotedl.tunnel.forward import Place, TcpPlace


@dataclass(frozen=True, slots=True)
class Holder:
    """The tunnel of a live session that has a port."""

    name: str
    project: str
    host: str
    pid: int
    port: int
    target: str

    def __str__(self) -> str:
        return f"{self.name} of the session of {self.project} with {self.host}"


def holder_of(port: int) -> Holder | None:
    """Which session of this user on this laptop has the port; None: it is not one of ours."""
    for _, record in running_sessions(damaged=[]):
        if record.pid == os.getpid():
            continue  # ours asks because it could not have it
        try:
            found = held_by(snapshot_of(record), port)
        except SessionError:
            continue  # it does not answer, and so cannot be asked
        if found is not None:
            return found
    return None


def held_by(session: Snapshot, port: int) -> Holder | None:
    """Pure."""
    for tunnel in session.tunnels:
        if tunnel.port == port:
            return Holder(
                tunnel.name, session.project, session.host, session.pid, port, tunnel.target
            )
    return None


def moved_line(name: str, wished: int, port: int, holder: Holder | None) -> tuple[str, str]:
    """What became of a tunnel whose port was taken, and what to do to have that port. Pure."""
    if holder is None:
        taken, end = "taken by another program", "end that program"
    else:
        taken, end = str(holder), f"end that session (down {holder.host}, in {holder.project})"
    what = f"port {wished} is {taken}: {name} is on {port}"
    return what, f"to have {wished}, {end} and start this one again"


def explained(exc: TunnelError, place: Place) -> TunnelError:
    """The same refusal, naming the session where it is one of ours that listens there."""
    holder = holder_of(place.port) if isinstance(place, TcpPlace) else None
    if holder is None:
        return exc
    return TunnelError(
        f"cannot listen on {place}: it is {holder} (process {holder.pid}), and leads to port "
        f"{holder.target} there",
        hint=f"choose another port, or end that session: remotedl down {holder.host}",
    )
