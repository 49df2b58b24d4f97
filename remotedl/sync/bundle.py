"""The agent as one file: a zip of its sources that `python3` runs. Equal sources, equal bytes.

Stored, not compressed: it is small, and a start need not inflate it. Uploading is done elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from importlib import resources
from typing import NamedTuple

START = b"""import sys

if sys.version_info < (3, 8):
    sys.stderr.write(sys.version.split()[0])
    sys.exit(78)

import hashlib
import os
import zlib

archive = sys.argv[0]
with open(archive, "rb") as file:
    if hashlib.sha256(file.read()).hexdigest() not in archive:
        sys.stderr.write("the agent's file is damaged")
        sys.exit(79)
    # Compiled by an earlier run of this Python, see agent/compiled.py.
    compiled = "%s.%s.zip" % (archive[:-4], sys.implementation.cache_tag)
    try:
        with open(compiled, "rb") as twin:
            data = twin.read()
        if data and zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "big"):
            sys.path.insert(0, compiled)
    except OSError:
        os.fsync(file.fileno())  # the first run: it was uploaded a moment ago

from remotedl.sync.agent.serve import main

main()
"""
EPOCH = (1980, 1, 1, 0, 0, 0)
PACKAGES = ("remotedl", "remotedl/sync")
"""Of these only `__init__.py` travels."""


class Bundle(NamedTuple):
    """The agent's bytes and the name that they have on a host."""

    data: bytes
    name: str
    """agent-<sha256>.pyz"""


@cache
def agent_bundle() -> Bundle:
    """Built from the installed package, once a process."""
    files = {"__main__.py": START}
    top = resources.files("remotedl")
    for package in PACKAGES:
        place = top if package == "remotedl" else top / "sync"
        files[f"{package}/__init__.py"] = (place / "__init__.py").read_bytes()
    for item in (top / "sync" / "agent").iterdir():
        if item.name.endswith(".py"):
            files[f"remotedl/sync/agent/{item.name}"] = item.read_bytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, files[name])
    data = out.getvalue()
    return Bundle(data, f"agent-{hashlib.sha256(data).hexdigest()}.pyz")
