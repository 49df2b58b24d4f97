"""The session's tunnels: Jupyter, TensorBoard and further ports, over whichever link there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from remotedl.config.models import HostConfig, ProjectConfig, port_pair
from remotedl.container.services import JUPYTER_PORT, TENSORBOARD_PORT
from remotedl.errors import TunnelError
from remotedl.report import Report
from remotedl.session.gate_key import secret_of
from remotedl.session.status import TunnelStatus
from remotedl.ssh.remote import Remote, Stream
from remotedl.tunnel.entrance import Dial
from remotedl.tunnel.forward import LOOPBACK, TcpPlace
from remotedl.tunnel.gate import NO_HTTP, Door, link
from remotedl.tunnel.gated import GatedEntrance
from remotedl.tunnel.listen import bind
from remotedl.tunnel.peer import own_uids
from remotedl.tunnel.tunnel import Tunnel, TunnelWish, open_tunnel, start_tunnel
from remotedl.tunnel.way import Way

JUPYTER, TENSORBOARD = "Jupyter", "TensorBoard"
PAGES = (JUPYTER, TENSORBOARD)
PRIVILEGED = 1024


@dataclass(frozen=True, slots=True)
class Want:
    """A tunnel that the configuration asks for."""

    name: str
    laptop_port: int
    service_port: int | None
    """A port as the container knows it, reached by its socket; None: a port of the host."""
    host_port: int | None = None
    raw: bool = False
    """Carried as it is, and let in without a link."""

    @property
    def gated(self) -> bool:
        """Whether a browser has to show its secret; Jupyter asks for a token of its own."""
        return not self.raw and self.name != JUPYTER

    @property
    def page(self) -> str:
        """What `remotedl open` takes for it."""
        return self.name.lower() if self.name in PAGES else str(self.service_port or self.host_port)


def wanted_tunnels(project: ProjectConfig, host: HostConfig) -> list[Want]:
    """In the order of the live view. Pure."""
    wants = []
    if project.jupyter.enabled:
        wants.append(Want(JUPYTER, project.jupyter.port, JUPYTER_PORT))
    if project.tensorboard.enabled:
        wants.append(Want(TENSORBOARD, project.tensorboard.port, TENSORBOARD_PORT))
    for text in project.ports:
        pair = port_pair(text)
        wants.append(Want(f"port {pair.remote}", pair.laptop, pair.remote, raw=pair.raw))
    for text in host.ports:
        pair = port_pair(text)
        name = f"host port {pair.remote}"
        wants.append(Want(name, pair.laptop, None, pair.remote, raw=pair.raw))
    return wants


def check_ports(wants: list[Want]) -> None:
    """Whether the laptop lets us listen there at all, before anything takes time.

    One that is taken moves later; one that is the administrator's is refused. Raises TunnelError.
    """
    for want in wants:
        if want.laptop_port < PRIVILEGED:
            bind(TcpPlace(None, want.laptop_port)).close()


class SessionTunnels:
    """Bound once, for the session's whole life; the link behind them is exchanged."""

    def __init__(self, wants: list[Want], host_name: str, key: bytes, report: Report) -> None:
        """`key`: what the secrets of the links are made of."""
        self._wants = wants
        self._key = key
        self._sockets = ""
        self._way: Way | None = None
        self._report = report
        self._tunnels: list[tuple[Want, Tunnel[Dial]]] = []
        try:
            for want in wants:
                place = TcpPlace(None, want.laptop_port)
                wish = TunnelWish(want.name, place, host_name, private=True)
                self._tunnels.append((want, self._open(want, wish)))  # who has it: `moved`
        except TunnelError:
            self.close()
            raise

    def _open(self, want: Want, wish: TunnelWish) -> Tunnel[Dial]:
        if not want.gated:
            return open_tunnel(wish, None)
        door = Door(want.name, self._secret(want), f"remotedl open {want.page}")
        return start_tunnel(wish, GatedEntrance(door, wish.host), None)

    def _secret(self, want: Want) -> str:
        return secret_of(self._key, want.name)

    def connect(self, remote: Remote, sockets: str) -> None:
        """From now on connections go through `remote`; `sockets`: their folder on the host."""
        self._leave()
        self._way, self._sockets = Way(remote, report=self._report), sockets
        for want, tunnel in self._tunnels:
            tunnel.set_dial(self._dial(want))

    def disconnect(self) -> None:
        """The link is gone: connections end, listeners stay."""
        for _, tunnel in self._tunnels:
            tunnel.set_dial(None)
        self._leave()

    def port(self, name: str) -> int | None:
        """The laptop's port of the tunnel `name`."""
        return next((tunnel.port for want, tunnel in self._tunnels if want.name == name), None)

    def link(self, name: str) -> str | None:
        """The address that lets a browser in to the tunnel `name`; None where none is needed."""
        for want, tunnel in self._tunnels:
            if want.name == name and want.gated:
                return link(f"http://{LOOPBACK}:{tunnel.port}/", self._secret(want))
        return None

    def moved(self) -> list[tuple[str, int, int]]:
        """Tunnels that did not get the port they wished for: name, that port, their own."""
        return [
            (want.name, want.laptop_port, tunnel.port)
            for want, tunnel in self._tunnels
            if tunnel.moved_from is not None
        ]

    def status(self, url: Callable[[str, int], str | None]) -> tuple[TunnelStatus, ...]:
        """`url` gives the address to open for a name and a port, if there is one."""
        return tuple(_status(want, tunnel, url) for want, tunnel in self._tunnels)

    def close(self) -> None:
        for _, tunnel in self._tunnels:
            tunnel.close()
        self._leave()

    def _leave(self) -> None:
        way, self._way = self._way, None
        if way is not None:
            way.close()

    def _dial(self, want: Want) -> Dial:
        def dial() -> Stream:
            way = self._way
            if way is None:
                raise TunnelError("there is no link to the host")
            if want.host_port is not None:
                return way.dial(LOOPBACK, want.host_port)
            return way.dial_unix(f"{self._sockets}/{want.service_port}")

        return dial


def _status(
    want: Want, tunnel: Tunnel[Dial], url: Callable[[str, int], str | None]
) -> TunnelStatus:
    counters = tunnel.counters()
    return TunnelStatus(
        name=want.name,
        bind=LOOPBACK,
        port=tunnel.port,
        wished_port=want.laptop_port,
        target=f"{want.service_port or want.host_port}",
        url=url(want.name, tunnel.port),
        open_now=counters.now,
        total=counters.total,
        bytes_up=counters.to_remote,
        bytes_down=counters.to_laptop,
        page=want.page,
        open_to=_open_to(want),
        trouble=_trouble(want, counters.last_error),
    )


def _open_to(want: Want) -> str:
    """Who gets in without a link or a token; "" where nobody does."""
    if not want.raw:
        return ""
    return "your programs on this laptop" if own_uids() else "every program on this laptop"


def _trouble(want: Want, error: str) -> str:
    if not want.gated or error != NO_HTTP:
        return ""
    return f'a client that speaks no HTTP was refused; if it should not be: "{want.page}/tcp"'
