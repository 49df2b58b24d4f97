"""What to type where the host refuses to listen."""

from __future__ import annotations

import pytest

from remotedl.tunnel.forward import parse_forward
from remotedl.tunnel.reverse import another_place


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        ("5000", "5001:127.0.0.1:5000"),
        ("80:3000", "8080:127.0.0.1:3000"),
        ("0.0.0.0:5000:3000", "0.0.0.0:5001:127.0.0.1:3000"),
        ("[::1]:65535:3000", "[::1]:65534:127.0.0.1:3000"),
        ("/tmp/x.sock:3000", "/tmp/x.sock.2:127.0.0.1:3000"),
    ],
)
def test_another_place_that_can_be_typed(asked: str, other: str) -> None:
    hint = another_place(parse_forward(asked, "-R"))
    assert hint == f"remotedl tunnel -R {other}"
    parse_forward(hint.rpartition(" ")[2], "-R")
