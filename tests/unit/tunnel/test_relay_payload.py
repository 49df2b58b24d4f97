"""The program that is shipped to the host can run there."""

from __future__ import annotations

import ast
import sys
from importlib import resources

from remotedl.tunnel.payload.relay import DATA, HEADER, frame

SOURCE = (resources.files("remotedl.tunnel") / "payload" / "relay.py").read_text(encoding="utf-8")


def test_it_is_python_3_8() -> None:
    ast.parse(SOURCE, feature_version=(3, 8))


def test_it_needs_the_standard_library_alone() -> None:
    imported = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported <= set(sys.stdlib_module_names)


def test_a_frame() -> None:
    data = frame(7, DATA, b"abc")
    assert HEADER.unpack_from(data) == (7, DATA, 3)
    assert data[HEADER.size :] == b"abc"
