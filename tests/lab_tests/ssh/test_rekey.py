"""New keys in mid-transfer: either side may want them at any moment, and nothing stalls.

paramiko alone fails here: its reader thread answers a channel's close by waiting for the end of
the key exchange that it should be carrying out ("Key-exchange timed out").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from remotedl.ssh.connection import Connection
from remotedl.ssh.packets import Packetizer
from tests.lab.sshd import MakeSshd
from tests.lab_tests.ssh.door import open_door

MB = 1 << 20


def up(remote: Connection, size: int) -> None:
    result = remote.run(["sh", "-c", "wc -c"], stdin=bytes(size))
    assert int(result.text) == size


def down(remote: Connection, size: int) -> None:
    process = remote.start(["head", "-c", str(size), "/dev/zero"])
    assert sum(map(len, iter(lambda: process.recv(MB), b""))) == size
    assert process.wait(10) == 0
    process.close()


def commands(remote: Connection, count: int) -> None:
    for number in range(count):
        assert remote.run(["echo", str(number)]).text == f"{number}\n"
        assert remote.ping(30) < 30


def at_once(*works: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("wanted_by", ["laptop", "host", "both"])
def test_new_keys_all_the_time(
    make_sshd: MakeSshd, monkeypatch: pytest.MonkeyPatch, wanted_by: str
) -> None:
    if wanted_by != "host":
        monkeypatch.setattr(Packetizer, "REKEY_BYTES", MB)
    config = ["RekeyLimit 16M"] if wanted_by != "laptop" else []
    remote = open_door(make_sshd(config=config).login)
    exchanges = _count_exchanges(remote, monkeypatch)
    up(remote, 48 * MB)
    down(remote, 48 * MB)
    at_once(
        lambda: up(remote, 48 * MB), lambda: down(remote, 48 * MB), lambda: commands(remote, 40)
    )
    assert len(exchanges) > 5
    remote.close()


@pytest.mark.slow
def test_half_a_gigabyte_up_and_then_down(
    make_sshd: MakeSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paramiko's own threshold of 512 MiB, passed in each direction on one connection."""
    monkeypatch.setattr(Packetizer, "REKEY_BYTES", 512 * MB)
    remote = open_door(make_sshd().login)
    exchanges = _count_exchanges(remote, monkeypatch)
    began = time.monotonic()
    up(remote, 520 * MB)
    down(remote, 520 * MB)
    assert len(exchanges) >= 2
    assert time.monotonic() - began < 50
    remote.close()


def _count_exchanges(remote: Connection, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    transport = remote._transport
    plain = transport._activate_inbound  # type: ignore[attr-defined]
    seen: list[float] = []

    def counting() -> None:
        seen.append(time.monotonic())
        plain()

    monkeypatch.setattr(transport, "_activate_inbound", counting)
    return seen
