"""Two projects that want the same image of one host at once: it is built once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from remotedl.config.models import LocalImage
from remotedl.engine import Engine
from remotedl.images import ImageRef, ImageWish
from remotedl.images.lock import one_build
from tests.lab_tests.images.conftest import OURS, Place, Told
from tests.support.local_remote import LocalRemote

Project = Callable[[dict[str, str]], Path]
TAG = "remotedl/base:0123456789ab"


class Waiting(Told):
    """Says when it has been told that somebody else is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def note(self, text: str) -> None:
        super().note(text)
        self.waits.set()


def second_in_line(remote: LocalRemote, told: Told, got: list[bool]) -> threading.Thread:
    def wait() -> None:
        with one_build(remote, TAG, "base", told) as waited:
            got.append(waited)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_second_waits_until_the_first_is_done(tmp_path: Path) -> None:
    told, got = Waiting(), list[bool]()
    with one_build(LocalRemote(tmp_path), TAG, "base", Told()) as waited:
        assert not waited
        thread = second_in_line(LocalRemote(tmp_path), told, got)
        assert told.waits.wait(20)
        with one_build(LocalRemote(tmp_path), "remotedl/other:1", "other", Told()) as other:
            assert not other, "another image is another lock"
        assert got == []
    thread.join(20)
    assert got == [True]
    assert told.notes == ["another remotedl makes base on the host: waiting until it is done"]


def test_a_laptop_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    gone, told, got = LocalRemote(tmp_path), Waiting(), list[bool]()
    with one_build(gone, TAG, "base", Told()):
        thread = second_in_line(LocalRemote(tmp_path), told, got)
        assert told.waits.wait(20)
        gone.lose_link()
        thread.join(20)
        assert got == [True]


def test_a_home_without_room_is_built_in_all_the_same(tmp_path: Path) -> None:
    (tmp_path / ".remotedl").write_text("in the way")
    with one_build(LocalRemote(tmp_path), TAG, "base", Told()) as waited:
        assert not waited


@pytest.mark.lab
def test_two_projects_at_once_build_their_image_once(
    here: Engine, debian: str, project: Project, tmp_path: Path
) -> None:
    folder = project({"Dockerfile": f"FROM {debian}\nRUN echo {uuid.uuid4()}\n{OURS}"})
    places = [Place(here, LocalRemote(tmp_path)), Place(here, LocalRemote(tmp_path))]
    made: list[ImageRef] = []

    def one(place: Place) -> None:
        made.append(place.ensure(ImageWish(image=LocalImage(), folder=folder)))

    threads = [threading.Thread(target=one, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0].id == made[1].id
    assert sorted(place.told.built for place in places) == [False, True]
    here.images.remove(made[0].reference, force=True)
