"""Each symptom is recognised from what the tool really says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from remotedl.provision.symptoms import SYMPTOMS, explain, recognise

CASES: list[tuple[str, str]] = [
    (name, text)
    for name, text in json.loads((Path(__file__).parent / "symptoms.json").read_text("utf-8"))
]


@pytest.mark.parametrize(
    ("name", "text"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)]
)
def test_the_symptom_is_the_first_that_is_recognised(name: str, text: str) -> None:
    assert recognise(text)[0].name == name


def test_every_symptom_has_a_case() -> None:
    assert {symptom.name for symptom in SYMPTOMS} == {name for name, _ in CASES}


@pytest.mark.parametrize("text", [
    "",
    "Hello from Docker!",
    "NVIDIA-SMI 580.159.04  Driver Version: 580.159.04  CUDA Version: 13.0",
    "Epoch 79: loss 0.12",
    "W: Some index files failed to download. They have been ignored, or old ones used instead.",
])  # fmt: skip
def test_what_is_well_shows_no_symptom(text: str) -> None:
    assert recognise(text) == ()


def test_explaining_names_the_next_command_with_the_host_in_it() -> None:
    line = explain("x\nFailed to initialize NVML: Driver/library version mismatch\n", "gpu1")

    assert "rebooted" in line and line.endswith("next: remotedl provision gpu1 --reboot")
    assert explain("all is well", "gpu1") == ""


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.name)
def test_a_mend_is_a_command_for_this_host(symptom: object) -> None:
    mend = getattr(symptom, "mend")  # noqa: B009

    assert not re.findall(r"\{(?!host\})", mend)
