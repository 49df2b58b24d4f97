"""Keep the agent's compiled code beside it on the host, so that the next start need not compile.

Half of a start is compiling. The result depends on the Python that runs, so each has its own
file, named after it. It can only save work: where it is missing, the sources are used.
"""

from __future__ import annotations

import os
import sys
import time
import zlib

KEEP_S = 60 * 86400.0
"""Agents of other versions that nobody uploaded or ran for so long are removed."""
_UNCHECKED = (1).to_bytes(4, "little") + bytes(8)
"""The header of code that is never compared with its source: both are named by one digest."""


def compiled_path(archive: str) -> str:
    """Where the compiled code of an agent lies; `bundle` puts it on the path by the same rule."""
    return f"{archive[:-4]}.{sys.implementation.cache_tag}.zip"


def keep_compiled(archive: str) -> None:
    """Write it if it is not in use already. Raises OSError."""
    target = compiled_path(archive)
    if not archive.endswith(".pyz") or target in sys.path:
        return
    temporary = f"{target}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(_compiled(archive))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    _drop_old(os.path.dirname(os.path.abspath(archive)), os.path.basename(archive)[:-4])


def _compiled(archive: str) -> bytes:
    """A zip whose last four bytes, its comment, are the checksum of all before them."""
    import importlib.util
    import io
    import marshal
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(archive) as sources, zipfile.ZipFile(out, "w") as twin:
        for name in sources.namelist():
            if name == "__main__.py":
                continue
            code = compile(sources.read(name), name, "exec", dont_inherit=True)
            data = importlib.util.MAGIC_NUMBER + _UNCHECKED + marshal.dumps(code)
            twin.writestr(name + "c", data)
        twin.comment = bytes(4)
    whole = out.getvalue()[:-4]
    return whole + zlib.crc32(whole).to_bytes(4, "big")


def _drop_old(folder: str, ours: str) -> None:
    now = time.time()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        other = name.startswith("agent-") and not name.startswith(ours)
        if other and now - os.stat(path).st_mtime > KEEP_S:
            os.unlink(path)
