"""One facts file and one exact plan a case: tests/unit/provision/cases/*.json."""

from __future__ import annotations

import pytest

from tests.unit.provision import rendering


@pytest.mark.parametrize("name", rendering.names())
def test_the_plan_is_the_one_in_the_case(name: str) -> None:
    case = rendering.load(name)

    assert rendering.made(case) == case["plan"], case["why"]


@pytest.mark.parametrize("name", rendering.names())
def test_a_refusal_changes_nothing(name: str) -> None:
    plan = rendering.load(name)["plan"]

    assert ("refusal" in plan) <= ("steps" not in plan)


def test_every_facts_file_has_a_case() -> None:
    used = {rendering.load(name)["facts"] for name in rendering.names()}

    assert used == {path.name for path in rendering.CASES.glob("*.facts")}
