"""How HTTP is recognised, and the page that is answered while there is no link."""

from __future__ import annotations

import pytest

from remotedl.tunnel.refusal import is_http, not_answering, reconnecting


@pytest.mark.parametrize(
    ("start", "http"),
    [
        (b"GET / HTTP/1.1\r\n", True),
        (b"OPTIONS * HTTP/1.1", True),
        (b"", None),
        (b"GE", None),
        (b"GET ", None),
        (b"OPTIONS ", None),
        (b"SSH-2.0-x", False),
        (b"\x16\x03\x01\x02\x00", False),
        (b"GETTING", False),
    ],
)
def test_http_is_recognised_by_its_first_bytes(start: bytes, http: bool | None) -> None:
    assert is_http(start) is http


def test_the_page_is_a_whole_answer() -> None:
    head, _, body = reconnecting("Jupyter", "box").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 2\r\n" in head
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
    assert b"remotedl is reconnecting to box" in body


def test_the_page_needs_nothing_else() -> None:
    page = reconnecting("Jupyter", "box")
    assert b"src=" not in page
    assert b"href=" not in page


def test_names_are_escaped() -> None:
    page = not_answering("<b>", "a&b", "<script>")
    assert b"<script>" not in page
    assert b"a&amp;b" in page
