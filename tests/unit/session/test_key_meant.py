"""A path as users type it, from where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.session.sync_errands import key_meant


@pytest.mark.parametrize(
    ("typed", "stands", "meant"),
    [
        ("f.py", "", "f.py"),
        ("./f.py", "", "f.py"),
        ("../f.py", "sub", "f.py"),
        ("f.py", "sub", "sub/f.py"),
        ("ROOT/d/f.py", "sub", "d/f.py"),
        ("../../elsewhere", "sub", "../../elsewhere"),
        ("cafe\u0301", "", "caf\u00e9"),
    ],
)
def test_a_path_is_meant_from_where_the_user_stands(
    tmp_path: Path, typed: str, stands: str, meant: str
) -> None:
    (tmp_path / "sub").mkdir()
    typed = typed.replace("ROOT", str(tmp_path))
    assert key_meant(typed, tmp_path, tmp_path / stands) == meant
