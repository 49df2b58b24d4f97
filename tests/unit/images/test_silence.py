"""A build that says nothing is asked what it waits for."""

from __future__ import annotations

from remotedl.images.silence import Silence
from remotedl.images.wish import HostCapabilities
from remotedl.report import SILENT


class Told:
    def __init__(self) -> None:
        self.warnings: list[tuple[str, str]] = []

    stage, progress, note, output = SILENT.stage, SILENT.progress, SILENT.note, SILENT.output

    def warn(self, text: str, hint: str = "") -> None:
        self.warnings.append((text, hint))


class World:
    def __init__(self, host: HostCapabilities) -> None:
        self.now, self.told = 0.0, Told()
        self.build = Silence(self.told, host, lambda: self.now)


def test_a_minute_without_output_names_the_step_and_its_last_line_once() -> None:
    world = World(HostCapabilities())
    world.build.output("[stage-1 2/5] RUN apt-get update")
    world.build.output("Get:1 http://mirror.example.org bookworm")
    world.now = 59
    assert world.build.check(60) == 1 and world.told.warnings == []

    world.now = 61
    world.build.check(60)
    world.build.check(60)

    assert world.told.warnings == [
        ("no output for 61 s: [stage-1 2/5] RUN apt-get update is still at work; last line: "
         "Get:1 http://mirror.example.org bookworm", "")
    ]  # fmt: skip


def test_a_second_silence_is_told_again_and_bytes_that_move_are_none() -> None:
    world = World(HostCapabilities(small_packets=True))
    world.now = 60
    world.build.check(60)
    world.build.progress("base image", 1, 2)
    world.now = 119
    assert world.build.check(60) == 1
    world.now = 120
    world.build.check(60)

    assert [text for text, _ in world.told.warnings] == [
        "no output for 60 s: the build is still at work"
    ] * 2
    assert world.told.warnings[0][1].startswith("remotedl provision")
