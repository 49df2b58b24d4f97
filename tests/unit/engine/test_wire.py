"""The wire between requests and a stream, with streams that are lists of bytes."""

from __future__ import annotations

import threading

import pytest

from remotedl.engine.wire import READ_AHEAD, HungUp, Plug
from remotedl.errors import LinkLost


class Script:
    """A stream that gives what it was told, then ends, fails, or stays silent."""

    def __init__(self, *chunks: bytes, then: str = "end", stderr: bytes = b"") -> None:
        self.chunks = list(chunks)
        self.then = then
        self.stderr = stderr
        self.sent = b""
        self.closed = threading.Event()
        self.write_ended = False
        self.refuse_writes = False

    def recv(self, size: int) -> bytes:
        if self.chunks:
            return self.chunks.pop(0)
        if self.then == "lost":
            raise LinkLost("the link is gone")
        if self.then == "silent":
            self.closed.wait(10)
        return b""

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        if self.refuse_writes:
            raise LinkLost("closed while writing")
        self.sent += bytes(data)

    def shutdown_write(self) -> None:
        self.write_ended = True

    def close(self) -> None:
        self.closed.set()

    def recv_stderr(self, size: int) -> bytes:
        said, self.stderr = self.stderr[:size], self.stderr[size:]
        return said


def test_what_was_sent_is_read_in_order_then_the_end() -> None:
    plug = Plug(Script(b"abc", b"def"))
    assert plug.recv(2) == b"ab"
    assert plug.recv_exactly(4) == b"cdef"
    assert plug.recv(10) == b""


def test_a_read_gives_up_after_its_deadline() -> None:
    plug = Plug(Script(then="silent"))
    plug.settimeout(0.01)
    with pytest.raises(TimeoutError):
        plug.recv(1)
    plug.close()


def test_a_lost_link_is_raised_after_what_came_before_it() -> None:
    plug = Plug(Script(b"last words", then="lost"))
    assert plug.recv(100) == b"last words"
    with pytest.raises(LinkLost):
        plug.recv(1)


def test_it_knows_that_the_other_side_hung_up_before_anything_is_read() -> None:
    stream = Script(b"x")
    plug = Plug(stream)
    file = plug.makefile("rb")
    assert file.read() == b"x"
    assert plug.hung_up


def test_closing_waits_for_the_last_file() -> None:
    stream = Script(b"body")
    plug = Plug(stream)
    file = plug.makefile("rb")
    plug.close()
    assert not stream.closed.is_set()
    assert file.read() == b"body"
    file.close()
    assert stream.closed.is_set()


def test_a_refused_write_after_an_answer_is_a_broken_pipe() -> None:
    stream = Script(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    plug = Plug(stream)
    assert plug.recv(4) == b"HTTP"
    with plug._news:
        plug._news.wait_for(lambda: plug._ended, 5)
    stream.refuse_writes = True
    with pytest.raises(BrokenPipeError):
        plug.sendall(b"more")


def test_a_refused_write_of_a_lost_link_stays_one() -> None:
    stream = Script(then="lost")
    plug = Plug(stream)
    with pytest.raises(LinkLost):
        plug.recv(1)
    stream.refuse_writes = True
    with pytest.raises(LinkLost):
        plug.sendall(b"more")


def test_reading_ahead_stops_when_nobody_reads() -> None:
    stream = Script(*[b"x" * 65536] * 1000)
    plug = Plug(stream)
    assert plug.recv(1) == b"x"
    with plug._news:
        plug._news.wait_for(lambda: plug._held >= READ_AHEAD, 5)
    assert plug._held <= READ_AHEAD + 65536
    assert stream.chunks
    plug.close()


def test_the_complaint_of_a_process_that_ended() -> None:
    plug = Plug(Script(stderr=b"permission denied\n"))
    assert plug.recv(1) == b""
    assert plug.complaint() == "permission denied"


def test_hanging_up_without_a_word_says_so() -> None:
    assert "ended without an answer" in str(HungUp(""))
