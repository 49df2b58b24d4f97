"""The link breaks, freezes, is slow: who notices, when, and what it looks like."""

from __future__ import annotations

import threading
import time

import pytest

from remotedl.errors import LinkLost, SshError
from remotedl.ssh.sessions import Sessions
from tests.lab.badlink import MakeBadLink, login_over
from tests.lab.sshd import MakeSshd, Sshd
from tests.lab_tests.ssh.door import open_door


def test_a_half_open_link_fails_the_ping_at_its_deadline(sshd: Sshd, bad_link: MakeBadLink) -> None:
    link = bad_link(sshd)
    remote = open_door(login_over(link, sshd))
    assert remote.ping(5) < 5
    link.freeze()
    began = time.monotonic()
    with pytest.raises(LinkLost, match=r"no answer for 0\.5 s"):
        remote.ping(0.5)
    assert 0.5 <= time.monotonic() - began < 2
    remote.close()
    assert time.monotonic() - began < 4


def test_a_link_that_thaws_answers_again(sshd: Sshd, bad_link: MakeBadLink) -> None:
    link = bad_link(sshd)
    remote = open_door(login_over(link, sshd))
    link.freeze()
    with pytest.raises(LinkLost):
        remote.ping(0.2)
    link.resume()
    assert remote.ping(5) < 5
    assert remote.run(["echo", "back"]).text == "back\n"
    remote.close()


def test_a_busy_slow_link_is_not_taken_for_a_lost_one(sshd: Sshd, bad_link: MakeBadLink) -> None:
    """1.5 MB/s with megabytes on their way before the answer: it is late, but bytes come in."""
    link = bad_link(sshd, bandwidth=1.5e6)
    remote = open_door(login_over(link, sshd))
    download = remote.start(["head", "-c", "4000000", "/dev/zero"])
    reader = threading.Thread(target=lambda: list(iter(lambda: download.recv(1 << 16), b"")))
    reader.start()
    _until(lambda: link.bytes_down > 400_000)
    deadline_s = 0.3
    assert remote.ping(deadline_s) > deadline_s
    reader.join()
    download.close()
    remote.close()


@pytest.mark.parametrize("how", ["cut", "kill"])
def test_a_link_that_ends_is_noticed_by_everything_on_it(
    make_sshd: MakeSshd, bad_link: MakeBadLink, how: str
) -> None:
    server = make_sshd()
    link = bad_link(server)
    remote = open_door(login_over(link, server))
    process = remote.start(["cat"])
    process.sendall(b"x")
    assert process.recv(10) == b"x"
    noticed: list[type] = []

    def use(call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except LinkLost as exc:
            noticed.append(type(exc))

    def read_on() -> None:
        while process.recv(1 << 16):
            pass

    def write_on() -> None:
        while True:
            process.sendall(bytes(1 << 20))

    uses = [read_on, process.wait, lambda: remote.run(["sleep", "60"]), write_on]
    threads = [threading.Thread(target=use, args=(call,)) for call in uses]
    for thread in threads:
        thread.start()
    link.cut() if how == "cut" else server.kill()
    for thread in threads:
        thread.join(10)
    assert noticed == [LinkLost] * len(uses)
    assert not remote.alive
    with pytest.raises(LinkLost):
        remote.ping(1)
    process.close()
    remote.close()


def test_no_thread_outlives_a_link_that_froze(sshd: Sshd, bad_link: MakeBadLink) -> None:
    link = bad_link(sshd)
    before = threading.active_count()
    remote = open_door(login_over(link, sshd))
    stuck = threading.Thread(target=lambda: _quietly(remote.run, ["cat"], stdin=bytes(64 << 20)))
    stuck.start()
    link.freeze()
    began = time.monotonic()
    remote.close()
    stuck.join(10)
    assert not stuck.is_alive()
    assert time.monotonic() - began < 8
    link.close()
    _until(lambda: threading.active_count() <= before)


def test_commands_that_stop_reading_do_not_end_the_connection(sshd: Sshd) -> None:
    """sshd ends the whole connection when data follows a channel's close."""
    remote = open_door(sshd.login)

    def feed_one_that_stops() -> None:
        for _ in range(15):
            process = remote.start(["head", "-c", "100000"])
            _quietly(process.sendall, bytes(8 << 20))
            process.close()

    threads = [threading.Thread(target=feed_one_that_stops) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert remote.run(["echo", "alive"]).text == "alive\n"
    remote.close()


def test_commands_beyond_the_hosts_limit_wait_for_their_turn(make_sshd: MakeSshd) -> None:
    remote = open_door(make_sshd(config=["MaxSessions 2"]).login)
    one, two = remote.start(["cat"]), remote.start(["cat"])
    done: list[str] = []
    third = threading.Thread(target=lambda: done.append(remote.run(["echo", "three"]).text))
    third.start()
    assert _echo(two) == b"still here"
    assert done == []
    one.close()
    third.join(10)
    assert done == ["three\n"]
    two.close()
    remote.close()


def test_when_no_turn_comes_the_limit_is_named(
    make_sshd: MakeSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = open_door(make_sshd(config=["MaxSessions 2"]).login)
    monkeypatch.setattr(remote, "_sessions", Sessions("box", wait_s=0.2))
    busy = [remote.start(["cat"]) for _ in range(2)]
    with pytest.raises(SshError, match="box lets no further command run") as caught:
        remote.run(["true"])
    assert "MaxSessions" in caught.value.hint
    assert _echo(busy[0]) == b"still here"
    for process in busy:
        process.close()
    assert remote.run(["echo", "again"]).text == "again\n"
    remote.close()


def test_a_host_with_too_few_sessions_is_refused_at_once(make_sshd: MakeSshd) -> None:
    """MaxSessions 1: a sync's agent would be all that runs there."""
    remote = open_door(make_sshd(config=["MaxSessions 1"]).login)
    began = time.monotonic()
    with pytest.raises(SshError, match=r"\(1 run\)") as caught:
        remote.check_sessions(2)
    assert time.monotonic() - began < 5
    assert "MaxSessions" in caught.value.hint
    remote.close()
    remote = open_door(make_sshd(config=["MaxSessions 2"]).login)
    for _ in range(3):
        remote.check_sessions(2)
    assert remote.run(["echo", "and on"]).text == "and on\n"
    remote.close()


def test_a_host_without_any_sessions_is_an_error_at_once(make_sshd: MakeSshd) -> None:
    remote = open_door(make_sshd(config=["MaxSessions 0"]).login)
    with pytest.raises(SshError, match="lets no further command run"):
        remote.run(["true"])
    remote.close()


def test_thousands_of_commands_leave_no_trace(sshd: Sshd) -> None:
    """Channels, their numbers and their memory come back."""
    remote = open_door(sshd.login)
    for _ in range(300):
        remote.run(["true"])
    table = remote._transport._channels
    _until(lambda: len(table) == 0)
    assert table.free_number() == 0
    remote.close()


def _echo(process: object) -> bytes:
    process.sendall(b"still here")  # type: ignore[attr-defined]
    got: bytes = process.recv(100)  # type: ignore[attr-defined]
    return got


def _quietly(call: object, *args: object, **options: object) -> None:
    try:
        call(*args, **options)  # type: ignore[operator]
    except SshError:
        pass


def _until(condition: object, limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)
