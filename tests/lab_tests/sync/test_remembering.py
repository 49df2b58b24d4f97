"""What the laptop remembers of the host between sessions is never older than its version says."""

from __future__ import annotations

from tests.lab_tests.sync.folders import Folders


def test_a_difference_that_went_away_between_sessions_is_not_remembered(folders: Folders) -> None:
    (folders.laptop / "a").write_text("one")
    folders.once()
    (folders.laptop / "a").write_text("two")
    (folders.host / "a").write_text("three")
    assert folders.once().conflicts
    for side in (folders.laptop, folders.host):
        (side / "a").write_text("one")
    assert not folders.once().conflicts
    again = folders.once()
    assert again.idle and not again.conflicts
    (folders.laptop / "a").write_text("four")
    assert folders.once().to_remote.written == 1
    folders.assert_equal()
