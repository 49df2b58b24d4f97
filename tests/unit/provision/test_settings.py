"""daemon.json: merged, never overwritten."""

from __future__ import annotations

import json

import pytest

from remotedl.provision.settings import (
    CDI_ON,
    NVIDIA_RUNTIME,
    SettingsBroken,
    as_text,
    cdi_setting,
    has_runtime,
    merged,
    read_settings,
)


@pytest.mark.parametrize("text", ["", "\n", "  \n\t"])
def test_an_empty_file_means_no_settings(text: str) -> None:
    assert read_settings(text) == {}


@pytest.mark.parametrize(("text", "why"), [
    ("{", "line 1"),
    ('{"a": 1\n"b": 2}', "line 2"),
    ("[]", "no object"),
    ('"text"', "no object"),
    ("// a comment\n{}", "line 1"),
])  # fmt: skip
def test_a_broken_file_is_told_and_not_taken_for_an_empty_one(text: str, why: str) -> None:
    with pytest.raises(SettingsBroken, match=why):
        read_settings(text)


def test_settings_of_others_stay_in_their_order() -> None:
    theirs = {"log-driver": "local", "runtimes": {"kata": {"path": "k"}}, "dns": ["9.9.9.9"]}

    result = merged(theirs, NVIDIA_RUNTIME)

    assert list(result) == ["log-driver", "runtimes", "dns"]
    assert set(result["runtimes"]) == {"kata", "nvidia"}  # type: ignore[call-overload]
    assert json.loads(as_text(result)) == result
    assert merged(result, NVIDIA_RUNTIME) == result
    assert "nvidia" not in theirs["runtimes"]


def test_a_runtime_that_somebody_configured_otherwise_is_theirs() -> None:
    theirs = {"runtimes": {"nvidia": {"path": "/opt/nvidia-container-runtime"}}}

    result = merged(theirs, NVIDIA_RUNTIME)

    assert result["runtimes"]["nvidia"]["path"] == "/opt/nvidia-container-runtime"  # type: ignore[index]


def test_what_is_switched_off_is_switched_on_and_nothing_else() -> None:
    result = merged({"features": {"cdi": False, "buildkit": False}}, CDI_ON)

    assert result == {"features": {"cdi": True, "buildkit": False}}


def test_what_is_set() -> None:
    assert has_runtime({"runtimes": {"nvidia": {}}}) and not has_runtime({"runtimes": []})
    assert cdi_setting({"features": {"cdi": True}}) is True
    assert cdi_setting({"features": {}}) is None and cdi_setting({}) is None
