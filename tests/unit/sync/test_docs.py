"""docs/sync.md names everything that a user may meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.config.models import SyncMode
from remotedl.sync.agent.tree import Issue
from remotedl.sync.safety import DELETES_ALWAYS_FINE, HaltKind

TEXT = (Path(__file__).parents[3] / "docs" / "sync.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("issue", list(Issue))
def test_each_issue_has_its_remedy(issue: Issue) -> None:
    assert f"| {issue.value} |" in TEXT


@pytest.mark.parametrize("kind", sorted(set(HaltKind) - {HaltKind.UNSOUND}))
def test_each_halt_has_its_way_on(kind: HaltKind) -> None:
    assert f"| `{kind}` |" in TEXT


@pytest.mark.parametrize("mode", list(SyncMode))
def test_each_mode_is_told(mode: SyncMode) -> None:
    assert f"`{mode}`" in TEXT


def test_the_figure_of_the_mass_delete_is_the_code_s() -> None:
    assert f"more than {DELETES_ALWAYS_FINE} files and more than a quarter" in TEXT
