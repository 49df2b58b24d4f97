"""What the agent tells after a break: exactly what the laptop missed, or everything."""

from __future__ import annotations

from remotedl.sync.agent.listing import WORTH_FORGETTING, Generations, Version


def test_only_what_came_after_is_told() -> None:
    now = Generations("e")
    now.note(["a"])
    known = now.version
    now.note(["b", "c"])
    assert now.since(known) == ["b", "c"] and now.since(now.version) == []


def test_who_knows_nothing_or_another_epoch_is_told_everything() -> None:
    now = Generations("e")
    assert now.since(None) is None and now.since(Version("other", 1)) is None


def test_a_saved_picture_goes_on_in_the_next_run() -> None:
    before = Generations("e")
    before.note(["a"])
    known = before.version
    before.note(["b"])
    after = Generations.from_json(before.to_json(), "f")
    after.note(["c"])
    assert after.since(known) == ["b", "c"]
    assert after.since(after.version) == []


def test_what_the_laptop_has_kept_is_forgotten_here() -> None:
    now = Generations("e")
    before = now.version
    now.note(f"file{number}" for number in range(2 * WORTH_FORGETTING))
    known = now.version
    assert not now.forget(before)
    assert now.forget(known) and not now.forget(known)
    now.note(["new"])
    assert now.since(known) == ["new"]
    assert now.since(before) is None  # an older laptop is told everything
    assert len(now.to_json()["changed"]) == 1


def test_a_run_without_a_change_leaves_no_trace() -> None:
    saved = Generations("e").to_json()
    assert Generations.from_json(saved, "f").to_json() == saved


def test_what_a_killed_agent_told_and_never_saved_is_not_believed() -> None:
    saved = Generations("e").to_json()
    killed = Generations.from_json(saved, "f")
    killed.note(["a"])
    after = Generations.from_json(saved, "g")
    after.note(["b"])
    assert killed.version.number == after.version.number
    assert after.since(killed.version) is None


def test_a_picture_that_was_not_saved_well_is_begun_anew() -> None:
    broken: object
    for broken in (None, {}, {"epoch": "e", "number": "x"}, []):
        assert Generations.from_json(broken, "f").version == Version("f", 1)
