"""Where a host may get to through this laptop: public addresses, and what its user allows.

A host is somebody else's machine, and the laptop stands in networks that it must not reach: its
home, its company, its own services. What is judged is the address that is then connected to, so
that no name resolves to one thing now and to another a moment later.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

CONNECT_LIMIT_S = 20.0
GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
SPECIAL = tuple(
    ipaddress.ip_network(one)
    for one in ("100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "2001::/23", "3fff::/20")
)
"""What not every version of Python calls private."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
COMPATIBLE = ipaddress.IPv6Network("::/96")
LOWEST_32 = 0xFFFFFFFF

Address = IPv4Address | IPv6Address


class OutOfReach(Exception):
    """A place that the host has no business with."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be reached. `allowed`: names, addresses and networks (192.0.2.0/24) of the LAN."""

    allowed: Collection[str] = ()

    def dial(self, host: str, port: int) -> socket.socket:
        """Connect from the laptop. Raises OutOfReach, OSError where nobody is."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        error: OSError = OSError(f"{host} has no address")
        refused = 0
        for family, kind, number, _, address in found:
            if not self.may(host, str(address[0])):
                refused += 1
                continue
            connection = socket.socket(family, kind, number)
            connection.settimeout(CONNECT_LIMIT_S)
            try:
                connection.connect(address)
            except OSError as exc:
                connection.close()
                error = exc
                continue
            connection.settimeout(None)
            return connection
        if refused == len(found) and found:
            raise OutOfReach(
                f"{host} is this laptop, or in a network that is not public; for a mirror there, "
                f'on the laptop, in your own hosts.toml: allow_lan = ["{host}"]'
            )
        raise error

    def may(self, host: str, address: str) -> bool:
        """Whether `address`, which `host` stands for, may be connected to."""
        ip = _parsed(address)
        inner = meant(ip)
        if any(_holds(entry, one) for entry in self.allowed for one in inner):
            return True
        ours = any(one in own_addresses() for one in inner)
        named = host.rstrip(".").lower() in {entry.rstrip(".").lower() for entry in self.allowed}
        if named and not any(one.is_loopback or one.is_link_local for one in inner):
            return not ours and not any(one.is_unspecified or one.is_multicast for one in inner)
        return not ours and all(is_public(one) for one in inner)


def meant(ip: Address) -> tuple[Address, ...]:
    """The address, and the IPv4 address that an IPv6 one leads to: mapped, 6to4, Teredo, NAT64."""
    if isinstance(ip, IPv4Address):
        return (ip,)
    if ip.ipv4_mapped is not None:
        return (ip.ipv4_mapped,)
    if ip in NAT64 or (ip in COMPATIBLE and int(ip) > 1):
        return (IPv4Address(int(ip) & LOWEST_32),)
    if ip.sixtofour is not None:
        return (ip, ip.sixtofour)
    return (ip, *ip.teredo) if ip.teredo is not None else (ip,)


def is_public(ip: Address) -> bool:
    """Whether it is somebody's in the internet."""
    if isinstance(ip, IPv6Address) and ip not in GLOBAL_V6:
        return False
    special = ip.is_multicast or ip.is_reserved or any(ip in one for one in SPECIAL)
    return ip.is_global and not special


def own_addresses() -> frozenset[Address]:
    """Of this laptop's network cards, the public ones too."""
    found = set[Address]()
    import psutil  # only who asks for it pays for it

    for card in psutil.net_if_addrs().values():
        for one in card:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                found.update(meant(_parsed(one.address)))
    return frozenset(found)


def _parsed(address: str) -> Address:
    return ipaddress.ip_address(address.partition("%")[0])


def _holds(entry: str, ip: Address) -> bool:
    try:
        return ip in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False  # a name
