"""Before the first change on a host, somebody who is there is asked once."""

from __future__ import annotations

from typing import cast

import pytest

from remotedl.errors import ProvisionError
from remotedl.provision.apply import converge
from remotedl.provision.steps import Wish
from remotedl.ssh.remote import Remote
from tests.unit.provision import rendering
from tests.unit.provision.test_gather import Recorded

BARE = cast(Remote, Recorded(rendering.sections_of(rendering.load("debian-12-bare"))))
READY = cast(Remote, Recorded(rendering.sections_of(rendering.load("ready"))))
NO_GPU = Wish(gpus=False)


def test_a_no_changes_nothing_and_names_the_look_at_it() -> None:
    asked = list[str]()

    with pytest.raises(ProvisionError, match="nothing was changed") as refused:
        converge(BARE, NO_GPU, consent=lambda question: bool(asked.append(question)))

    assert len(asked) == 1 and "as root" in asked[0]
    assert refused.value.hint == "remotedl provision h1 --dry-run"


def test_nothing_is_asked_where_nothing_is_to_be_done() -> None:
    def nobody_asks(question: str) -> bool:
        raise AssertionError(question)

    assert converge(READY, Wish(), consent=nobody_asks).done == ()
