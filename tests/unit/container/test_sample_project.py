"""The sample project is a valid one."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parents[2] / "sample_project"


def test_the_notebook_is_valid_and_holds_no_output() -> None:
    notebook = json.loads((FOLDER / "notebooks/digits.ipynb").read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
