"""Work beside a block ends with the block, also where Ctrl-C comes while it starts."""

from __future__ import annotations

import threading

import pytest

from remotedl.session.beside import beside


class Work:
    """Goes on until told to stop."""

    def __init__(self) -> None:
        self.ended = False

    def __call__(self, stop: threading.Event) -> None:
        assert stop.wait(10)
        self.ended = True


def test_it_is_told_to_stop_and_waited_for() -> None:
    work = Work()
    with beside("work", work) as stop:
        assert not stop.is_set() and not work.ended
    assert work.ended


def test_a_failure_of_the_block_ends_it_too() -> None:
    work = Work()
    with pytest.raises(ValueError, match="of the block"), beside("work", work):
        raise ValueError("of the block")
    assert work.ended


def test_ctrl_c_in_the_middle_of_its_start_leaves_nothing_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    work = Work()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt), beside("work", work):
            pytest.fail("the block is not entered")
    assert work.ended


def test_a_failure_of_the_work_ends_the_block_and_is_raised() -> None:
    def broken(stop: threading.Event) -> None:
        raise TimeoutError("nobody expected this")

    with pytest.raises(TimeoutError, match="nobody expected"), beside("work", broken) as stop:
        assert stop.wait(10), "the block is told, and does not go on alone"
