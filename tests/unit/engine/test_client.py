"""The border: foreign errors become ours, and the API that both sides speak is found."""

from __future__ import annotations

import pytest
import urllib3.exceptions

from remotedl.engine.client import LineError, _agreed_version, translated
from remotedl.engine.wire import HungUp, Refused
from remotedl.errors import EngineError, LinkLost


def test_a_lost_link_passes_through() -> None:
    with pytest.raises(LinkLost), translated("pulling x"):
        raise LinkLost("gone")


@pytest.mark.parametrize(
    "foreign",
    [
        LineError("something new", None),
        HungUp("what?"),
        Refused(409, b'{"message":"container is not running"}'),
        TimeoutError(),
        ConnectionResetError("reset"),
        urllib3.exceptions.ProtocolError("IncompleteRead"),
        urllib3.exceptions.EmptyPoolError(None, "empty"),  # type: ignore[arg-type]
    ],
)
def test_foreign_errors_are_translated_with_what_was_done(foreign: Exception) -> None:
    with pytest.raises(EngineError, match=r"^pulling x: "), translated("pulling x"):
        raise foreign


@pytest.mark.parametrize(
    ("newest", "oldest", "agreed"),
    [
        ("1.41", "1.12", "1.41"),
        ("1.55", "1.40", "1.45"),
        ("1.9", "1.2", "1.9"),
        ("1.60", "1.50", "1.50"),
    ],
)
def test_the_api_that_both_speak(newest: str, oldest: str, agreed: str) -> None:
    assert _agreed_version({"ApiVersion": newest, "MinAPIVersion": oldest}) == agreed
