"""The session's tunnels: Jupyter, TensorBoard and further ports, over whichever link there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from remotedl.config.models import HostConfig, ProjectConfig
from remotedl.container.services import JUPYTER_PORT, TENSORBOARD_PORT
from remotedl.errors import TunnelError
from remotedl.report import Report
from remotedl.session.status import TunnelStatus
from remotedl.ssh.remote import Remote, Stream
from remotedl.tunnel.entrance import Dial
from remotedl.tunnel.forward import LOOPBACK, TcpPlace
from remotedl.tunnel.listen import bind
from remotedl.tunnel.tunnel import Tunnel, TunnelWish, open_tunnel
from remotedl.tunnel.way import Way

JUPYTER, TENSORBOARD = "Jupyter", "TensorBoard"
PRIVILEGED = 1024


@dataclass(frozen=True, slots=True)
class Want:
    """A tunnel that the configuration asks for."""

    name: str
    laptop_port: int
    service_port: int | None
    """A port of the container, published where the engine chose; None: a port of the host."""
    host_port: int | None = None


def wanted_tunnels(project: ProjectConfig, host: HostConfig) -> list[Want]:
    """In the order of the live view. Pure."""
    wants = []
    if project.jupyter.enabled:
        wants.append(Want(JUPYTER, project.jupyter.port, JUPYTER_PORT))
    if project.tensorboard.enabled:
        wants.append(Want(TENSORBOARD, project.tensorboard.port, TENSORBOARD_PORT))
    for text in project.ports:
        laptop, service = _pair(text)
        wants.append(Want(f"port {service}", laptop, service))
    for text in host.ports:
        laptop, port = _pair(text)
        wants.append(Want(f"host port {port}", laptop, None, port))
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

    def __init__(self, wants: list[Want], host_name: str, report: Report) -> None:
        self._wants = wants
        self._ports: Mapping[int, int] = {}
        self._way: Way | None = None
        self._report = report
        self._tunnels: list[tuple[Want, Tunnel[Dial]]] = []
        try:
            for want in wants:
                wish = TunnelWish(want.name, TcpPlace(None, want.laptop_port), host_name)
                self._tunnels.append((want, open_tunnel(wish, None)))  # who has it: `moved`
        except TunnelError:
            self.close()
            raise

    def connect(self, remote: Remote, ports: Mapping[int, int]) -> None:
        """From now on connections go through `remote`; `ports`: service → port on the host."""
        self._leave()
        self._way, self._ports = Way(remote, report=self._report), dict(ports)
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
            port = want.host_port
            if want.service_port is not None:
                port = self._ports.get(want.service_port)
            if port is None:
                raise TunnelError(f"{want.name} is not published by the container")
            return way.dial(LOOPBACK, port)

        return dial


def _pair(text: str) -> tuple[int, int]:
    first, _, second = text.partition(":")
    return int(first), int(second or first)


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
    )
