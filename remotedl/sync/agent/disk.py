"""Every call that touches a filesystem, and nothing else: what a fault is injected into.

A directory is held as a descriptor (POSIX) and names are single components below it, so a link
that is swapped in on the way is never followed. Windows has no such descriptors: there a
directory is its path (`PathDisk`). No decision is taken here; errors are OSError as they come.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from typing import Any, Iterator, List, NamedTuple, Optional, Union

from remotedl.sync.agent.tree import Traits, nameable

At = Union[int, str]
"""A directory: a descriptor, or on Windows its path."""

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
DIRECTORY = getattr(os, "O_DIRECTORY", 0)
NO_BLOCK = getattr(os, "O_NONBLOCK", 0)
BINARY = getattr(os, "O_BINARY", 0)
READ = os.O_RDONLY | NO_FOLLOW | CLOSE_ON_EXEC | NO_BLOCK | BINARY
"""O_NONBLOCK: a FIFO that was swapped in must not block us."""
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOSE_ON_EXEC | BINARY
REOPEN = os.O_RDWR | NO_FOLLOW | CLOSE_ON_EXEC | BINARY

_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_MAC_RENAME_SWAP = 2
_MAC_RENAME_EXCL = 4
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
_F_SETSIG = 10
_F_SETLEASE = 1024
_LEASE_SIGNAL = 23  # SIGURG: ignored unless somebody asks for it, unlike SIGIO


class NoExchange(OSError):
    """This filesystem cannot swap two names atomically."""


class Disk:
    """The real thing, relative to directory descriptors."""

    def open_top(self, path: str) -> At:
        """The root itself; links in `path` are followed, for it is the user's own word."""
        return os.open(path, os.O_RDONLY | DIRECTORY | CLOSE_ON_EXEC)

    def open_dir(self, name: str, at: At) -> At:
        flags = os.O_RDONLY | DIRECTORY | NO_FOLLOW | CLOSE_ON_EXEC
        return os.open(name, flags, dir_fd=_fd(at))

    def close_dir(self, at: At) -> None:
        os.close(_fd(at))

    def open(self, name: str, flags: int, at: At, mode: int = 0o600) -> int:
        return os.open(name, flags, mode, dir_fd=_fd(at))

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def readinto(self, fd: int, buffer: Any) -> int:
        return os.readv(fd, [buffer])

    def seek(self, fd: int, offset: int) -> None:
        os.lseek(fd, offset, os.SEEK_SET)

    def write(self, fd: int, data: Any) -> int:
        return os.write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def stat_dir(self, at: At) -> os.stat_result:
        return os.stat(at)

    def lstat(self, name: str, at: At) -> os.stat_result:
        return os.stat(name, dir_fd=_fd(at), follow_symlinks=False)

    def scandir(self, at: At) -> Any:
        """A context manager and iterator of os.DirEntry; `at` must stay open meanwhile."""
        return os.scandir(at)

    def readlink(self, name: str, at: At) -> str:
        return os.readlink(name, dir_fd=_fd(at))

    def mkdir(self, name: str, at: At, mode: int = 0o777) -> None:
        os.mkdir(name, mode, dir_fd=_fd(at))

    def symlink(self, target: str, name: str, at: At) -> None:
        os.symlink(target, name, dir_fd=_fd(at))

    def link(self, name: str, at: At, new_name: str, new_at: At) -> None:
        os.link(name, new_name, src_dir_fd=_fd(at), dst_dir_fd=_fd(new_at), follow_symlinks=False)

    def unlink(self, name: str, at: At) -> None:
        os.unlink(name, dir_fd=_fd(at))

    def rmdir(self, name: str, at: At) -> None:
        os.rmdir(name, dir_fd=_fd(at))

    def chmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def chown(self, fd: int, uid: int, gid: int) -> None:
        os.fchown(fd, uid, gid)

    def replace(self, name: str, at: At, new_name: str, new_at: At) -> None:
        """Rename over whatever is there."""
        os.replace(name, new_name, src_dir_fd=_fd(at), dst_dir_fd=_fd(new_at))

    def rename_new(self, name: str, at: At, new_name: str, new_at: At) -> None:
        """Rename onto a free name only; FileExistsError otherwise."""
        try:
            _renameat2(name, _fd(at), new_name, _fd(new_at), swap=False)
        except NoExchange:
            self._rename_new_by_link(name, at, new_name, new_at)

    def exchange(self, name: str, at: At, other: str, other_at: At) -> None:
        """Swap two names. Raises NoExchange where the filesystem cannot."""
        _renameat2(name, _fd(at), other, _fd(other_at), swap=True)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_dir(self, at: At) -> None:
        """Make the names in a directory last."""
        try:
            os.fsync(_fd(at))
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.EBADF):  # some FUSE and network mounts
                raise

    def syncfs(self, at: At) -> bool:
        """Flush the whole filesystem below `at`; False where there is no such call."""
        call = getattr(_libc(), "syncfs", None)
        if call is None:
            return False
        if call(_fd(at)) != 0:
            _raise_errno("syncfs")
        return True

    def copy_range(self, source: int, start: int, size: int, target: int, offset: int) -> int:
        """Copy inside the kernel where it can; how many bytes it did, 0 where it cannot."""
        call = getattr(os, "copy_file_range", None)
        if call is None:
            return 0
        try:
            return int(call(source, target, size, start, offset))
        except OSError as exc:
            if exc.errno in (*_UNSUPPORTED, errno.EXDEV, errno.EBADF, errno.EPERM):
                return 0
            raise

    def has_writer(self, fd: int) -> Optional[bool]:
        """Whether some process holds the file open for writing; None where nobody can tell.

        A read lease is granted only while there is no writer; it is given back at once.
        """
        if not sys.platform.startswith("linux"):
            return None
        import fcntl

        try:
            fcntl.fcntl(fd, _F_SETSIG, _LEASE_SIGNAL)
            fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_RDLCK)
        except OSError as exc:
            return True if exc.errno == errno.EAGAIN else None
        fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_UNLCK)
        return False

    def now(self) -> float:
        """The clock that stamps files here."""
        return time.time()

    def booted_at(self) -> Optional[float]:
        """When this machine was started, on the clock of `now`; None where nobody says."""
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        return None if clock is None else self.now() - time.clock_gettime(clock)

    def boot_id(self) -> str:
        """Which start of this machine it is; "" where the system does not say."""
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def _rename_new_by_link(self, name: str, at: At, new_name: str, new_at: At) -> None:
        if stat.S_ISDIR(self.lstat(name, at).st_mode):
            self.mkdir(new_name, new_at)  # an empty directory may be renamed over
            self.replace(name, at, new_name, new_at)
            return
        try:
            self.link(name, at, new_name, new_at)
        except OSError as exc:
            if exc.errno not in (errno.EPERM, *_UNSUPPORTED):
                raise
            self._rename_new_over_own(name, at, new_name, new_at)
            return
        self.unlink(name, at)

    def _rename_new_over_own(self, name: str, at: At, new_name: str, new_at: At) -> None:
        """Without flags and without hard links (exFAT, SMB): the free name is taken by an empty
        file of ours, and that is renamed over. What somebody wrote into it meanwhile goes back.
        """
        fd = self.open(new_name, CREATE, new_at)
        try:
            ours = self.fstat(fd)
            found = self.lstat(new_name, new_at)
            if (found.st_ino, found.st_size) != (ours.st_ino, 0):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)
            self.replace(name, at, new_name, new_at)
            if self._is_empty(fd):
                return
            self.replace(new_name, new_at, name, at)
            theirs = self.open(new_name, CREATE, new_at, 0o666)
            try:
                self.seek(fd, 0)
                for block in read_blocks(self, fd, 1 << 20):
                    write_all(self, theirs, block)
                self.fsync(theirs)
            finally:
                self.close(theirs)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)
        except FileExistsError:
            raise
        except OSError:
            if self._is_empty(fd):
                self._drop_own(fd, new_name, new_at)
            raise
        finally:
            self.close(fd)

    def _is_empty(self, fd: int) -> bool:
        try:
            return not self.fstat(fd).st_size
        except OSError:  # renamed over, and this filesystem keeps nothing of it
            return True

    def _drop_own(self, fd: int, name: str, at: At) -> None:
        try:
            if self.lstat(name, at).st_ino == self.fstat(fd).st_ino:
                self.unlink(name, at)
        except OSError:
            pass


class PathDisk(Disk):
    """For Windows: no descriptors of directories, so a directory is its path.

    What it cannot promise: that no link is swapped in between two calls.
    """

    def open_top(self, path: str) -> At:
        os.stat(path)
        return os.path.realpath(path)

    def open_dir(self, name: str, at: At) -> At:
        path = _join(at, name)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        return path

    def close_dir(self, at: At) -> None:
        return None

    def open(self, name: str, flags: int, at: At, mode: int = 0o600) -> int:
        return os.open(_join(at, name), flags, mode)

    def readinto(self, fd: int, buffer: Any) -> int:
        data = os.read(fd, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def lstat(self, name: str, at: At) -> os.stat_result:
        return os.lstat(_join(at, name))

    def readlink(self, name: str, at: At) -> str:
        return os.readlink(_join(at, name))

    def mkdir(self, name: str, at: At, mode: int = 0o777) -> None:
        os.mkdir(_join(at, name), mode)

    def symlink(self, target: str, name: str, at: At) -> None:
        os.symlink(target, _join(at, name))

    def link(self, name: str, at: At, new_name: str, new_at: At) -> None:
        os.link(_join(at, name), _join(new_at, new_name))

    def unlink(self, name: str, at: At) -> None:
        os.unlink(_join(at, name))

    def rmdir(self, name: str, at: At) -> None:
        os.rmdir(_join(at, name))

    def chmod(self, fd: int, mode: int) -> None:
        return None

    def chown(self, fd: int, uid: int, gid: int) -> None:
        return None

    def replace(self, name: str, at: At, new_name: str, new_at: At) -> None:
        os.replace(_join(at, name), _join(new_at, new_name))

    def rename_new(self, name: str, at: At, new_name: str, new_at: At) -> None:
        # Windows' own rename refuses a name that is taken; elsewhere a link does.
        if sys.platform == "win32":
            os.rename(_join(at, name), _join(new_at, new_name))
        else:
            self._rename_new_by_link(name, at, new_name, new_at)

    def exchange(self, name: str, at: At, other: str, other_at: At) -> None:
        raise NoExchange(errno.ENOSYS, "names cannot be swapped here")

    def sync_dir(self, at: At) -> None:
        return None

    def syncfs(self, at: At) -> bool:
        return False


def this_disk() -> Disk:
    """What fits the machine that this runs on."""
    return Disk() if os.open in os.supports_dir_fd and NO_FOLLOW else PathDisk()


def write_all(disk: Disk, fd: int, data: Any) -> None:
    """All of it, however often the kernel takes less."""
    view = memoryview(data)
    while view:
        view = view[disk.write(fd, view) :]


def read_blocks(disk: Disk, fd: int, size: int) -> Iterator[bytes]:
    """The file from where it stands to its end, in blocks of at most `size` bytes."""
    while True:
        block = disk.read(fd, size)
        if not block:
            return
        yield block


def read_small(disk: Disk, name: str, at: At, limit: int = 1 << 20) -> bytes:
    """A whole small file of ours. Raises FileNotFoundError; more than `limit` is an OSError."""
    fd = disk.open(name, READ, at)
    try:
        blocks: List[bytes] = []
        for block in read_blocks(disk, fd, limit + 1):
            blocks.append(block)
            if sum(map(len, blocks)) > limit:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
        return b"".join(blocks)
    finally:
        disk.close(fd)


def write_small(disk: Disk, name: str, data: bytes, at: At, temporary: str) -> None:
    """Write a file of ours under `temporary`, flush it, rename it to `name`."""
    try:
        disk.unlink(temporary, at)
    except FileNotFoundError:
        pass
    fd = disk.open(temporary, CREATE, at)
    try:
        write_all(disk, fd, data)
        disk.fsync(fd)
    finally:
        disk.close(fd)
    disk.replace(temporary, at, name, at)
    disk.sync_dir(at)


def _fd(at: At) -> int:
    assert isinstance(at, int), "a directory descriptor"
    return at


def _join(at: At, name: str) -> str:
    assert isinstance(at, str), "a directory's path"
    if os.name == "nt" and leads_elsewhere(name):
        raise OSError(errno.EINVAL, "no name of a file on Windows", name)
    return os.path.join(at, name)


def leads_elsewhere(name: str) -> bool:
    """Whether Windows takes a name for a path, a drive, another stream or a device. Pure."""
    return name in ("", ".", "..") or not nameable(name, Traits(windows_names=True)) or "/" in name


_LIBC: List[Any] = []


def _libc() -> Any:
    """The C library, loaded at first use: ctypes costs a start that needs no rename."""
    if not _LIBC:
        import ctypes

        _LIBC.append(ctypes.CDLL(None, use_errno=True))
    return _LIBC[0]


def _raise_errno(what: str) -> None:
    import ctypes

    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)


class _Rename(NamedTuple):
    """The C function that renames with flags, bound once: 20,000 files are a second of lookups."""

    call: Optional[Any]
    new: int
    swap: int


def _bind_rename() -> _Rename:
    import ctypes

    mac = sys.platform == "darwin"
    call = getattr(_libc(), "renameatx_np" if mac else "renameat2", None)
    if call is not None:
        number, name = ctypes.c_int, ctypes.c_char_p
        call.argtypes = (number, name, number, name, ctypes.c_uint)
    if mac:
        return _Rename(call, _MAC_RENAME_EXCL, _MAC_RENAME_SWAP)
    return _Rename(call, _RENAME_NOREPLACE, _RENAME_EXCHANGE)


_RENAME: List[_Rename] = []


def _renameat2(name: str, at: int, other: str, other_at: int, *, swap: bool) -> None:
    if not _RENAME:
        _RENAME.append(_bind_rename())
    call, new_flag, swap_flag = _RENAME[0]
    if call is None:
        raise NoExchange(errno.ENOSYS, "this C library cannot rename with flags")
    flag = swap_flag if swap else new_flag
    if call(at, os.fsencode(name), other_at, os.fsencode(other), flag) == 0:
        return
    import ctypes

    number = ctypes.get_errno()
    kind = NoExchange if number in _UNSUPPORTED else OSError
    raise kind(number, os.strerror(number), name, None, other)
