"""Stands in for the services of a native runtime: a page, a websocket echo, files with ranges.

Named `supervisord` in a venv that only looks like one, so that a whole `remotedl up` on a real sshd
costs two seconds. What is Jupyter's own (kernels) is tested with the real venv. It answers on the
ports of ports.json in the folder that it is started in, as the real services do.
"""

from __future__ import annotations

import http.server
import json
import re
import signal
import sys
import threading
from http import HTTPStatus
from pathlib import Path

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

JUPYTER, FILES = "8888", "6006"
SIZE = 40_000_000
"""Of the file that is downloaded."""
PERIOD = 251


def content(start: int, end: int) -> bytes:
    """Bytes of the file, each told by its place: what is lost, doubled or moved is seen."""
    pattern = bytes(range(PERIOD))
    first = start % PERIOD
    return (pattern * ((end - start) // PERIOD + 2))[first : first + end - start]


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def page(connection: ServerConnection, request: Request) -> Response | None:
    if "upgrade" in request.headers.get("Connection", "").lower():
        return None
    headers = Headers({"Content-Type": "application/json", "Content-Length": "2"})
    return Response(HTTPStatus.OK, "OK", headers, b"{}")


class Files(http.server.BaseHTTPRequestHandler):
    """GET with `Range: bytes=N-`."""

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
        start = int(asked[1]) if asked else 0
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Length", str(SIZE - start))
        self.end_headers()
        for at in range(start, SIZE, 1 << 18):
            self.wfile.write(content(at, min(at + (1 << 18), SIZE)))

    def log_message(self, *_: object) -> None: ...


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None: ...


def main() -> None:
    ports = json.loads(Path("ports.json").read_text(encoding="utf-8"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    if FILES in ports:
        files = Server(("127.0.0.1", ports[FILES]), Files)
        threading.Thread(target=files.serve_forever, daemon=True).start()
    if JUPYTER in ports:
        with serve(echo, "127.0.0.1", ports[JUPYTER], process_request=page) as server:
            server.serve_forever()
    signal.pause()


if __name__ == "__main__":
    main()
