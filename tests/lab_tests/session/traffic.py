"""What goes on through a session while its link breaks, and what is counted of its process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import psutil
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.lab_tests.session.host_double import PERIOD, SIZE, content

PAUSE_S = 0.1
CALM_S = 6.0
"""Longer than an idle thread of a tunnel waits for more work."""
PATIENCE_S = 4.0
"""A client of its own: it does not wait for ever on a connection that says nothing."""


class Download(threading.Thread):
    """Fetches the file over and over, going on where a connection broke; checks each byte."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        self._place, self._path = parts.netloc, f"/?{parts.query}"
        self._end = threading.Event()
        self.whole = 0
        """Files that came whole."""
        self.broken = 0
        self.wrong = ""

    def run(self) -> None:
        while not (self._end.is_set() or self.wrong):
            at = 0
            while at < SIZE and not (self._end.is_set() or self.wrong):
                try:
                    at = self._fetch(at)
                except (OSError, HTTPException):
                    self.broken += 1
                    self._end.wait(PAUSE_S)
            self.whole += at == SIZE

    def stop(self) -> None:
        self._end.set()
        self.join(2 * PATIENCE_S)
        assert not self.wrong, self.wrong

    def _fetch(self, at: int) -> int:
        client = HTTPConnection(self._place, timeout=PATIENCE_S)
        with contextlib.closing(client):
            client.request("GET", self._path, headers={"Range": f"bytes={at}-"})
            reply = client.getresponse()
            if reply.status != 206:
                raise HTTPException(f"status {reply.status}")
            try:
                while not self._end.is_set() and (data := reply.read1(1 << 16)):
                    if data != content(at, at + len(data)):
                        self.wrong = f"other bytes than the file's at {at}"
                    at += len(data)
            except (OSError, HTTPException):
                self.broken += 1
        return at


class Chat(threading.Thread):
    """A websocket client that sends, waits for its echo, and comes back when it is cut off."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._url = f"ws://127.0.0.1:{port}/"
        self._end = threading.Event()
        self.echoes = 0
        self.connections = 0

    def run(self) -> None:
        while not self._end.is_set():
            try:
                with connect(self._url, open_timeout=PATIENCE_S, close_timeout=1) as client:
                    self.connections += 1
                    while not self._end.wait(0.02):
                        client.send(f"{self.echoes}")
                        assert client.recv(PATIENCE_S) == f"{self.echoes}"
                        self.echoes += 1
            except (OSError, WebSocketException):
                self._end.wait(PAUSE_S)

    def stop(self) -> None:
        self._end.set()
        self.join(2 * PATIENCE_S)


@contextlib.contextmanager
def traffic(files: str, chat: int) -> Iterator[tuple[Download, Chat]]:
    """Both clients for as long as the block runs; fails where a byte was wrong."""
    download, talk = Download(files), Chat(chat)
    download.start()
    talk.start()
    try:
        yield download, talk
    finally:
        talk.stop()
        download.stop()


@dataclass(frozen=True)
class Counted:
    """What a process holds, itself and the ssh that it started."""

    threads: int
    descriptors: int
    children: int
    memory: int = field(compare=False)
    """Bytes."""

    def fits(self, before: Counted) -> bool:
        """Whether it is no more than before."""
        mine = self.threads, self.descriptors, self.children
        return all(
            now <= then
            for now, then in zip(
                mine, (before.threads, before.descriptors, before.children), strict=True
            )
        )


def count(pid: int) -> Counted:
    process = psutil.Process(pid)
    return Counted(
        process.num_threads(),
        process.num_fds(),
        len(process.children(recursive=True)),
        process.memory_info().rss,
    )


def settled(pid: int) -> Counted:
    """What it holds once idle threads have gone: no more comes or goes for a while."""
    deadline = time.monotonic() + 4 * CALM_S
    last, since = count(pid), time.monotonic()
    while time.monotonic() - since < CALM_S and time.monotonic() < deadline:
        time.sleep(0.25)
        now = count(pid)
        if now != last:
            last, since = now, time.monotonic()
    return last


def answers(port: int) -> bool:
    """Whether somebody listens there; nothing is said."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


assert SIZE % PERIOD, "a file of whole periods would look right when it starts anew"
