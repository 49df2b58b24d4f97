"""Opening one hop: a socket to it, its host key checked, us logged in.

fabric's Connection does the opening; it is handed our Transport, our login and our rule about host
keys in place of its AutoAddPolicy, before it opens anything. What goes wrong is said in our words.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import fabric
import paramiko
from paramiko.ssh_exception import SSHException

from remotedl.errors import HostUnreachable, LinkLost, SshError
from remotedl.report import Report
from remotedl.ssh.auth import Login
from remotedl.ssh.channel import ChannelRefused
from remotedl.ssh.host_key import Judge
from remotedl.ssh.known_hosts import Key
from remotedl.ssh.prompt import Prompt
from remotedl.ssh.route import Hop
from remotedl.ssh.sockets import ChannelSocket, ProxiedSocket
from remotedl.ssh.transport import Transport

HANDSHAKE_TIMEOUT_S = 20.0
UNSENT_LIMIT = 256 << 10
RSA = "ssh-rsa"
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")


class Opened:
    """One hop that we are logged in on."""

    def __init__(self, opener: Any, transport: Transport, login: Login, key: Key) -> None:
        self.transport = transport
        self.login = login
        self.host_key = key
        self._opener = opener  # paramiko ends the connection when its client is dropped

    def close(self) -> None:
        self.transport.close()
        self._opener.client.close()


def open_route(
    hops: tuple[Hop, ...], prompt: Prompt, *, accept_new: bool, report: Report
) -> list[Opened]:
    """All hops, each through the one before. Closes what it opened when one fails."""
    opened: list[Opened] = []
    try:
        for hop in hops:
            before = opened[-1].transport if opened else None
            through = hops[len(opened) - 1] if opened else None
            sock = _socket_to(hop, before, through)
            opened.append(_open_hop(hop, sock, prompt, accept_new=accept_new, report=report))
    except BaseException:
        for done in reversed(opened):
            done.close()
        raise
    return opened


def _open_hop(hop: Hop, sock: Any, prompt: Prompt, *, accept_new: bool, report: Report) -> Opened:
    judge = Judge(hop, prompt, accept_new=accept_new, report=report)
    check = _HostKeyCheck(judge, sock)
    login = Login(hop, prompt)
    opener = fabric.Connection(
        hop.address,
        user=hop.user,
        port=hop.port,
        config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),
        connect_kwargs={
            "sock": sock,
            "transport_factory": _transport_for(judge),
            "timeout": HANDSHAKE_TIMEOUT_S,
            "auth_strategy": login,
        },
    )
    opener.client.set_missing_host_key_policy(check)
    try:
        opener.open()
    except SshError:
        opener.client.close()
        sock.close()
        raise
    except (SSHException, EOFError, OSError) as exc:
        opener.client.close()
        sock.close()
        raise _no_server(hop, exc) from exc
    assert check.key is not None
    return Opened(opener, opener.transport, login, check.key)


def _no_server(hop: Hop, exc: Exception) -> HostUnreachable:
    said = str(exc)
    if said.startswith("Error reading SSH protocol banner"):
        said = "it says nothing, or hangs up at once"
    where = f"the ProxyCommand of {hop.alias}" if hop.proxy_command else hop.shown
    return HostUnreachable(
        f"{where} answers, but not as an SSH server that we can talk to: {said}",
        hint=f"ssh -v {hop.typed}",
    )


class _HostKeyCheck(paramiko.MissingHostKeyPolicy):
    """Hands the key to our Judge. paramiko's own tables stay empty, so it is asked every time."""

    def __init__(self, judge: Judge, sock: Any) -> None:
        self.key: Key | None = None
        self._judge = judge
        self._sock = sock

    def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
        """Raises HostKeyChanged, HostKeyUnknown."""
        self.key = Key(key.get_name(), key.asbytes())
        signed = client.get_transport().host_certificate
        self._judge.check(self.key, signed, _peer_address(self._sock))


def _peer_address(sock: Any) -> str | None:
    """Whom we are connected to; None by way of a jump host or a ProxyCommand."""
    try:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            return str(sock.getpeername()[0])
    except (AttributeError, OSError):
        pass
    return None


def _transport_for(judge: Judge) -> Callable[..., Transport]:
    """A maker of Transports that ask for key types we know first, so that no other comes."""
    first: list[str] = []
    for kind in judge.wanted_kinds():
        first += RSA_SIGNATURES if kind == RSA else [kind]

    def make(sock: Any, **options: Any) -> Transport:
        transport = Transport(sock, **options)
        transport.ask_for(first, certificates=judge.certificates_wanted())
        transport.banner_timeout = HANDSHAKE_TIMEOUT_S
        return transport

    return make


def _socket_to(hop: Hop, before: Transport | None, through: Hop | None) -> Any:
    """Something to speak SSH over. Raises HostUnreachable."""
    if before is not None:
        assert through is not None
        try:
            channel = before.open(
                "direct-tcpip",
                hop.address,
                hop.port,
                "127.0.0.1",
                0,
                timeout_s=hop.connect_timeout_s,
            )
        except (ChannelRefused, TimeoutError, LinkLost) as exc:
            raise HostUnreachable(
                f"{through.shown} cannot reach {hop.address}, port {hop.port}: {exc}",
                hint=f"ssh {through.typed} nc -vz {hop.address} {hop.port}",
            ) from exc
        return ChannelSocket(channel)
    if hop.proxy_command is not None:
        return _proxied(hop, hop.proxy_command)
    return _connected(hop)


def _connected(hop: Hop) -> socket.socket:
    where = f"{hop.address}, port {hop.port}"
    try:
        sock = socket.create_connection((hop.address, hop.port), timeout=hop.connect_timeout_s)
    except socket.gaierror as exc:
        raise HostUnreachable(
            f'there is no host named "{hop.address}" ({exc.strerror})',
            hint=f"check the address in hosts.toml, then: ssh -G {hop.alias} | grep hostname",
        ) from exc
    except ConnectionRefusedError as exc:
        raise HostUnreachable(
            f"nothing listens on {where}: sshd does not run there, or on another port",
            hint=f"ssh -v {hop.typed}",
        ) from exc
    except TimeoutError as exc:
        raise HostUnreachable(
            f"{where} does not answer for {hop.connect_timeout_s:g} s: the host is off, "
            "or a firewall or missing VPN is in the way",
            hint=f"ping {hop.address}",
        ) from exc
    except OSError as exc:
        raise HostUnreachable(
            f"{where} cannot be reached: {exc.strerror or exc}", hint=f"ping {hop.address}"
        ) from exc
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # The kernel may queue megabytes; a keystroke would wait behind all of them.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_LIMIT)
    return sock


def _proxied(hop: Hop, command: str) -> Any:
    """A ProxyCommand's stdin and stdout as a socket. Raises HostUnreachable."""
    try:
        return ProxiedSocket(command)
    except OSError as exc:
        raise HostUnreachable(f"the ProxyCommand of {hop.alias} cannot be run: {exc}") from exc
