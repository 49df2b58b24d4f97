"""Two versions of a file beside each other: text line by line, notebooks cell by cell. Pure."""

from __future__ import annotations

import difflib
import json
from typing import Any

CONTEXT = 3
LARGEST = 1_000_000
"""Bytes of a version above which no diff is made."""


def diff(path: str, laptop: bytes, remote: bytes) -> str:
    """A unified diff from the laptop's version to the host's; a sentence where none makes sense."""
    if max(len(laptop), len(remote)) > LARGEST:
        return f"{path}: {len(laptop)} bytes here, {len(remote)} on the host: too big for a diff\n"
    texts = [_lines(path, version) for version in (laptop, remote)]
    if texts[0] is None or texts[1] is None:
        return f"{path}: {len(laptop)} bytes here, {len(remote)} on the host: not text\n"
    found = difflib.unified_diff(
        texts[0], texts[1], f"{path} (laptop)", f"{path} (host)", n=CONTEXT, lineterm=""
    )
    return "".join(f"{line}\n" for line in found)


def _lines(path: str, version: bytes) -> list[str] | None:
    if b"\0" in version:
        return None
    text = version.decode("utf-8", "replace")
    if path.endswith(".ipynb"):
        cells = notebook_lines(text)
        if cells is not None:
            return cells
    return text.splitlines()


def notebook_lines(text: str) -> list[str] | None:
    """A notebook as lines that people read: each cell's source, and what it put out, in short.

    Metadata, execution counts and pictures are left out: they differ at every run. None where it
    is no notebook.
    """
    try:
        cells = json.loads(text)["cells"]
        lines: list[str] = []
        for cell in cells:
            lines.append(f"[{cell['cell_type']} {cell.get('id', '')}]".replace(" ]", "]"))
            lines += _joined(cell["source"]).splitlines()
            for output in cell.get("outputs", ()):
                lines += [f"  > {line}" for line in _output(output)]
    except (ValueError, KeyError, TypeError):
        return None
    return lines


def _output(output: dict[str, Any]) -> list[str]:
    if output.get("output_type") == "error":
        return [f"{output.get('ename')}: {output.get('evalue')}"]
    if "text" in output:
        return _joined(output["text"]).splitlines()
    data = output.get("data", {})
    if "image/png" in data:
        return ["(picture)"]
    return _joined(data.get("text/plain", "")).splitlines()


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
