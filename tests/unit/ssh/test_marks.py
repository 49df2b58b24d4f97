"""Where a command's own output begins."""

from __future__ import annotations

import pytest

from remotedl.ssh.marks import StartFinder

MARK = b"\x1eremotedl:4711 \x1e"


def test_what_comes_before_the_mark_is_noise() -> None:
    finder = StartFinder()
    assert finder.feed(b"Welcome!\n" + MARK + b"own") == b"own"
    assert (finder.noise, finder.pid, finder.started) == (b"Welcome!\n", 4711, True)


def test_after_the_mark_all_is_the_commands_own() -> None:
    finder = StartFinder()
    finder.feed(MARK)
    assert finder.feed(MARK) == MARK


@pytest.mark.parametrize("cut", range(len(b"noise" + MARK + b"own") + 1))
def test_a_mark_may_come_in_two_pieces(cut: int) -> None:
    data = b"noise" + MARK + b"own"
    finder = StartFinder()
    assert finder.feed(data[:cut]) + finder.feed(data[cut:]) == b"own"


def test_sudos_questions_are_counted_and_are_no_noise() -> None:
    finder = StartFinder()
    finder.feed(b"lecture\n\x1eremot")
    finder.feed(b"edl? \x1eSorry, try again.\n\x1eremotedl? \x1e")
    assert finder.prompts == 2
    assert finder.noise == b"lecture\nSorry, try again.\n"
    assert not finder.started


@pytest.mark.parametrize(
    ("noise", "count"),
    [(b"Lecture.\nToken code: ", 1), (b"Last login:\n", 0), (b"Welcome", 0), (b"", 0)],
)
def test_a_question_in_other_words_is_known_by_its_colon(noise: bytes, count: int) -> None:
    finder = StartFinder()
    finder.feed(noise)
    finder.take_for_prompt()
    finder.take_for_prompt()
    assert finder.prompts == count


def test_endless_noise_is_not_kept() -> None:
    finder = StartFinder()
    for _ in range(5):
        finder.feed(bytes(1 << 20))
    assert len(finder.noise) == 1 << 20
