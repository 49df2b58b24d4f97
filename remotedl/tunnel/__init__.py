"""Listening sockets on the laptop, spliced to ports on the host; and the other way round.

way = Way(remote)                                    # one for each link
tunnel = open_tunnel(wish, lambda: way.dial("127.0.0.1", port_of_today()))      # -L
tunnel.set_dial(None)                                # the link is gone; the port stays
tunnel.set_dial(lambda: Way(next_remote).dial(…))    # and is back
open_socks(wish, way.dial)                           # -D
open_reverse(forward, way)                           # -R
"""

from remotedl.tunnel.forward import (
    Forward,
    Place,
    TcpPlace,
    UnixPlace,
    parse_dynamic,
    parse_forward,
)
from remotedl.tunnel.reverse import Reverse, open_reverse
from remotedl.tunnel.socks import open_socks
from remotedl.tunnel.tunnel import Counters, Tunnel, TunnelWish, open_tunnel
from remotedl.tunnel.way import Way

__all__ = [
    "Counters",
    "Forward",
    "Place",
    "Reverse",
    "TcpPlace",
    "Tunnel",
    "TunnelWish",
    "UnixPlace",
    "Way",
    "open_reverse",
    "open_socks",
    "open_tunnel",
    "parse_dynamic",
    "parse_forward",
]
