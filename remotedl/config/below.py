"""Files below a folder, reached through no link: what a host may have put there leads nowhere else.

Whatever the sync brings into a project may be a link, `out -> ~/.ssh`. So what is read or written
in a folder outside of the sync goes from directory to directory by descriptors, and stops at a
link; a FIFO or a device is no file and is not waited for. The sync does the same with its own disk
(`sync/agent/folder`), which travels to hosts and knows no configuration.

Windows has no descriptors of directories: each step is looked at before it is taken there, and a
link that is swapped in between the two is not noticed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom, BufferedReader
from pathlib import Path, PurePath
from typing import NamedTuple

from remotedl.errors import FolderUnusable

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FILE = _FLAGS | getattr(os, "O_NONBLOCK", 0)
_FOLDER = os.O_RDONLY | _FLAGS | getattr(os, "O_DIRECTORY", 0)
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")


class _Spot(NamedTuple):
    """A name in an open directory."""

    name: str
    """On Windows the whole path."""
    at: int | None


class Below:
    """The files below `root`. Links on the way to `root` itself are the user's own word."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, relative: PurePath | str) -> BufferedReader:
        """A regular file, open to be read. Raises OSError, FolderUnusable for a link."""
        return os.fdopen(self._open(relative, os.O_RDONLY), "rb")

    def write(self, relative: PurePath | str) -> BufferedRandom:
        """A regular file, made where it is missing, open to be read and written from its start."""
        return os.fdopen(self._open(relative, os.O_RDWR | os.O_CREAT), "r+b")

    def stat(self, relative: PurePath | str) -> os.stat_result | None:
        """What stands there itself; None for nothing. Raises FolderUnusable for a link above it."""
        try:
            with self._spot(relative) as spot:
                return os.stat(spot.name, dir_fd=spot.at, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_folder(self, relative: PurePath | str) -> bool:
        """Raises FolderUnusable for a link."""
        found = self.stat(relative)
        if found is not None and stat.S_ISLNK(found.st_mode):
            raise self._refusal(relative)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def make_folders(self, relative: PurePath | str) -> None:
        """`relative` and what leads there."""
        parts = _parts(relative)
        for length in range(1, len(parts) + 1):
            path = PurePath(*parts[:length])
            if not self.is_folder(path):
                with self._spot(path) as spot:
                    os.mkdir(spot.name, dir_fd=spot.at)

    def refuse_link(self, relative: PurePath | str) -> None:
        """Raises FolderUnusable where something else than a regular file stands."""
        found = self.stat(relative)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise self._refusal(relative)

    def replace(self, temporary: PurePath | str, relative: PurePath | str, mtime_ns: int) -> None:
        """Put a file in its place, over a regular file at most."""
        self.refuse_link(relative)
        with self._spot(temporary) as source, self._spot(relative) as target:
            times = (mtime_ns, mtime_ns)
            if _BY_DESCRIPTOR:
                os.utime(source.name, ns=times, dir_fd=source.at, follow_symlinks=False)
            else:
                os.utime(source.name, ns=times)
            os.replace(source.name, target.name, src_dir_fd=source.at, dst_dir_fd=target.at)

    def remove(self, relative: PurePath | str) -> None:
        with self._spot(relative) as spot:
            os.unlink(spot.name, dir_fd=spot.at)

    def files(self, relative: PurePath | str = "") -> Iterator[str]:
        """Keys of the regular files in and below a folder, sorted; links are left out."""
        with self._folder(_parts(relative)) as at, os.scandir(at) as found:
            items = sorted((item.name, item.is_dir(follow_symlinks=False)) for item in found)
            plain = {name for name, is_dir in items if not is_dir}
            plain = {name for name in plain if self._is_file(name, at)}
        for name, is_dir in items:
            path = os.path.join(relative, name) if str(relative) else name
            if is_dir:
                yield from self.files(path)
            elif name in plain:
                yield PurePath(path).as_posix()

    def _is_file(self, name: str, at: int | str) -> bool:
        spot = _Spot(name, at) if isinstance(at, int) else _Spot(os.path.join(at, name), None)
        found = os.stat(spot.name, dir_fd=spot.at, follow_symlinks=False)
        return stat.S_ISREG(found.st_mode)

    def _open(self, relative: PurePath | str, flags: int) -> int:
        with self._spot(relative) as spot:
            if not _BY_DESCRIPTOR:
                self._look(relative, spot.name)
            try:
                descriptor = os.open(spot.name, flags | _FILE, 0o666, dir_fd=spot.at)
            except OSError as exc:
                raise self._explained(relative, exc) from exc
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._refusal(relative)
        return descriptor

    @contextmanager
    def _spot(self, relative: PurePath | str) -> Iterator[_Spot]:
        """Where the last name of `relative` stands, in its open directory."""
        *above, name = _parts(relative) or (".",)
        with self._folder(above) as at:
            yield _Spot(name, at) if isinstance(at, int) else _Spot(os.path.join(at, name), None)

    @contextmanager
    def _folder(self, parts: list[str] | tuple[str, ...]) -> Iterator[int | str]:
        """A directory below the root: a descriptor, or on Windows its path."""
        if not _BY_DESCRIPTOR:
            path = os.path.realpath(self.root)
            for count, part in enumerate(parts, 1):
                path = os.path.join(path, part)
                self._look(PurePath(*parts[:count]), path)
            yield path
            return
        at = os.open(self.root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for count, part in enumerate(parts, 1):
                try:
                    below = os.open(part, _FOLDER, dir_fd=at)
                except OSError as exc:
                    raise self._explained(PurePath(*parts[:count]), exc) from exc
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)

    def _look(self, relative: PurePath | str, path: str) -> None:
        if os.path.islink(path) or getattr(os.path, "isjunction", os.path.islink)(path):
            raise self._refusal(relative)

    def _explained(self, relative: PurePath | str, exc: OSError) -> Exception:
        """What an open that follows no link says of one, in words."""
        known = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.ENXIO)
        if exc.errno in known and not isinstance(exc, FileNotFoundError):
            return self._refusal(relative)
        exc.filename = str(self.root / relative)
        return exc

    def _refusal(self, relative: PurePath | str) -> FolderUnusable:
        path = self.root / relative
        try:
            what = f"a link to {os.readlink(path)}"
        except OSError:
            what = "no regular file" if not path.is_dir() else "a folder"
        message = f"{path} is {what}: nothing is read or written through it"
        return FolderUnusable(message, hint=f"ls -ld '{path}'; remove it, or name another place")


def _parts(relative: PurePath | str) -> list[str]:
    """The names on the way. Raises FolderUnusable for what leads out."""
    text = str(relative)
    parts = [part for part in PurePath(text).parts if part != os.curdir]
    bad = PurePath(text).is_absolute() or os.pardir in parts or "\0" in text
    if os.name == "nt":
        bad = bad or any(char in part for part in parts for char in ":\\/")
    if bad:
        raise FolderUnusable(f"{text!r} is no path below a folder", hint="name another place")
    return parts


def read_plain(path: Path, root: Path | None = None, limit: int = 1 << 24) -> bytes:
    """A whole small file; below `root` without following a link, once links were judged.

    Raises OSError, FolderUnusable.
    """
    real = path.resolve()
    base = real.parent
    if root is not None and real.is_relative_to(root.resolve()):
        base = root.resolve()
    with Below(base).read(real.relative_to(base)) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FolderUnusable(f"{path} holds more than {limit} bytes", hint=f"ls -l '{path}'")
    return data
