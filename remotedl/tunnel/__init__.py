"""Listening sockets on the laptop, spliced to ports on the host."""

from remotedl.tunnel.forward import Forward, TcpPlace, UnixPlace, parse_dynamic, parse_forward
from remotedl.tunnel.tunnel import Counters, Tunnel, TunnelWish, open_tunnel

__all__ = [
    "Counters",
    "Forward",
    "TcpPlace",
    "Tunnel",
    "TunnelWish",
    "UnixPlace",
    "open_tunnel",
    "parse_dynamic",
    "parse_forward",
]
