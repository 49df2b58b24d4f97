"""The browser's way to a page: an address that works once, for us, and holds no token."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from remotedl.cli.browser import OneTimeDoor, show_page

VISIT = (
    "import sys, http.client, urllib.parse; p = urllib.parse.urlsplit(sys.argv[1]); "
    "c = http.client.HTTPConnection(p.hostname, p.port); c.request('GET', p.path); c.getresponse()"
)
PAGE = "http://127.0.0.1:8888/lab?token=secret"


def get(address: str) -> tuple[int, str | None]:
    parts = urlsplit(address)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    link.request("GET", parts.path)
    reply = link.getresponse()
    reply.read()
    link.close()
    return reply.status, reply.getheader("Location")


def test_it_leads_to_the_page_once() -> None:
    door = OneTimeDoor(PAGE)
    assert "secret" not in door.address
    assert get(door.address.rsplit("/", 1)[0] + "/guess") == (404, None)
    assert get(door.address) == (303, PAGE)
    assert door.passed.wait(10)
    with pytest.raises(OSError):  # nobody listens there any more
        while True:
            assert get(door.address) == (404, None)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system does not tell who")
def test_another_user_does_not_get_in() -> None:
    door = OneTimeDoor(PAGE, frozenset({os.getuid() + 1}))
    assert get(door.address) == (404, None)
    assert not door.passed.is_set()
    ours = OneTimeDoor(PAGE, frozenset({os.getuid()}))
    assert get(ours.address) == (303, PAGE)


def test_what_is_started_has_no_token_in_its_argv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" >>{seen}\nexec {sys.executable} -c "{VISIT}" "$@"\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "xdg-open").symlink_to(browser)
    show_page(PAGE, wait=True)
    assert seen.read_text().startswith("http://127.0.0.1:")
    assert "secret" not in seen.read_text()
