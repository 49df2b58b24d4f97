"""Stands in for the services of a native runtime: a page, a websocket echo, files with ranges.

Named `supervisord` in a venv that only looks like one, so that a whole `remotedl up` on a real sshd
costs two seconds. What is Jupyter's own (kernels) is tested with the real venv. It answers on the
unix sockets that the real services have, and runs the real door.py for further ports.
"""

from __future__ import annotations

import http.server
import json
import re
import signal
import socketserver
import subprocess
import sys
import threading
from http import HTTPStatus
from pathlib import Path

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, unix_serve

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


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None: ...


def main() -> None:
    services = json.loads(Path("services.json").read_text(encoding="utf-8"))
    folder = Path(json.loads(Path("sockets.json").read_text(encoding="utf-8"))["folder"])
    folder.mkdir(mode=0o700, exist_ok=True)
    door = subprocess.Popen([sys.executable, "door.py", "doors.json", str(folder)])

    def end(*_: object) -> None:
        door.kill()
        door.wait()
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    if "tensorboard" in services:
        files = Server(fresh(folder / FILES), Files)
        threading.Thread(target=files.serve_forever, daemon=True).start()
    if "jupyter" in services:
        with unix_serve(echo, fresh(folder / JUPYTER), process_request=page) as server:
            server.serve_forever()
    signal.pause()


def fresh(path: Path) -> str:
    path.unlink(missing_ok=True)
    return str(path)


if __name__ == "__main__":
    main()
