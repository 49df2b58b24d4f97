"""Replaces a file only where it still holds what its writer has seen.

Jupyter's own way writes into the file that stands there. What another program put in its place
since (the sync, a formatter, git) is overwritten then, or the written text lands in a file that
has no name any more. Here the new version waits beside, the two change places in one step, and
what came out is looked at: it goes back if nobody has seen it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError

WAITING = ".~remotedl-"
"""How a version that waits is named; the sync ignores such names."""
COPY = re.compile(r"(?P<stem>.+)\.conflict-(?:host|disk)-[0-9a-f]{8}(?:-\d+)?(?P<rest>\.[^.]*)?")
NAME_BYTES = 255

SET_SIGNAL, SET_LEASE = 10, 1024  # F_SETSIG, F_SETLEASE

Mark = tuple[int, int, int]


class Unseen(HTTPError):
    """The file is not what its writer has seen; nothing was changed."""

    def __init__(self, path: str) -> None:
        super().__init__(409, f"{path} was changed meanwhile")


class Found(NamedTuple):
    """A version of a file."""

    digest: bytes
    mark: Mark
    """Tells without reading whether it is still that one: inode, size, time."""
    data: bytes


@dataclass
class Expected:
    """What a writer has seen at `path`; filled in with what was written."""

    path: str
    digest: bytes | None
    """None: no file stands there."""
    written: Found | None = None
    in_place: bool = False
    """A program has it open and keeps it: another file in its place would not be that program's."""
    missed: bool = False
    """It held something else: nothing was written."""


EXPECTED: ContextVar[Expected | None] = ContextVar("expected", default=None)


class CarefulContentsManager(AsyncLargeFileManager):
    """The server's own, but for files of which it was said what they are expected to hold."""

    @contextmanager
    def atomic_writing(self, os_path: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
        expected = EXPECTED.get()
        if expected is None or expected.path != os_path:
            with super().atomic_writing(os_path, *args, **kwargs) as file:
                yield file
            return
        try:
            folder = os.path.dirname(os.path.realpath(os_path))
            if os.access(folder, os.W_OK) and not expected.in_place:
                with self.perm_to_403(os_path), _replacing(expected, *args, **kwargs) as file:
                    yield file
                return
            _check(os_path, expected)
            with super().atomic_writing(os_path, *args, **kwargs) as file:
                yield file
            expected.written = look(os_path)
        except Unseen:
            expected.missed = True
            raise


def look(path: str) -> Found:
    """Raises OSError."""
    with open(path, "rb") as file:
        data = file.read()
        return Found(hashlib.sha256(data).digest(), mark_of(os.fstat(file.fileno())), data)


def is_being_written(path: str) -> bool:
    """Whether a program has it open for writing: the kernel grants a read lease only if not.

    False as well where it grants none at all: another user's file, some network filesystems.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        # Whoever opens it in this moment has us signalled; the usual signal would end the process.
        fcntl.fcntl(fd, SET_SIGNAL, signal.SIGURG)
        fcntl.fcntl(fd, SET_LEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, SET_LEASE, fcntl.F_UNLCK)
    except OSError as exc:
        return exc.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return False


def mark_of(stat: os.stat_result) -> Mark:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def keep_beside(path: str, data: bytes) -> str:
    """Write a version that could not be merged beside the file; the name that it has then."""
    folder, leaf = os.path.split(path)
    known = COPY.fullmatch(leaf)
    if known is not None:
        leaf = known["stem"] + (known["rest"] or "")
    stem, ending = os.path.splitext(leaf)
    digest = hashlib.sha256(data).hexdigest()[:8]
    for attempt in range(1, 1000):
        count = "" if attempt == 1 else f"-{attempt}"
        label = f".conflict-disk-{digest}{count}{ending}"
        room = NAME_BYTES - len(os.fsencode(label))
        copy = os.path.join(folder, os.fsencode(stem)[:room].decode("utf-8", "ignore") + label)
        try:
            with open(copy, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            return copy
        except FileExistsError:
            if look(copy).data == data:
                return copy
    raise FileExistsError(errno.EEXIST, "too many conflict copies", path)


@contextmanager
def _replacing(
    expected: Expected, *, text: bool = True, encoding: str = "utf-8", **_: Any
) -> Iterator[Any]:
    path = os.path.realpath(expected.path)
    handle, waiting = tempfile.mkstemp(prefix=WAITING, dir=os.path.dirname(path))
    try:
        mode = "w" if text else "wb"
        with open(handle, mode, encoding=encoding if text else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new = look(waiting)
        if expected.digest is None:
            _create(waiting, path)
        else:
            _check(path, expected)
            shutil.copymode(path, waiting)
            _swap(waiting, path, expected.digest, new.digest)
        expected.written = new
    finally:
        try:
            os.unlink(waiting)
        except FileNotFoundError:
            pass


def _check(path: str, expected: Expected) -> None:
    try:
        if look(path).digest == expected.digest:
            return
    except FileNotFoundError:
        pass
    raise Unseen(path)


def _create(waiting: str, path: str) -> None:
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(waiting, 0o666 & ~umask)
    try:
        os.link(waiting, path)
    except FileExistsError:
        raise Unseen(path) from None


def _swap(waiting: str, path: str, seen: bytes, new: bytes) -> None:
    """What was seen ends at `waiting`. Raises Unseen."""
    try:
        exchanged = _exchange(waiting, path)
    except FileNotFoundError:
        raise Unseen(path) from None
    if not exchanged:
        _swap_by_link(waiting, path, seen)
        return
    if look(waiting).digest == seen and not is_being_written(waiting):
        return
    _exchange(waiting, path)
    if look(waiting).digest != new:
        # A still newer version came out: it belongs at the path, the other is kept.
        _exchange(waiting, path)
        keep_beside(path, look(waiting).data)
    raise Unseen(path)


def _swap_by_link(waiting: str, path: str, seen: bytes) -> None:
    """Where names cannot change places: aside with the old, then the new onto a free name only."""
    aside = waiting + "-old"
    os.rename(path, aside)
    known = look(aside).digest == seen
    try:
        os.link(waiting if known else aside, path)
    except FileExistsError:
        if not known:
            keep_beside(path, look(aside).data)
        known = False
    os.unlink(aside)
    if not known:
        raise Unseen(path)


def _exchange(one: str, other: str) -> bool:
    """Swap two names; False where the system or the filesystem cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), other)
