"""What may stand after -L, -R and -D, and how each mistake is answered."""

from __future__ import annotations

import pytest

from remotedl.errors import UsageError
from remotedl.tunnel.forward import (
    Forward,
    TcpPlace,
    UnixPlace,
    parse_dynamic,
    parse_forward,
)

LOOPBACK = "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        pytest.param("8888", Forward(TcpPlace(None, 8888), TcpPlace(LOOPBACK, 8888)), id="one"),
        pytest.param("80:90", Forward(TcpPlace(None, 80), TcpPlace(LOOPBACK, 90)), id="two ports"),
        pytest.param(
            "0.0.0.0:80:90", Forward(TcpPlace("0.0.0.0", 80), TcpPlace(LOOPBACK, 90)), id="bind"
        ),
        pytest.param(
            "*:80:90", Forward(TcpPlace("*", 80), TcpPlace(LOOPBACK, 90)), id="bind everywhere"
        ),
        pytest.param(
            ":80:90", Forward(TcpPlace("*", 80), TcpPlace(LOOPBACK, 90)), id="empty bind, as ssh"
        ),
        pytest.param("80:db:90", Forward(TcpPlace(None, 80), TcpPlace("db", 90)), id="host"),
        pytest.param(
            "localhost:80:db:90",
            Forward(TcpPlace("localhost", 80), TcpPlace("db", 90)),
            id="bind and host",
        ),
        pytest.param(
            "[::1]:80:[fd00::2]:90",
            Forward(TcpPlace("::1", 80), TcpPlace("fd00::2", 90)),
            id="IPv6 in brackets",
        ),
        pytest.param(
            "/tmp/x.sock:90",
            Forward(UnixPlace("/tmp/x.sock"), TcpPlace(LOOPBACK, 90)),
            id="unix socket here",
        ),
        pytest.param(
            "2375:/run/docker.sock",
            Forward(TcpPlace(None, 2375), UnixPlace("/run/docker.sock")),
            id="unix socket there",
        ),
        pytest.param(
            "~/a.sock:./b.sock",
            Forward(UnixPlace("~/a.sock"), UnixPlace("./b.sock")),
            id="unix sockets on both sides",
        ),
        pytest.param(
            " 80:90 ", Forward(TcpPlace(None, 80), TcpPlace(LOOPBACK, 90)), id="spaces around"
        ),
    ],
)
def test_forward(text: str, forward: Forward) -> None:
    assert parse_forward(text) == forward


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("jupyter", '"jupyter" where a port is expected', id="a name"),
        pytest.param("80:", "empty field", id="nothing after the colon"),
        pytest.param("0:80", "ports go from 1 to 65535", id="port 0"),
        pytest.param("80:65536", "ports go from 1 to 65535", id="port too high"),
        pytest.param("80:db", '"db" where a port is expected', id="no target port"),
        pytest.param("80:9000:90", '"9000" where a host is expected', id="host of digits"),
        pytest.param("localhost:80", "not where to go", id="no target"),
        pytest.param("/tmp/x", "not where to go", id="a lone path"),
        pytest.param("::1:80:90", "IPv6 addresses go in [brackets]", id="IPv6 without brackets"),
        pytest.param("[::1:80:90", "brackets", id="bracket left open"),
        pytest.param("::1]:80:90", "brackets", id="bracket never opened"),
        pytest.param("80:a:b:90", "too many fields", id="too many fields"),
        pytest.param("80:/x:90", "a port after a unix path", id="port after a path"),
        pytest.param("80:-1", '"-1" where', id="negative"),
        pytest.param("80:٣", '"٣"', id="digits of another script"),
    ],
)
def test_forward_that_makes_no_sense(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_forward(text)
    assert why in caught.value.message
    assert f'-L "{text}"' in caught.value.message
    assert caught.value.hint == "remotedl tunnel -L 8080:80"


def test_the_error_names_the_option_that_was_typed() -> None:
    with pytest.raises(UsageError, match='-R "x"') as caught:
        parse_forward("x", "-R")
    assert caught.value.hint == "remotedl tunnel -R 8080:3000"


def test_dynamic() -> None:
    assert parse_dynamic("1080") == TcpPlace(None, 1080)
    assert parse_dynamic("[::1]:1080") == TcpPlace("::1", 1080)


@pytest.mark.parametrize("text", ["", "x", "1080:80", "localhost:1080:80", "localhost"])
def test_dynamic_that_makes_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="-D"):
        parse_dynamic(text)


def test_places_are_written_as_they_are_typed() -> None:
    assert str(TcpPlace("fd00::2", 80)) == "[fd00::2]:80"
    assert str(TcpPlace(None, 80)) == "127.0.0.1:80"
    assert str(parse_forward("80:90")) == "127.0.0.1:80 -> 127.0.0.1:90"
