"""What is refused before a host is asked for it."""

from __future__ import annotations

import pytest

from remotedl.errors import ConfigError, ImageNotFound, ImageUnfit, RemotedlError, UsageError
from remotedl.images.ensure import refuse_slip
from remotedl.images.pull import refuse_what_cannot_be_pulled


@pytest.mark.parametrize("name", ["", " ", "Bad Name", "Upper", "base:", "-x", "a//b", "a:b:c"])
def test_no_name_of_an_image(name: str) -> None:
    with pytest.raises(UsageError, match="no image's name") as refused:
        refuse_what_cannot_be_pulled(name)
    assert refused.value.hint


def test_an_image_of_the_catalogue_is_built_and_not_pulled() -> None:
    with pytest.raises(UsageError, match="built on the host") as refused:
        refuse_what_cannot_be_pulled("pytorch")
    assert "library/pytorch" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("base:", ConfigError, "no name of an image"),
        ("base:nosuch", ImageUnfit, "it has cpu, cu126, cu130, and gpu"),
        ("basee", ImageNotFound, "did you mean base"),
    ],
)
def test_slips(name: str, kind: type[RemotedlError], says: str) -> None:
    with pytest.raises(kind, match=says) as refused:
        refuse_slip(name)
    assert refused.value.hint


@pytest.mark.parametrize("name", ["base", "base:gpu", "base:cu126", "org/x", "devcontainer"])
def test_names_that_are_fine(name: str) -> None:
    refuse_slip(name)
