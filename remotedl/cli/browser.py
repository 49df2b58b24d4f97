"""Opens a page in the browser; its token stays out of every process list.

A browser is started with its address in argv, which other users of the laptop may read. So it gets
an address of our own that works once, for this user only, and leads on to the page.
"""

import http.server
import secrets
import threading
import time
from urllib.parse import urlsplit

import typer

from remotedl.tunnel import peer

PATIENCE_S = 20.0
LOOK_S = 0.1


def show_page(url: str, *, wait: bool = False) -> None:
    """`wait`: until the browser has come, for a process that ends right after."""
    if not urlsplit(url).query:
        typer.launch(url)
        return
    door = OneTimeDoor(url)
    if typer.launch(door.address) == 0 and wait:
        door.passed.wait(PATIENCE_S)


class OneTimeDoor:
    """An address on loopback that leads to `url`, once."""

    def __init__(self, url: str, own_uids: frozenset[int] | None = None) -> None:
        """`own_uids`: who may come in (default: this user, and root, who sees all anyway)."""
        self.passed = threading.Event()
        self._left = [url]
        self._uids = own_uids if own_uids is not None else peer.own_uids()
        self._key = secrets.token_urlsafe(24)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/{self._key}"
        threading.Thread(target=self._serve, name="browser door", daemon=True).start()

    def _serve(self) -> None:
        self._server.timeout = LOOK_S
        until = time.monotonic() + PATIENCE_S
        while not self.passed.is_set() and time.monotonic() < until:
            self._server.handle_request()
        self._server.server_close()

    def _lead(self, path: str, port: int) -> str | None:
        """The page, for the first who has the key and is ours."""
        known = secrets.compare_digest(path.encode(), f"/{self._key}".encode())
        if not known or not self._ours(port):
            return None
        try:
            return self._left.pop()
        except IndexError:
            return None

    def _ours(self, port: int) -> bool:
        return not self._uids or peer.uid_of(port, self._server.server_port) in self._uids

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        door = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """Leads on, or says that there is nothing."""

            def do_GET(self) -> None:
                there = door._lead(self.path, self.client_address[1])
                self.send_response(404 if there is None else 303)
                if there is not None:
                    self.send_header("Location", there)
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                self.send_header("Content-Length", "0")
                self.end_headers()
                if there is not None:
                    door.passed.set()  # not before it is on its way: our process may end then

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        return Handler
