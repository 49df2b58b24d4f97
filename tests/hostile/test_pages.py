"""Pages in the user's browser that are not TensorBoard's: what they get of it. A real Chromium.

Attackers: a page of another site (a name that was bound to 127.0.0.1 among them), a page of another
port of this laptop, which the browser takes for the same site and sends the cookie along.
"""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from remotedl.cli.browser import OneTimeDoor
from remotedl.tunnel import TcpPlace, Tunnel, TunnelWish
from remotedl.tunnel.entrance import Dial
from remotedl.tunnel.gate import Door, link
from remotedl.tunnel.gated import GatedEntrance
from remotedl.tunnel.tunnel import start_tunnel
from tests.support.local_remote import LocalRemote

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium"),
]

SECRET = "5e" * 32
PAGE = """<!doctype html><title>board</title><script src="/app.js"></script>
<p id="said"></p>"""
APP = """fetch('/data', {method: 'POST', body: 'x'}).then(r => r.text()).then(t =>
document.getElementById('said').textContent = t)"""
EVIL = """<!doctype html><title>evil</title>
<script>window.got = []; onerror = () => {}</script>
<script src="http://127.0.0.1:%(port)d/app.js" onload="got.push('script')"></script>
<img src="http://127.0.0.1:%(port)d/image" onload="got.push('image')">
<script>
fetch('http://127.0.0.1:%(port)d/data', {credentials: 'include', mode: 'no-cors'})
  .then(() => fetch('http://127.0.0.1:%(port)d/data', {method: 'POST', body: 'evil',
     credentials: 'include', mode: 'no-cors'}))
  .then(() => { window.done = true })
</script>"""


class Board(http.server.BaseHTTPRequestHandler):
    """What stands for TensorBoard: counts what reached it."""

    seen: ClassVar[list[str]] = []
    cookies: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._say(APP if self.path == "/app.js" else PAGE)

    def do_POST(self) -> None:
        self._say("answer to " + self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _say(self, text: str) -> None:
        self.seen.append(f"{self.command} {self.path}")
        self.cookies.append(self.headers.get("Cookie", ""))
        kind = "text/javascript" if self.path == "/app.js" else "text/html"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def gated() -> Iterator[Tunnel[Dial]]:
    Board.seen, Board.cookies = [], []
    wish = TunnelWish("TensorBoard", TcpPlace(None, 0), "box", private=True)
    entrance = GatedEntrance(Door("TensorBoard", SECRET, "remotedl open tensorboard"), "box")
    remote = LocalRemote()
    with (
        serving(Board) as port,
        start_tunnel(wish, entrance, lambda: remote.dial("127.0.0.1", port)) as tunnel,
    ):
        yield tunnel
    remote.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    """One profile, as a person has it. evil.example was bound to this laptop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--host-resolver-rules=MAP *.example 127.0.0.1"],
        )
        yield chromium.new_context()
        chromium.close()


def opened(browser: Any, tunnel: Tunnel[Dial]) -> Any:
    """As `remotedl open` does it."""
    page = browser.new_page()
    page.goto(OneTimeDoor(link(f"http://127.0.0.1:{tunnel.port}/", SECRET)).address)
    return page


def test_the_opened_link_shows_the_page_and_its_own_requests_pass(
    browser: Any, gated: Tunnel[Dial]
) -> None:
    page = opened(browser, gated)
    page.wait_for_function("document.getElementById('said').textContent == 'answer to x'")
    assert page.url == f"http://127.0.0.1:{gated.port}/", "the secret is not in the address"
    assert page.evaluate("document.cookie") == ""
    page.reload()
    assert page.title() == "board"
    assert SECRET not in "".join(Board.cookies)


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "evil.example"], ids=["another port", "another site"]
)
def test_other_pages_get_nothing_though_the_browser_has_the_cookie(
    browser: Any, gated: Tunnel[Dial], name: str
) -> None:
    opened(browser, gated).wait_for_function("document.getElementById('said').textContent")
    before = list(Board.seen)

    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = (EVIL % {"port": gated.port}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    with serving(Evil) as port:
        page = browser.new_page()
        page.goto(f"http://{name}:{port}/")
        page.wait_for_function("window.done")
        assert page.evaluate("window.got") == []
    assert Board.seen == before


def test_a_foreign_name_that_leads_here_gets_nothing(browser: Any, gated: Tunnel[Dial]) -> None:
    """DNS rebinding: to the browser it is a page of evil.example, whose scripts read it all."""
    page = browser.new_page()
    answer = page.goto(f"http://evil.example:{gated.port}/?remotedl_token={SECRET}")
    assert answer.status == 421
    assert "board" not in page.title()
    assert Board.seen == []


def test_a_link_from_another_site_does_not_open_it(browser: Any, gated: Tunnel[Dial]) -> None:
    """It would be shown without harm; without its cookie the gate says how to open it."""

    class Linking(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = f'<a href="http://127.0.0.1:{gated.port}/">board</a>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    opened(browser, gated)
    with serving(Linking) as port:
        page = browser.new_page()
        page.goto(f"http://blog.example:{port}/")
        page.click("a")
        page.wait_for_url(f"http://127.0.0.1:{gated.port}/")
        assert "remotedl open tensorboard" in page.content()
