"""What the live view says of GPUs: one line each, with their load over the last minutes.

And that nobody waits for an nvidia-smi that hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from remotedl.errors import RemoteTimeout
from remotedl.session import gpu_watch
from remotedl.session.gpu_watch import (
    LOADS_KEPT,
    SLOW_S,
    GpuWatch,
    gpu_lines,
    remembered,
    sparkline,
)
from remotedl.ssh.remote import Result

CSV = "0, H100, {}, 2048, 81920\n1, H100, [N/A], [N/A], [N/A]\n"


def test_the_load_of_the_last_minutes_is_drawn() -> None:
    loads = remembered(remembered({}, CSV.format(0)), CSV.format(100))
    assert loads == {"0": (0, 100), "1": (0, 0)}
    first, second = gpu_lines(CSV.format(100), loads)
    assert first == "0 H100  ▁█ 100 %  2.0 of 80 GiB"
    assert "memory not told" in second


def test_no_more_than_the_last_minutes() -> None:
    loads: dict[str, tuple[int, ...]] = {"0": tuple(range(LOADS_KEPT))}
    assert remembered(loads, CSV.format(50))["0"] == (*range(1, LOADS_KEPT), 50)
    assert sparkline((0, 49, 50, 99, 100)) == "▁▄▄▇█"


def test_a_bar_shows_the_highest_load_of_its_time() -> None:
    loads = remembered({"0": (10, 90)}, "0, H100, 30, 1, 2\n", another=False)
    assert loads == {"0": (10, 90)}
    loads = remembered({"0": (10, 30)}, "0, H100, 90, 1, 2\n", another=False)
    assert loads == {"0": (10, 90)}


class HostDouble:
    """Answers nvidia-smi when the test lets it; stands in for a host with a GPU."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.load: int | Exception = 0

    def run(self, argv: list[str], **_: Any) -> Result:
        self.asked.release()
        assert self.may_answer.wait(10)
        if isinstance(self.load, Exception):
            raise self.load
        return Result(tuple(argv), 0, CSV.format(self.load).encode(), b"")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def host() -> HostDouble:
    return HostDouble()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gpus(host: HostDouble, clock: Clock) -> Iterator[GpuWatch]:
    watch = GpuWatch(host, "nvidia-smi", clock)  # type: ignore[arg-type]
    watch.start()
    yield watch
    host.may_answer.set()
    watch.stop()


def test_nobody_waits_for_an_nvidia_smi_that_hangs(
    gpus: GpuWatch, host: HostDouble, clock: Clock
) -> None:
    assert host.asked.acquire(timeout=10)
    assert gpus.look() == ()
    clock.now += SLOW_S + 5
    assert gpus.look() == ("nvidia-smi has not answered for 15 s",)
    host.may_answer.set()
    assert gpus.look(10)[0].startswith("0 H100")


def test_a_time_out_is_told_and_the_next_sample_tried(
    gpus: GpuWatch, host: HostDouble, clock: Clock
) -> None:
    host.load = RemoteTimeout("h: nvidia-smi did not end in 60 s")
    host.may_answer.set()
    assert gpus.look(10) == ("nvidia-smi: h: nvidia-smi did not end in 60 s",)
    host.load = ValueError("no such thing")
    clock.now += gpu_watch.EVERY_S
    assert gpus.look(10) == ("nvidia-smi: internal error: ValueError: no such thing",)
    host.load = 7
    clock.now += gpu_watch.EVERY_S
    assert "7 %" in gpus.look(10)[0]


def test_while_somebody_looks_a_sample_is_two_seconds_old_at_most(
    gpus: GpuWatch, host: HostDouble, clock: Clock
) -> None:
    host.may_answer.set()
    gpus.look(10)
    host.load = 98
    clock.now += gpu_watch.LOOKED_AT_EVERY_S + 0.1
    assert "98 %" in gpus.look(10)[0]
