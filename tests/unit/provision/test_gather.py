"""Looking at a host whose engine is only to be had through a sudo that asks for a password."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from remotedl.config.models import HostConfig, RuntimeKind, SudoMode
from remotedl.errors import SudoRefused
from remotedl.provision.apply import converge
from remotedl.provision.examine import examine
from remotedl.provision.findings import Grade, Place
from remotedl.provision.frame import Section
from remotedl.provision.probe import gather
from remotedl.provision.steps import Wish
from remotedl.ssh.remote import Remote, Result
from tests.unit.provision import rendering

OUT_OF_REACH = rendering.load("docker-out-of-reach")


class Recorded:
    """A host that gives a recorded answer, and on which nobody types sudo's password."""

    name, user, alive = "h1", "ada", True

    def __init__(self, sections: dict[str, Section]) -> None:
        lines = ["@@remotedl 1"]
        for name, section in sections.items():
            lines += [f"@{name} {section.code}", *(f"|{line}" for line in section.lines)]
        self._answer = "\n".join([*lines, "@@end"]).encode()

    def run(self, argv: Sequence[str], **more: Any) -> Result:
        return Result(tuple(argv), 0, self._answer, b"")

    def sudo(self, argv: Sequence[str], **more: Any) -> Result:
        raise SudoRefused("h1: sudo asks for the password of ada, and nobody typed it", hint="type")

    def ping(self, deadline_s: float) -> float:
        return 0.01


HIDDEN = rendering.sections_of(OUT_OF_REACH)
HIDDEN["sudo_mode"] = Section(1, "sudo: a password is required")
HOST = cast(Remote, Recorded(HIDDEN))


def test_nobody_to_ask_is_said_as_that_and_not_as_a_host_that_cannot_be_used() -> None:
    with pytest.raises(SudoRefused, match="nobody typed it") as refused:
        converge(HOST, Wish(gpus=False))

    assert refused.value.exit_code == 26 and refused.value.hint == "type"


def test_what_should_be_known_of_a_host_that_is_ready_is_told_once() -> None:
    class Told:
        warnings: list[str] = []  # noqa: RUF012

        def stage(self, name: str, detail: str = "") -> None: ...

        def warn(self, text: str, hint: str = "") -> None:
            self.warnings.append(text)

    snap = cast(Remote, Recorded(rendering.sections_of(rendering.load("snap-docker"))))

    outcome = converge(snap, Wish(gpus=False), report=cast(Any, Told()))

    assert [notice.text for notice in outcome.notices] == Told.warnings != []


def test_where_root_is_not_wanted_nobody_is_asked() -> None:
    assert not gather(HOST, Wish(sudo=SudoMode.NONE)).engine.works
    assert not gather(HOST, Wish(runtime=RuntimeKind.NATIVE)).engine.works


def test_the_doctor_tells_of_it_and_looks_at_the_rest() -> None:
    found = examine(HOST, host=HostConfig(address="h1", gpus="none"), now=lambda: 0.0)

    (sudo,) = [finding for finding in found if finding.name == "sudo"]
    assert (sudo.grade, sudo.mend) == (Grade.BAD, "type")
    bad = {one.name for one in found if one.grade is Grade.BAD and one.place is not Place.LAPTOP}
    assert bad == {"clock", "sudo"}, "one cause, one finding"
    assert "system" in {finding.name for finding in found}
