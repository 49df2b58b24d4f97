"""What an image is made of, as a hash and as a tar: the same bytes give the same image.

A recipe's hash covers every file of the context, the build arguments and the parent; it covers
no mirror and no proxy, for those change where packages come from and not what they are. No I/O
but reading the context; nothing here knows an engine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from remotedl.config.below import Below
from remotedl.errors import ConfigError

FORMAT = 1
"""Raised when the same files would from now on be built into something else."""
MOUNT = re.compile(rb"--mount=\S+[ \t]*(?:\\\r?\n[ \t]*)?")
CHUNK = 1024 * 1024
PAD = 512


@dataclass(frozen=True, slots=True)
class ContextFile:
    """A file, folder or link of a build context."""

    name: str
    """Relative, with slashes."""
    path: Path
    mode: int
    size: int
    link: str = ""
    root: Path | None = None
    """The folder below which no link is followed; None: only `path` itself must be none."""

    def open(self) -> BufferedReader:
        """Its content; a link that took the place of a folder above it is not followed."""
        root = self.root or self.path.parent
        return Below(root).read(self.path.relative_to(root))


def context_files(folder: Path, left_out: Callable[[str], bool]) -> tuple[ContextFile, ...]:
    """A folder but for the names `left_out`, sorted. Links stay links; sockets do not count."""
    found: list[ContextFile] = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(root, name)
            entry = _entry(folder, path)
            if entry is not None and not left_out(entry.name):
                found.append(entry)
    return tuple(sorted(found, key=lambda one: one.name))


def _entry(folder: Path, path: Path) -> ContextFile | None:
    name = path.relative_to(folder).as_posix()
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return ContextFile(name, path, 0o777, 0, os.readlink(path))
    if stat.S_ISDIR(info.st_mode):
        return ContextFile(name + "/", path, 0o755, 0)
    if stat.S_ISREG(info.st_mode):
        # A laptop's umask must not change the image: only "may be run" counts.
        mode = 0o755 if info.st_mode & 0o100 else 0o644
        return ContextFile(name, path, mode, info.st_size, root=folder)
    return None


def recipe_hash(
    context: tuple[ContextFile, ...],
    dockerfile: str,
    build_args: Mapping[str, str],
    parent: str,
    written: Mapping[str, bytes],
) -> str:
    """SHA-256 over all that decides what the image holds; `parent` is a hash or a reference.

    `written` are files that are not in the context, or stand for one that is.
    """
    digest = hashlib.sha256()
    head = {
        "format": FORMAT,
        "dockerfile": dockerfile,
        "build_args": dict(sorted(build_args.items())),
        "parent": parent,
        "written": {name: hashlib.sha256(data).hexdigest() for name, data in written.items()},
    }
    digest.update(json.dumps(head, sort_keys=True).encode())
    for one in context:
        digest.update(f"\0{one.name}\0{one.mode:o}\0{one.link}\0{one.size}\0".encode())
        if not one.link and not one.name.endswith("/"):
            for chunk in _chunks(one):
                digest.update(chunk)
    return digest.hexdigest()


def context_tar(
    context: tuple[ContextFile, ...], replaced: Mapping[str, bytes] | None = None
) -> Iterator[bytes]:
    """The context as a tar, in pieces: no owner, no time, so that caches hold across laptops.

    `replaced` gives files other contents, or adds them.
    """
    replaced = dict(replaced or {})
    for one in context:
        if one.name in replaced:
            continue
        info = tarfile.TarInfo(one.name)
        info.mode = one.mode
        if one.link:
            info.type, info.linkname = tarfile.SYMTYPE, one.link
        elif one.name.endswith("/"):
            info.type = tarfile.DIRTYPE
        else:
            info.size = one.size
        yield info.tobuf(tarfile.GNU_FORMAT)
        if info.isreg():
            yield from _chunks(one)
            yield b"\0" * (-one.size % PAD)
    for name, data in sorted(replaced.items()):
        info = tarfile.TarInfo(name)
        info.mode, info.size = 0o644, len(data)
        yield info.tobuf(tarfile.GNU_FORMAT) + data + b"\0" * (-len(data) % PAD)
    yield b"\0" * (2 * PAD)


def without_mounts(dockerfile: bytes) -> bytes:
    """A Dockerfile that the classic builder takes: RUN's --mount flags are BuildKit's."""
    return MOUNT.sub(b"", dockerfile)


def _chunks(one: ContextFile) -> Iterator[bytes]:
    """Exactly `size` bytes: a file that changes meanwhile would spoil the tar."""
    left = one.size
    with one.open() as file:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise ConfigError(f"{one.path} got shorter while it was being sent; try again")
            left -= len(chunk)
            yield chunk
