"""What the live view says of GPUs: one line each, with their load over the last minutes."""

from __future__ import annotations

from remotedl.session.watching import LOADS_KEPT, gpu_lines, remembered, sparkline

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
