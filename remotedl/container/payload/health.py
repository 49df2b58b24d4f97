"""Is the service behind the unix socket answering? `health.py SOCKET PATH`; exit status 0 or 1."""

from __future__ import annotations

import http.client
import socket
import sys


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket. No proxy is ever asked."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("127.0.0.1", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def answers(path: str, page: str) -> bool:
    """Whether a plain GET of `page` gets any answer below 500."""
    connection = Connection(path, 5)
    try:
        connection.request("GET", page)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers(sys.argv[1], sys.argv[2]) else 1)
