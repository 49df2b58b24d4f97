"""Files of the project that remotedl, ssh or git were told to read, by the laptop's user.

The sync never takes them from a host unasked, whatever they are called: hosts.toml under another
name (`--config`), `env_file`, keys, and what git's own configuration points at.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from remotedl.session.project import Project
from remotedl.sync.agent.tree import key

GIT_S = 10.0
SETTINGS = "^(core|include|includeif|blame|commit|diff|merge|filter|gpg|credential|sequence)[.]"
"""Settings of git whose values may be paths, or commands with paths in them."""


def named_files(project: Project) -> tuple[str, ...]:
    """Keys of such files and folders, sorted; only what lies in the project's folder."""
    config = project.config
    names: list[str | Path | None] = [project.config_path, config.project.env_file]
    for host in config.hosts.values():
        names += [host.identity_file, host.known_hosts]
    names += _named_by_git(project.root)
    found = {inside for name in names if name for inside in _inside(project.root, name)}
    return tuple(sorted(found))


def _inside(root: Path, name: str | Path) -> Iterator[str]:
    """Its key as it is named, and as it is reached where links lead elsewhere in the project."""
    path = os.path.normpath(root / os.path.expanduser(name))
    for base, full in ((str(root), path), (os.path.realpath(root), os.path.realpath(path))):
        relative = os.path.relpath(full, base)
        if relative != os.curdir and not relative.startswith(os.pardir):
            yield key(relative.replace(os.sep, "/"))


def _named_by_git(root: Path) -> list[str]:
    """What exists in the project of all that git's configuration there names."""
    if not (root / ".git").exists():
        return []
    argv = ["git", "-C", str(root), "config", "--null", "--get-regexp", SETTINGS]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    settings = done.stdout.decode("utf-8", "surrogateescape").split("\0")
    return [word for line in settings for word in words_of(*line.partition("\n")[::2], root)]


def words_of(setting: str, value: str, root: Path) -> Iterable[str]:
    """The words of one setting that are files or folders of the project."""
    base = root / ".git" if setting.startswith("include") else root
    try:
        words = [value, *shlex.split(value)]
    except ValueError:
        words = [value]
    for word in words:
        if ("/" in word or "." in word or setting.endswith("path")) and (base / word).exists():
            yield str(base / word)
