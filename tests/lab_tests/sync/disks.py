"""Filesystems that fail: faults are put below all of our code, in the calls that reach the disk."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remotedl.sync.agent.disk import At, Disk


class CountingDisk(Disk):
    """Calls `step` before every call that changes something."""

    def step(self, call: str) -> None: ...

    def open(self, name: str, flags: int, at: At, mode: int = 0o600) -> int:
        if flags & os.O_CREAT:
            self.step("create")
        return super().open(name, flags, at, mode)

    def write(self, fd: int, data: Any) -> int:
        self.step("write")
        return super().write(fd, data)

    def copy_range(self, source: int, start: int, size: int, target: int, offset: int) -> int:
        self.step("write")
        return super().copy_range(source, start, size, target, offset)

    def truncate(self, fd: int, size: int) -> None:
        self.step("truncate")
        super().truncate(fd, size)

    def mkdir(self, name: str, at: At, mode: int = 0o777) -> None:
        self.step("mkdir")
        super().mkdir(name, at, mode)

    def symlink(self, target: str, name: str, at: At) -> None:
        self.step("symlink")
        super().symlink(target, name, at)

    def link(self, name: str, at: At, new_name: str, new_at: At) -> None:
        self.step("link")
        super().link(name, at, new_name, new_at)

    def unlink(self, name: str, at: At) -> None:
        self.step("unlink")
        super().unlink(name, at)

    def rmdir(self, name: str, at: At) -> None:
        self.step("rmdir")
        super().rmdir(name, at)

    def chown(self, fd: int, uid: int, gid: int) -> None:
        self.step("chown")
        super().chown(fd, uid, gid)

    def chmod(self, fd: int, mode: int) -> None:
        self.step("chmod")
        super().chmod(fd, mode)

    def replace(self, name: str, at: At, new_name: str, new_at: At) -> None:
        self.step("replace")
        super().replace(name, at, new_name, new_at)

    def rename_new(self, name: str, at: At, new_name: str, new_at: At) -> None:
        self.step("rename")
        super().rename_new(name, at, new_name, new_at)

    def exchange(self, name: str, at: At, other: str, other_at: At) -> None:
        self.step("exchange")
        super().exchange(name, at, other, other_at)

    def fsync(self, fd: int) -> None:
        self.step("fsync")
        super().fsync(fd)

    def sync_dir(self, at: At) -> None:
        self.step("sync dir")
        super().sync_dir(at)

    def syncfs(self, at: At) -> bool:
        self.step("syncfs")
        return super().syncfs(at)


class KillingDisk(CountingDisk):
    """SIGKILLs this process right before step number `fatal`."""

    def __init__(self, fatal: int) -> None:
        self.left = fatal

    def step(self, call: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.die()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class PowerlessDisk(KillingDisk):
    """The same, and what was written and not flushed is zeros afterwards, as after a power cut.

    Names survive: that is what journaling filesystems give with delayed allocation.
    """

    def __init__(self, fatal: int, root: Path) -> None:
        super().__init__(fatal)
        self.root = root
        self.unflushed: set[int] = set()

    def write(self, fd: int, data: Any) -> int:
        done = super().write(fd, data)
        self.unflushed.add(os.fstat(fd).st_ino)
        return done

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self.unflushed.discard(os.fstat(fd).st_ino)

    def syncfs(self, at: At) -> bool:
        done = super().syncfs(at)
        self.unflushed.clear()
        return done

    def die(self) -> None:
        # Other threads of ours go on until the very end: names may vanish while we look.
        try:
            for path in list(self.root.rglob("*")):
                self._lose(path)
        finally:
            super().die()

    def _lose(self, path: Path) -> None:
        try:
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_ino in self.unflushed:
                path.write_bytes(bytes(found.st_size))
        except FileNotFoundError:
            pass


class RebootedDisk(Disk):
    """The machine was started anew."""

    def boot_id(self) -> str:
        return "another boot"

    def booted_at(self) -> float:
        return self.now() - 60


class FaultyDisk(CountingDisk):
    """Fails with `number` in the calls that `when` says, called with the call's name and path."""

    def __init__(self, number: int, when: Callable[[str, str], bool]) -> None:
        self.number = number
        self.when = when
        self.broken = True

    def step(self, call: str, name: str = "") -> None:
        if self.broken and self.when(call, name):
            raise OSError(self.number, os.strerror(self.number), name)

    def scandir(self, at: At) -> Any:
        self.step("scandir", os.readlink(f"/proc/self/fd/{at}"))
        return super().scandir(at)

    def open(self, name: str, flags: int, at: At, mode: int = 0o600) -> int:
        self.step("create" if flags & os.O_CREAT else "open", name)
        return Disk.open(self, name, flags, at, mode)

    def open_dir(self, name: str, at: At) -> At:
        self.step("open dir", name)
        return super().open_dir(name, at)

    def read(self, fd: int, size: int) -> bytes:
        self.step("read", os.readlink(f"/proc/self/fd/{fd}"))
        return super().read(fd, size)

    def readinto(self, fd: int, buffer: Any) -> int:
        self.step("read", os.readlink(f"/proc/self/fd/{fd}"))
        return super().readinto(fd, buffer)


class FullDisk(FaultyDisk):
    """No space left after so many bytes."""

    def __init__(self, space: int) -> None:
        super().__init__(errno.ENOSPC, lambda call, name: False)
        self.space = space
        self._one_at_a_time = threading.Lock()

    def write(self, fd: int, data: Any) -> int:
        # The agent writes in several threads: space that two of them took would go below nothing.
        with self._one_at_a_time:
            if self.broken and len(data) > self.space:
                if not self.space:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                data = memoryview(data)[: self.space]
            done = Disk.write(self, fd, data)
            if self.broken:
                self.space -= done
            return done


class ShortDisk(FaultyDisk):
    """No file may grow beyond so many bytes, as under a quota: who writes first matters not."""

    def __init__(self, limit: int) -> None:
        super().__init__(errno.ENOSPC, lambda call, name: False)
        self.limit = limit

    def write(self, fd: int, data: Any) -> int:
        if self.broken and os.lseek(fd, 0, os.SEEK_CUR) + len(data) > self.limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return Disk.write(self, fd, data)


class StingyDisk(Disk):
    """Writes and reads less than it is asked to."""

    def write(self, fd: int, data: Any) -> int:
        return super().write(fd, memoryview(data)[: max(1, len(data) // 3)])

    def read(self, fd: int, size: int) -> bytes:
        return super().read(fd, max(1, size // 3))

    def readinto(self, fd: int, buffer: Any) -> int:
        return super().readinto(fd, memoryview(buffer)[: max(1, len(buffer) // 3)])


class PlainDisk(Disk):
    """A filesystem that cannot swap two names (older NFS, FUSE)."""

    def exchange(self, name: str, at: At, other: str, other_at: At) -> None:
        from remotedl.sync.agent.disk import NoExchange

        raise NoExchange(errno.EINVAL, "no")


class LinklessDisk(PlainDisk):
    """Nor has it hard links (FAT, some FUSE), nor can a rename spare what is there."""

    def rename_new(self, name: str, at: At, new_name: str, new_at: At) -> None:
        self._rename_new_by_link(name, at, new_name, new_at)

    def link(self, name: str, at: At, new_name: str, new_at: At) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
