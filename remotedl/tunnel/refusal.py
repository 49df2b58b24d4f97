"""What a client hears that cannot be connected: a 503 page for HTTP, nothing for the rest. Pure."""

from __future__ import annotations

import html
import re

RETRY_AFTER_S = 2
HTTP_START = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) \S")
OF_A_PAGE = re.compile(
    rb"\r\n(?:upgrade: *websocket|sec-fetch-mode: *(?!navigate)[a-z-]+) *\r\n", re.IGNORECASE
)
LONGEST_METHOD = len(b"OPTIONS ")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{refresh}
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 20vh auto; max-width: 34em; padding: 0 1em;
       color: #222; background: #fff }}
@media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #1b1b1b }} }}
</style></head>
<body><h1>{title}</h1><p>{text}</p>{again}</body></html>
"""
REFRESH = f'<meta http-equiv="refresh" content="{RETRY_AFTER_S}">'
AGAIN = f"<p>This page tries again every {RETRY_AFTER_S} seconds.</p>"


def is_http(start: bytes) -> bool | None:
    """Whether a connection that starts like this speaks HTTP; None: too little to tell."""
    if HTTP_START.match(start):
        return True
    methods = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
    could_be = len(start) <= LONGEST_METHOD and any(m.startswith(start[: len(m)]) for m in methods)
    return None if could_be else False


def is_of_a_page(head: bytes) -> bool:
    """Whether a request is a browser's that no person made: what a page fetches, a websocket."""
    return bool(is_http(head) and OF_A_PAGE.search(head))


def unavailable(title: str, text: str) -> bytes:
    """A whole HTTP/1.1 503 answer with a page of its own that names no other resource."""
    return page("503 Service Unavailable", title, text, retry=True)


def page(status: str, title: str, text: str, *, retry: bool = False) -> bytes:
    """A whole answer of HTTP/1.1, for people; `retry`: it comes back by itself."""
    body = PAGE.format(
        title=html.escape(title),
        text=html.escape(text),
        refresh=REFRESH if retry else "",
        again=AGAIN if retry else "",
    ).encode()
    lines = [f"HTTP/1.1 {status}"]
    if retry:
        lines.append(f"Retry-After: {RETRY_AFTER_S}")
    lines += [
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def reconnecting(name: str, host: str) -> bytes:
    """The page while there is no link to `host`."""
    return unavailable(
        f"remotedl is reconnecting to {host}",
        f"The link to {host} is gone at the moment. {name} comes back by itself, "
        "at this address, as soon as the host can be reached.",
    )


def not_answering(name: str, host: str, reason: str) -> bytes:
    """The page while the link stands and nothing answers at its far end."""
    return unavailable(
        f"{name} does not answer on {host}",
        f"remotedl is connected to {host}, but {name} does not accept connections there "
        f"({reason}). It may be starting.",
    )
