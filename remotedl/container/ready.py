"""Waiting until a service answers, through whatever dials to it. Knows HTTP just well enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from remotedl.errors import ContainerError, LinkLost, TunnelError
from remotedl.ssh.remote import Stream

Dial = Callable[[str], Stream]
"""To a unix socket of the host."""
POLL_S = 0.1
LIMIT_S = 300.0
"""The first start on a slow disk reads half a gigabyte of Python."""


class Clock(Protocol):
    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class _WallClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


WALL_CLOCK: Clock = _WallClock()


def wait_until_answers(
    dial: Dial,
    socket_path: str,
    page: str,
    *,
    still_there: Callable[[], str],
    log: Callable[[], str],
    clock: Clock = WALL_CLOCK,
    limit_s: float = LIMIT_S,
) -> None:
    """Until GET `page` at the host's unix socket is answered.

    `still_there` says why waiting makes no sense any more, or "". It is asked every second or so.
    Raises ContainerError with that reason, or after `limit_s` with the end of `log`.
    """
    began = asked = clock.monotonic()
    while not answers(dial, socket_path, page):
        now = clock.monotonic()
        if now - asked > 1:
            asked = now
            if reason := still_there():
                raise ContainerError(reason, hint="remotedl doctor")
        if now - began > limit_s:
            raise ContainerError(
                f"Jupyter has not answered within {limit_s:g} s; its log ends:\n{log().strip()}",
                hint="remotedl doctor",
            )
        clock.sleep(POLL_S)


def answers(dial: Dial, socket_path: str, page: str) -> bool:
    """Whether a plain GET gets any answer below 500. Raises LinkLost when it cannot dial."""
    try:
        stream = dial(socket_path)
    except TunnelError:
        return False
    try:
        request = f"GET {page} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        stream.sendall(request.encode())
        head = b""
        while b"\r\n" not in head and (more := stream.recv(1024)):
            head += more
    except LinkLost:
        # A service that is not up yet resets what it took. If the link itself has gone, the next
        # dial says so.
        return False
    finally:
        stream.close()
    words = head.split(b"\r\n", 1)[0].split()
    return (
        len(words) > 1
        and words[0].startswith(b"HTTP/")
        and words[1].isdigit()
        and (int(words[1]) < 500)
    )
