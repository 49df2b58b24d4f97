"""A host that was given a way through the laptop asks for the laptop's own network."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address

import psutil
import pytest

from remotedl.provision import laptop_reach
from remotedl.provision.laptop_proxy import LaptopProxy
from remotedl.provision.laptop_reach import Reach
from tests.unit.provision.test_laptop_proxy import SocketStream

SECRET = "remotedl:s3cret"
PUBLIC = ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "2002:5db8:d822::1")
PRIVATE = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.8", "198.18.0.1", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "fd12:3456::1",
    "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1", "2002:a00:1::",
    "2002:c0a8:101::1", "2001:0:a00:1::1", "2001:0:5db8:d822:0:0:f5ff:fffe", "100::1",
    "2001:db8::1", "5f00::1", "64:ff9b::a9fe:a9fe", "::ffff:169.254.169.254",
)  # fmt: skip
SPELLED = ("127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "[::1]", "LOCALHOST.")


@pytest.fixture
def service() -> Iterator[tuple[str, int]]:
    """Something that listens on an address of the laptop's own network card."""
    with socket.create_server((_own_address(), 0)) as server:
        yield server.getsockname()[:2]


def _own_address() -> str:
    for card in psutil.net_if_addrs().values():
        for one in card:
            if one.family == socket.AF_INET and not ip_address(one.address).is_loopback:
                return str(one.address)
    return "127.0.0.1"


def asked_for(where: str, port: int, reach: Reach) -> bytes:
    """What a host gets that asks the proxy for `where`."""
    client, ours = socket.socketpair()
    proxy = LaptopProxy(SECRET, {80, 443, port}, reach.dial)
    threading.Thread(target=proxy.serve, args=(SocketStream(ours),), daemon=True).start()
    basic = base64.b64encode(SECRET.encode()).decode()
    client.sendall(
        f"CONNECT {where}:{port} HTTP/1.1\r\nProxy-Authorization: Basic {basic}\r\n\r\n".encode()
    )
    client.settimeout(10)
    with client:
        return client.recv(4096)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_in_every_form(address: str) -> None:
    assert not Reach().may(address, address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address: str) -> None:
    assert Reach().may(address, address)


@pytest.mark.parametrize("where", SPELLED)
def test_the_laptop_by_another_spelling(where: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = asked_for(where, server.getsockname()[1], Reach())
        server.settimeout(0.1)
        assert said.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 502 ")), said
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_laptops_own_address(service: tuple[str, int]) -> None:
    said = asked_for(*service, Reach())
    assert said.startswith(b"HTTP/1.1 403 ") and b"allow_lan" in said


def test_a_public_address_that_is_the_laptops_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ip_address("93.184.216.34")
    monkeypatch.setattr(laptop_reach, "own_addresses", lambda: frozenset({mine}))
    for form in ("93.184.216.34", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"):
        assert not Reach().may(form, form)


def test_a_name_that_resolves_into_the_lan_at_the_second_look(
    monkeypatch: pytest.MonkeyPatch, service: tuple[str, int]
) -> None:
    """Rebinding: the name is looked up once, and the address that was judged is connected to."""
    answers = iter([[(socket.AF_INET, socket.SOCK_STREAM, 6, "", service)]])
    monkeypatch.setattr(laptop_reach.socket, "getaddrinfo", lambda *_, **__: next(answers))
    said = asked_for("rebind.example", service[1], Reach())
    assert said.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("entry", ["ADDRESS", "ADDRESS/24", "mirror.lan"])
def test_what_the_user_allows_is_reached(
    monkeypatch: pytest.MonkeyPatch, service: tuple[str, int], entry: str
) -> None:
    address, port = service
    monkeypatch.setattr(laptop_reach, "own_addresses", frozenset)
    there = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", service)]
    monkeypatch.setattr(laptop_reach.socket, "getaddrinfo", lambda *_, **__: there)
    reach = Reach([entry.replace("ADDRESS", address)])
    assert asked_for("mirror.lan", port, reach).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1"])
def test_a_name_that_is_allowed_leads_neither_to_loopback_nor_to_metadata(address: str) -> None:
    assert not Reach(["mirror.lan"]).may("mirror.lan", address)
