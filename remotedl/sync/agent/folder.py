"""A synced root and the way down into it, one component at a time, following no link.

Also our own corner of it, `.remotedl/`: the marker that says which folder this is, the lock
that keeps a second session with the same host out. It does not know what is synced, nor what
changed.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from types import TracebackType
from typing import Dict, List, NamedTuple, Optional, Tuple, Type

from remotedl.sync.agent.disk import CLOSE_ON_EXEC, At, Disk, read_small, this_disk, write_small

OWN = ".remotedl"
"""Our corner of every root; never synced."""
MARKER = "marker"
LOCK = "lock"
OWNER = "owner"
GIT_RULES = ".gitignore"
REPLACED = "another folder stands in its place"
"""Why a `FolderGone` is one where something is there."""


class Identity(NamedTuple):
    """Which directory a descriptor stands for."""

    dev: int
    ino: int


class FolderGone(OSError):
    """The root is missing, is not a directory, or is another one than before."""


class FolderReplaced(OSError):
    """The root carries another marker than it should, or none. Nothing was made in it."""

    def __init__(self, marker: Optional[str]) -> None:
        super().__init__(errno.ESTALE, REPLACED)
        self.marker = marker


class FolderBusy(OSError):
    """Another session holds the root."""

    def __init__(self, holder: Dict[str, str]) -> None:
        super().__init__(errno.EBUSY, "another session holds this folder")
        self.holder = holder


class Folder:
    """An open root. Close it, or use it as a context manager."""

    def __init__(self, path: str, disk: Optional[Disk] = None, corner: str = "") -> None:
        """`corner`: a folder in `.remotedl/` for what is this session's alone.

        A folder that is synced with several hosts at once has one for each. Raises FolderGone
        where there is no such directory.
        """
        self.corner = corner
        self.disk = this_disk() if disk is None else disk
        self.path = os.path.realpath(os.path.expanduser(path))
        self._lock_fd: Optional[int] = None
        try:
            self.top = self.disk.open_top(self.path)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise FolderGone(exc.errno, exc.strerror, self.path) from exc
        try:
            self.identity = self._identity_of(self.top)
        except BaseException:
            self.disk.close_dir(self.top)
            raise

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        self.unlock()
        self.disk.close_dir(self.top)

    def check(self) -> None:
        """The path still leads to the directory that we hold. Raises FolderGone."""
        try:
            again = self.disk.open_top(self.path)
        except OSError as exc:
            raise FolderGone(exc.errno, exc.strerror, self.path) from exc
        try:
            same = self._identity_of(again) == self.identity
        finally:
            self.disk.close_dir(again)
        if not same:
            raise FolderGone(errno.ESTALE, REPLACED, self.path)

    def own(self, *names: str) -> At:
        """A directory of this session's below `.remotedl/`, made where missing.

        The caller closes it.
        """
        return self._make(OWN, *([self.corner] if self.corner else []), *names)

    def shared(self) -> At:
        """`.remotedl/` itself, made where missing; the caller closes it."""
        return self._make(OWN)

    def _make(self, *names: str) -> At:
        at = self.top
        for name in names:
            try:
                below = self.disk.open_dir(name, at)
            except FileNotFoundError:
                try:
                    self.disk.mkdir(name, at, 0o700)
                except FileExistsError:
                    pass
                below = self.disk.open_dir(name, at)
            except OSError as exc:
                if at is not self.top:
                    self.disk.close_dir(at)
                upto = names[: names.index(name) + 1]
                raise OSError(exc.errno, exc.strerror, os.path.join(self.path, *upto)) from exc
            if at is not self.top:
                self.disk.close_dir(at)
            at = below
        return at

    def hide_own(self) -> None:
        """Keep git away from `.remotedl/`: a marker in a clone would say that it is this folder."""
        at = self.shared()
        try:
            self.disk.lstat(GIT_RULES, at)
        except FileNotFoundError:
            try:
                write_small(self.disk, GIT_RULES, b"*\n", at, GIT_RULES + ".new")
            except FileExistsError:
                pass  # a session with another host is just doing it
        finally:
            self.disk.close_dir(at)

    def marker(self) -> Optional[str]:
        """The random id of this root; None where there is none (a new or an emptied root)."""
        try:
            at = self.disk.open_dir(OWN, self.top)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return read_small(self.disk, MARKER, at, 4096).decode("ascii", "replace").strip()
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EFBIG):
                return None  # none of ours
            raise
        finally:
            self.disk.close_dir(at)

    def set_marker(self, marker: str) -> None:
        at = self.shared()
        try:
            write_small(self.disk, MARKER, marker.encode("ascii") + b"\n", at, MARKER + ".new")
        except IsADirectoryError as exc:
            why = f"{OWN}/{MARKER} is a folder: move it away"
            raise OSError(exc.errno, why, os.path.join(self.path, OWN, MARKER)) from exc
        finally:
            self.disk.close_dir(at)

    def owner(self) -> Dict[str, str]:
        """Who took this folder over from somebody else last; nothing where nobody did."""
        at = self.shared()
        try:
            return _as_holder(read_small(self.disk, OWNER, at, 4096))
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EFBIG):
                return {}
            raise
        finally:
            self.disk.close_dir(at)

    def set_owner(self, holder: Dict[str, str]) -> None:
        at = self.shared()
        try:
            data = json.dumps(holder).encode("utf-8")
            write_small(self.disk, OWNER, data, at, OWNER + ".new")
        finally:
            self.disk.close_dir(at)

    def lock(self, holder: Dict[str, str]) -> None:
        """Keep other sessions out until closed or dead. Raises FolderBusy with their holder."""
        if self._lock_fd is not None:
            return
        at = self.own()
        try:
            fd = self.disk.open(LOCK, os.O_RDWR | os.O_CREAT | CLOSE_ON_EXEC, at)
        finally:
            self.disk.close_dir(at)
        try:
            if not _take(fd):
                raise FolderBusy(_read_holder(self.disk, fd))
            self.disk.truncate(fd, 0)
            self.disk.seek(fd, 1)  # the first byte is what Windows locks
            self.disk.write(fd, json.dumps(holder).encode("utf-8"))
        except BaseException:
            self.disk.close(fd)
            raise
        self._lock_fd = fd

    def unlock(self) -> None:
        if self._lock_fd is not None:
            self.disk.close(self._lock_fd)
            self._lock_fd = None

    def _identity_of(self, at: At) -> Identity:
        found = self.disk.stat_dir(at)
        return Identity(found.st_dev, found.st_ino)


class Way:
    """Directories below a root, opened on the way to many paths; sorted paths are cheapest.

    Holds one descriptor a level of the path it stands at. It lives for one batch only: a
    directory that is moved away meanwhile is still written to through its descriptor.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._disk = folder.disk
        self._stack: List[Tuple[str, At]] = []
        self._here: Optional[str] = None
        """The path at the top of the stack, where that is known."""

    def __enter__(self) -> Way:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        self._cut(0)

    def to(self, path: str) -> At:
        """The directory at `path` ("" is the root). Raises OSError; ELOOP and ENOTDIR for links."""
        if path == self._here:
            return self._stack[-1][1]
        names = path.split("/") if path else []
        shared = 0
        for name, (held, _) in zip(names, self._stack):
            if name != held:
                break
            shared += 1
        self._cut(shared)
        for name in names[shared:]:
            at = self._stack[-1][1] if self._stack else self._folder.top
            self._stack.append((name, self._disk.open_dir(name, at)))
        if not self._stack:
            return self._folder.top
        self._here = path
        return self._stack[-1][1]

    def parent(self, path: str) -> Tuple[At, str]:
        """The directory that holds `path`, and its name in there."""
        above, _, name = path.rpartition("/")
        return self.to(above), name

    def forget(self, path: str) -> None:
        """Hold nothing at or below `path` any more: it is about to be moved or removed."""
        names = path.split("/")
        if [name for name, _ in self._stack[: len(names)]] == names:
            self._cut(len(names) - 1)

    def _cut(self, length: int) -> None:
        self._here = None
        while len(self._stack) > length:
            self._disk.close_dir(self._stack.pop()[1])


def is_dir(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode)


def _take(fd: int) -> bool:
    """An exclusive lock without waiting; the kernel drops it when the holder dies."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True


def _read_holder(disk: Disk, fd: int) -> Dict[str, str]:
    try:
        disk.seek(fd, 1)
        return _as_holder(disk.read(fd, 4096))
    except OSError:
        return {}


def _as_holder(data: bytes) -> Dict[str, str]:
    try:
        found = json.loads(data.decode("utf-8"))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
