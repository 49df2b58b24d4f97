"""Who gets through the gate of a tunnel, by the head of one request."""

from __future__ import annotations

import pytest

from remotedl.tunnel.gate import Answer, Door, Pass, closing, judge, link

SECRET = "5" * 64
PORT = 6006
DOOR = Door("TensorBoard", SECRET, "remotedl open tensorboard")
COOKIE = f"remotedl-{PORT}={SECRET}"
HOST = f"127.0.0.1:{PORT}"


def asked(first: str = "GET / HTTP/1.1", *headers: str, host: str = HOST) -> Pass | Answer:
    lines = [first, f"Host: {host}", *headers]
    return judge(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), PORT, DOOR)


def refused(verdict: Pass | Answer) -> str:
    assert isinstance(verdict, Answer)
    assert verdict.refused
    assert SECRET.encode() not in verdict.page
    assert b"Set-Cookie" not in verdict.page
    return verdict.refused


def passed(verdict: Pass | Answer) -> str:
    assert isinstance(verdict, Pass), verdict
    return verdict.head.decode("latin-1")


def test_who_has_the_cookie_passes_and_the_program_never_sees_it() -> None:
    theirs = f"a=1; {COOKIE}; remotedl-7860=x; username-127-0-0-1-8888=y; theme=dark"
    head = passed(asked("GET /data?x=1 HTTP/1.1", f"Cookie: {theirs}"))
    assert head.startswith("GET /data?x=1 HTTP/1.1\r\n")
    assert "Cookie: a=1; theme=dark\r\n" in head
    assert SECRET not in head and "username" not in head and "7860" not in head


def test_the_link_sets_the_cookie_and_leads_on_without_the_secret() -> None:
    address = link(f"http://{HOST}/", SECRET).removeprefix(f"http://{HOST}")
    verdict = asked(f"GET {address}&a=b HTTP/1.1", "Accept: text/html,*/*")
    assert isinstance(verdict, Answer)
    assert verdict.refused == ""
    page = verdict.page.decode()
    assert page.startswith("HTTP/1.1 303 ")
    assert f"Location: http://{HOST}/?a=b\r\n" in page
    cookie = next(line for line in page.split("\r\n") if line.startswith("Set-Cookie"))
    assert f"remotedl-{PORT}={SECRET};" in cookie
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "/@evil.example"])
def test_the_link_leads_to_no_other_place(path: str) -> None:
    verdict = asked(f"GET {path}?remotedl_token={SECRET} HTTP/1.1", "Accept: text/html")
    assert isinstance(verdict, Answer)
    assert f"Location: http://{HOST}/".encode() in verdict.page


def test_a_program_of_the_users_shows_the_secret_with_each_request() -> None:
    head = passed(asked(f"POST /api?remotedl_token={SECRET}&x=1 HTTP/1.1", "Content-Length: 3"))
    assert head.startswith("POST /api?x=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Cookie: a=1",),
        (f"Cookie: remotedl-{PORT}=wrong",),
        (f"Cookie: remotedl-7860={SECRET}",),
        (f"Cookie: remotedl-{PORT}=",),
        ("Authorization: Basic eDp5",),
    ],
)
def test_nobody_passes_without_the_secret(headers: tuple[str, ...]) -> None:
    assert "without its link" in refused(asked("GET / HTTP/1.1", *headers))
    assert "without its link" in refused(asked("GET /?remotedl_token= HTTP/1.1", *headers))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:6007",
        "127.0.0.1.evil.example", f"127.0.0.1:{PORT}@evil.example",
        f"localhost.evil.example:{PORT}", f"0.0.0.0:{PORT}", "",
    ],
)  # fmt: skip
def test_a_foreign_name_is_refused_whatever_it_knows(host: str) -> None:
    """DNS rebinding: a page's own name comes to lead to 127.0.0.1."""
    assert "asked for as" in refused(asked("GET / HTTP/1.1", f"Cookie: {COOKIE}", host=host))
    first = f"GET /?remotedl_token={SECRET} HTTP/1.1"
    assert "asked for as" in refused(asked(first, "Accept: text/html", host=host))


@pytest.mark.parametrize("host", [HOST, f"localhost:{PORT}", f"LocalHost:{PORT}", f"[::1]:{PORT}"])
def test_names_of_this_laptop_pass(host: str) -> None:
    passed(asked("GET / HTTP/1.1", f"Cookie: {COOKIE}", host=host))


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1:6006",
        f"http://localhost:{PORT}", "http://127.0.0.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("upgrade", [False, True], ids=["request", "websocket"])
def test_a_page_of_another_origin_is_refused(origin: str, upgrade: bool) -> None:
    more = ("Connection: keep-alive, Upgrade", "Upgrade: websocket") if upgrade else ()
    verdict = asked("GET / HTTP/1.1", f"Origin: {origin}", f"Cookie: {COOKIE}", *more)
    assert "a page of" in refused(verdict)


def fetch(site: str, mode: str, dest: str) -> tuple[str, ...]:
    return f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}", f"Sec-Fetch-Dest: {dest}"


@pytest.mark.parametrize(
    ("first", "headers", "through"),
    [
        ("GET / HTTP/1.1", fetch("none", "navigate", "document"), True),
        ("GET /x.js HTTP/1.1", fetch("same-origin", "no-cors", "script"), True),
        ("GET / HTTP/1.1", fetch("cross-site", "navigate", "document"), True),
        ("GET / HTTP/1.1", fetch("same-site", "navigate", "iframe"), True),
        ("GET / HTTP/1.1", fetch("cross-site", "navigate", "iframe"), False),
        ("GET /x.js HTTP/1.1", fetch("same-site", "no-cors", "script"), False),
        ("GET / HTTP/1.1", fetch("cross-site", "no-cors", "image"), False),
        ("POST /run HTTP/1.1", fetch("same-site", "navigate", "document"), False),
    ],
)
def test_what_other_pages_may_ask_for(first: str, headers: tuple[str, ...], through: bool) -> None:
    """Even where the browser sends the cookie along: ports are one site to it."""
    verdict = asked(first, f"Cookie: {COOKIE}", *headers)
    assert isinstance(verdict, Pass) is through


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"GET http://127.0.0.1:6006/ HTTP/1.1\r\nHost: 127.0.0.1:6006\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: 127.0.0.1:6006\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : 127.0.0.1:6006\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:6006\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:6006\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\nHost: 127.0.0.1:6006\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:6006\nX: y\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: 127.0.0.1:6006\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1:6006\r\n\r\n",
        b"\r\n\r\n",
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    refused(judge(head, PORT, DOOR))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Transfer-Encoding: chunked",), b"411"),
        (("Transfer-Encoding: chunked", "Content-Length: 3"), b"411"),
        (("Content-Length: 3", "Content-Length: 4"), b"400"),
        (("Content-Length: -1",), b"400"),
        (("Content-Length: 0x10",), b"400"),
        (("Content-Length: 9" + "9" * 30,), b"400"),
    ],
)
def test_a_body_has_one_length(headers: tuple[str, ...], status: bytes) -> None:
    verdict = asked("POST / HTTP/1.1", f"Cookie: {COOKIE}", *headers)
    refused(verdict)
    assert isinstance(verdict, Answer)
    assert verdict.page.startswith(b"HTTP/1.1 " + status)


def test_a_request_ends_its_connection_and_a_websocket_keeps_it() -> None:
    plain = asked(
        "POST / HTTP/1.1", f"Cookie: {COOKIE}", "Connection: keep-alive", "Content-Length: 5"
    )
    assert isinstance(plain, Pass)
    assert plain.body == 5
    assert plain.head.endswith(b"Connection: close\r\n\r\n") and b"keep-alive" not in plain.head
    upgraded = asked(
        "GET /ws HTTP/1.1", f"Cookie: {COOKIE}", "Connection: Upgrade", "Upgrade: websocket",
        f"Origin: http://{HOST}", "Sec-WebSocket-Key: abc",
    )  # fmt: skip
    assert isinstance(upgraded, Pass)
    assert upgraded.body is None
    assert b"Connection: Upgrade\r\n" in upgraded.head and b"Sec-WebSocket-Key" in upgraded.head


def test_another_upgrade_is_none() -> None:
    """Or a request would open its connection for any number of others."""
    verdict = asked("GET / HTTP/1.1", f"Cookie: {COOKIE}", "Connection: Upgrade", "Upgrade: h2c")
    assert isinstance(verdict, Pass)
    assert verdict.body == 0


def test_an_answer_is_told_to_end_its_connection() -> None:
    said = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nKeep-Alive: 5\r\nX: 1\r\n\r\n"
    assert closing(said) == b"HTTP/1.1 200 OK\r\nX: 1\r\nConnection: close\r\n\r\n"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("blank", ["\t", " ", "\t a"])
@pytest.mark.parametrize("end", ["\x01", ""])
def test_a_head_of_blanks_costs_no_time(blank: str, end: str) -> None:
    """A pattern with three ways to take a blank was busy for hours, before any secret."""
    verdict = asked("GET / HTTP/1.1", "X:" + blank * 20_000 + end)
    assert refused(verdict)


def test_blanks_around_a_value_are_not_part_of_it() -> None:
    assert passed(asked("GET / HTTP/1.1", f"Cookie:\t {COOKIE} \t", host=f" {HOST} "))
