"""Is the service on PORT of this machine answering? `health.py PORT PATH`; exit status 0 or 1."""

from __future__ import annotations

import http.client
import sys


def answers(port: int, path: str) -> bool:
    """Whether a plain GET of `path` gets any answer below 500. No proxy is ever asked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers(int(sys.argv[1]), sys.argv[2]) else 1)
