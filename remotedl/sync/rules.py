"""Where ignore rules come from: .gitignore files where asked for, .remotedlignore, hosts.toml.

Reads files, and only those. What the rules mean is `agent/ignore.py`'s business.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from remotedl.config.below import Below
from remotedl.config.models import SyncConfig
from remotedl.errors import FolderUnusable
from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.tree import parent

IGNORE_FILE = ".remotedlignore"
GIT_FILE = ".gitignore"
ENV = "env"
"""A folder that many give another meaning: left out where it holds a Python environment."""
LIMIT = 1 << 20
"""Bytes of rules that are read from one file."""


def read_rules(root: Path, config: SyncConfig) -> Ignore:
    """The rules as they stand on the laptop now, nearest last. Raises FolderUnusable."""
    sources: list[Source] = []
    if (root / ENV / "pyvenv.cfg").is_file():
        sources.append(Source(f"/{ENV}/"))
    if config.use_gitignore:
        for folder in _git_folders(root):
            sources += _read(root / folder / GIT_FILE, folder)
    sources += _read(root / IGNORE_FILE, "")
    if config.ignore:
        sources.append(Source("\n".join(config.ignore)))
    return Ignore(sources)


def is_rules_file(key: str, config: SyncConfig) -> bool:
    """Whether a change of this path means that the rules must be read again."""
    if key in (IGNORE_FILE, ENV, f"{ENV}/pyvenv.cfg"):
        return True
    return config.use_gitignore and (key == GIT_FILE or key.endswith("/" + GIT_FILE))


def _git_folders(root: Path) -> list[str]:
    """Keys of the folders that hold a .gitignore, top-down; ignored ones are not entered."""
    found: list[str] = []
    sources: list[Source] = []
    pending = [""]
    while pending:
        folder = pending.pop(0)
        mine = _read(root / folder / GIT_FILE, folder)
        if mine:
            found.append(folder)
            sources += mine
        rules = Ignore(sources)
        for name in _folders(root / folder):
            if not rules.ignores_child(folder, name, True):
                pending.append(f"{folder}/{name}" if folder else name)
    return sorted(found, key=lambda key: (key.count("/"), parent(key), key))


def _folders(path: Path) -> Iterable[str]:
    try:
        with os.scandir(path) as items:
            return sorted(item.name for item in items if item.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _read(path: Path, folder: str) -> list[Source]:
    """The rules in one file; none where there is no such file. Raises FolderUnusable.

    Rules that cannot be read are not "no rules": what they leave out would be read and sent.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return []
    except FileNotFoundError:
        return []
    except OSError as exc:
        if folder:  # the folder cannot be entered: nothing in it is read or sent
            return []
        raise _unreadable(path, exc) from exc
    try:
        root = path.parents[len(Path(folder).parts)]
        with Below(root).read(Path(folder, path.name)) as file:
            text = file.read(LIMIT).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    return [Source(text, folder)]


def _unreadable(path: Path, exc: OSError) -> FolderUnusable:
    message = f"the ignore rules in {path} cannot be read ({exc.strerror}), so nothing is synced"
    return FolderUnusable(message, hint=f"chmod u+r {shlex.quote(str(path))}")
