"""Where content waits, verified, until it takes its place: `.remotedl/staging/`.

Content is named by its digest, so that a transfer that broke off is taken up again and a
repeated one changes nothing. Small files wait in memory, up to a limit. Nothing here touches a
name of the user's.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import stat
import threading
from typing import Any, Dict, Optional, Set

from remotedl.sync.agent.digest import BLOCK, Blocks, Digest
from remotedl.sync.agent.disk import (
    CREATE,
    READ,
    REOPEN,
    At,
    Disk,
    read_blocks,
    read_small,
    write_all,
)
from remotedl.sync.agent.folder import Folder
from remotedl.sync.agent.protocol import Content

MEMORY = 24 << 20
"""Bytes of small contents that wait in memory; more goes to disk."""
PART_LIFE_S = 7 * 86400.0
"""An unfinished transfer is kept for so long."""
THREAD_FROM = 16 << 20
DEPTH = 8
PART = ".part"
CLONE = "clone"
CLONE_LIFE_S = 60.0
"""A copy that was made ahead waits for so long to be wanted."""
COPY_AT_ONCE = 64 << 20
"""Between two such pieces a copy can be given up."""
_WHOLE = 64
"""The length of a digest in hex, which is the name of a content that is whole."""


class BadContent(ValueError):
    """Bytes that are not what their digest says."""


class NoContent(LookupError):
    """Nothing of this digest waits here."""


class Staging:
    """The staging area of one root. Contents come from several threads."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.disk = folder.disk
        self.at: At = folder.own("staging")
        self._lock = threading.Lock()
        self._memory: Dict[bytes, bytes] = {}
        self._memory_size = 0
        self._needed: Dict[bytes, int] = {}
        """How often a small content was sent and not yet put in place."""
        self._ready: Set[bytes] = set()
        self._serial = 0
        self._clone: Optional[Clone] = None
        self._clean()

    def close(self) -> None:
        self._drop_clone()
        self.disk.close_dir(self.at)

    def new_name(self) -> str:
        """For a file on its way to its place; the area is ours alone and was empty at first."""
        self._serial += 1
        return f"new.{self._serial}"

    def has(self, digest: bytes) -> bool:
        return digest in self._memory or digest in self._ready

    def keep(self, digest: bytes, data: bytes) -> None:
        """Take in a small content. Raises BadContent, OSError."""
        if hashlib.sha256(data).digest() != digest:
            raise BadContent("content that is not what its digest says")
        with self._lock:
            self._needed[digest] = self._needed.get(digest, 0) + 1
            if self.has(digest):
                return
            if self._memory_size + len(data) <= MEMORY:
                self._memory[digest] = data
                self._memory_size += len(data)
                return
        with Incoming(self, Content(digest, len(data))) as incoming:
            incoming.write(data)
            incoming.finish()

    def resumes_at(self, content: Content) -> int:
        """How many bytes of a content are here already; its size when it is whole."""
        if self.has(content.digest):
            return content.size
        try:
            return min(self.disk.lstat(_part(content.digest), self.at).st_size, content.size)
        except FileNotFoundError:
            return 0

    def receive(self, content: Content, clone: Optional[Clone] = None) -> Incoming:
        """Write a big content piece by piece, into a clone if there is one. Raises OSError."""
        return Incoming(self, content, clone)

    def clone(self, source: int, size: int, stamp: bytes) -> None:
        """Begin to copy an open file, and close it; the last one that nobody took goes."""
        self._drop_clone()
        self._clone = Clone(self, source, size, stamp)

    def take_clone(self, stamp: bytes) -> Optional[Clone]:
        """The whole copy of the file with this stat record, if there is one."""
        clone = self._clone
        if clone is None or clone.stamp != stamp:
            return None
        self._clone = None
        return clone if clone.take() else None

    def _drop_clone(self) -> None:
        clone, self._clone = self._clone, None
        if clone is not None:
            clone.drop()

    def place(self, digest: bytes, at: At, name: str, mode: int, *, last: bool) -> os.stat_result:
        """Make the new file `at`/`name` with this content; `last`: nobody else needs it.

        Raises NoContent, OSError. A file that is left half-written is removed.
        """
        data = self._memory.get(digest)
        if data is not None:
            return self._write_new(at, name, data, mode)
        if digest not in self._ready:
            raise NoContent(digest.hex())
        if last:
            self.disk.rename_new(digest.hex(), self.at, name, at)
            self._ready.discard(digest)
            self._set_mode(at, name, mode)
        else:
            source = self.disk.open(digest.hex(), READ, self.at)
            try:
                self.copy_new(source, at, name, mode, digest)
            finally:
                self.disk.close(source)
        return self.disk.lstat(name, at)

    def copy_new(self, source: int, at: At, name: str, mode: int, digest: bytes) -> None:
        """Make a new file from an open one. Raises NoContent if that holds something else."""
        engine = Digest(self.disk.fstat(source).st_size)
        fd = self.disk.open(name, CREATE, at, mode)
        try:
            for block in read_blocks(self.disk, source, BLOCK):
                engine.update(block)
                write_all(self.disk, fd, block)
            if engine.digest() != digest:
                raise NoContent("the file to copy from is another one by now")
        except BaseException:
            self.disk.close(fd)
            self.disk.unlink(name, at)
            raise
        self.disk.close(fd)

    def read(self, digest: bytes, limit: int) -> bytes:
        """A content that came to be looked at. Raises NoContent, OSError above `limit` bytes."""
        data = self._memory.get(digest)
        if data is not None:
            return data
        if digest not in self._ready:
            raise NoContent(digest.hex())
        return read_small(self.disk, digest.hex(), self.at, limit)

    def spent(self, digests: Set[bytes]) -> None:
        """A batch has put these contents in place; they go unless they came for another one too."""
        with self._lock:
            for digest in digests:
                self._needed[digest] = self._needed.get(digest, 0) - 1
                if self._needed[digest] > 0:
                    continue
                del self._needed[digest]
                self._memory_size -= len(self._memory.pop(digest, b""))
                if digest in self._ready:
                    self._ready.discard(digest)
                    self.disk.unlink(digest.hex(), self.at)

    def finished(self, name: str, digest: bytes) -> None:
        """A part is whole and verified: it gets its final name."""
        with self._lock:
            self.disk.replace(name, self.at, digest.hex(), self.at)
            self._ready.add(digest)

    def _write_new(self, at: At, name: str, data: bytes, mode: int) -> os.stat_result:
        fd = self.disk.open(name, CREATE, at, mode)
        try:
            if data:
                write_all(self.disk, fd, data)
            found = self.disk.fstat(fd)
        except BaseException:
            self.disk.close(fd)
            self.disk.unlink(name, at)
            raise
        self.disk.close(fd)
        return found

    def _set_mode(self, at: At, name: str, mode: int) -> None:
        """As if it had been created with `mode`: parts are made 0600."""
        fd = self.disk.open(name, READ, at)
        try:
            self.disk.chmod(fd, mode & ~_umask())
        finally:
            self.disk.close(fd)

    def _clean(self) -> None:
        """Drop what an earlier session left, but for big contents, which may be resumed.

        A whole one becomes a part again: what a crash left of it shows when it is hashed anew.
        """
        now = self.disk.now()
        with self.disk.scandir(self.at) as found:
            names = [item.name for item in found]
        for name in names:
            if len(name) == _WHOLE:
                self.disk.replace(name, self.at, name + PART, self.at)
            elif not name.endswith(PART) or self._age(name, now) > PART_LIFE_S:
                self.disk.unlink(name, self.at)

    def _age(self, name: str, now: float) -> float:
        return now - self.disk.lstat(name, self.at).st_mtime


class _Known(bytes):
    """Digests of blocks, where everything else that is hashed is content."""


class _Digest:
    """For long contents in a thread of its own, so that writing goes on meanwhile."""

    def __init__(self, size: int) -> None:
        self._engine = Digest(size)
        self._work: Optional[queue.Queue[Any]] = None
        if size >= THREAD_FROM:
            self._work = queue.Queue(DEPTH)
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def update(self, data: Any) -> None:
        if self._work is None:
            self._take(data)
        else:
            self._work.put(data)

    def end(self) -> Digest:
        """What was counted, once all of it is."""
        if self._work is not None:
            self._work.put(None)
            self._thread.join()
            self._work = None
        return self._engine

    def _take(self, data: Any) -> None:
        if isinstance(data, _Known):
            self._engine.take(data)
        else:
            self._engine.update(data)

    def _run(self) -> None:
        assert self._work is not None
        work = self._work
        while True:
            data = work.get()
            if data is None:
                return
            self._take(data)


class Clone:
    """A copy of an earlier version, made while the new one is still being read elsewhere.

    It becomes the new version by being written to. What nobody takes goes after a while.
    """

    def __init__(self, staging: Staging, source: int, size: int, stamp: bytes) -> None:
        self.size = size
        self.stamp = stamp
        self.fd = -1
        self._disk = staging.disk
        self._at = staging.at
        self._change = threading.Condition()
        self._ended = False
        self._whole = False
        self._wanted = False
        self._dropped = False
        self._thread = threading.Thread(target=self._run, args=(source,), daemon=True)
        self._thread.start()

    def take(self) -> bool:
        """Wait for it; whether it is whole: then it is the caller's."""
        with self._change:
            self._wanted = True
            self._change.notify_all()
            self._change.wait_for(lambda: self._ended)
            return self._whole

    def drop(self) -> None:
        with self._change:
            self._dropped = self._wanted = True
            self._change.notify_all()
        self._thread.join()

    def _run(self, source: int) -> None:
        whole = self._copy(source)
        with self._change:
            self._ended, self._whole = True, whole
            self._change.notify_all()
            self._change.wait_for(lambda: self._wanted, CLONE_LIFE_S)
            self._whole = kept = whole and self._wanted and not self._dropped
        if not kept and self.fd >= 0:
            self._disk.close(self.fd)
            self._disk.unlink(CLONE, self._at)

    def _copy(self, source: int) -> bool:
        """Whether all of it could be copied."""
        try:
            self.fd = self._disk.open(CLONE, CREATE, self._at)
            done = 0
            while done < self.size and not self._dropped:
                done += _copy_some(self._disk, source, done, self.size - done, self.fd, done)
            self._disk.seek(self.fd, 0)
            return done == self.size
        except (OSError, BadContent):
            return False
        finally:
            self._disk.close(source)


class Incoming:
    """A big content on its way in, from where an earlier try broke off. One thread."""

    def __init__(self, staging: Staging, content: Content, clone: Optional[Clone] = None) -> None:
        self._staging = staging
        self._disk = staging.disk
        self._content = content
        self._engine = _Digest(content.size)
        self._done = 0
        self._fd: Optional[int] = None
        self.blocks: Optional[Blocks] = None
        """Of a big content that is whole."""
        self._name = name = _part(content.digest)
        self._cloned = 0
        if clone is not None:
            self._name, self._fd, self._cloned = CLONE, clone.fd, clone.size
        elif content.start:
            self._fd = self._disk.open(name, REOPEN, staging.at)
            try:
                self._resume(content.start)
            except BaseException:
                self.close()
                raise
        else:
            try:
                self._disk.unlink(name, staging.at)
            except FileNotFoundError:
                pass
            self._fd = self._disk.open(name, CREATE, staging.at)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def write(self, data: Any) -> None:
        """The next bytes. Raises BadContent for more than announced, OSError."""
        assert self._fd is not None
        self._done += len(data)
        if self._done > self._content.size:
            raise BadContent("more content than announced")
        self._engine.update(data)
        write_all(self._disk, self._fd, data)

    def copy(self, source: int, start: int, size: int, known: Optional[Blocks] = None) -> None:
        """The next bytes, out of an open file here. `known`: what that file holds, for sure."""
        assert self._fd is not None
        if known is not None and self._is_whole(known, start, size):
            self._copy_known(source, start, size, known)
            return
        self._disk.seek(source, start)
        while size:
            block = self._disk.read(source, min(size, BLOCK))
            if not block:
                raise BadContent("the file to copy from is shorter by now")
            self.write(block)
            size -= len(block)

    def finish(self) -> None:
        """All has come: verify it and let it wait. Raises BadContent, and drops the part then."""
        whole = self._done == self._content.size
        counted = self._engine.end()
        if not whole or counted.digest() != self._content.digest:
            self.close()
            self._disk.unlink(self._name, self._staging.at)
            raise BadContent("content that is not what its digest says")
        self.close()
        self.blocks = counted.blocks()
        self._staging.finished(self._name, self._content.digest)

    def close(self) -> None:
        """What has come so far stays, to be resumed."""
        self._engine.end()
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            if self._cloned:
                self._end_clone(fd)
        finally:
            self._disk.close(fd)

    def _end_clone(self, fd: int) -> None:
        """It is a part like any other now."""
        self._disk.truncate(fd, self._done)
        part = _part(self._content.digest)
        self._disk.replace(self._name, self._staging.at, part, self._staging.at)
        self._name = part

    def _is_whole(self, known: Blocks, start: int, size: int) -> bool:
        """Whether a range of the old version is blocks of the new one."""
        old_end, end = start + size, self._done + size
        ends = not size % BLOCK or (old_end == known.size and end == self._content.size)
        inside = old_end <= known.size and end <= self._content.size
        return ends and inside and not start % BLOCK and not self._done % BLOCK

    def _copy_known(self, source: int, start: int, size: int, known: Blocks) -> None:
        """Nothing of it is read: its digests are known, and the kernel copies."""
        assert self._fd is not None
        end = self._done + size
        if start == self._done and end <= self._cloned:
            self._done = end  # it is here
        while self._done < end:
            at, left = start + size - (end - self._done), end - self._done
            self._done += _copy_some(self._disk, source, at, left, self._fd, self._done)
        self._disk.seek(self._fd, self._done)
        last = -(-(start + size) // BLOCK)
        self._engine.update(_Known(known.some(start // BLOCK, last)))

    def _resume(self, start: int) -> None:
        """Hash what is here. What a crash may have zeroed shows at the end, by the digest."""
        assert self._fd is not None
        if self._disk.fstat(self._fd).st_size < start:
            raise OSError(errno.ESPIPE, "less is here than was said")
        self._disk.truncate(self._fd, start)
        while self._done < start:
            block = self._disk.read(self._fd, min(BLOCK, start - self._done))
            if not block:
                raise OSError(errno.EIO, "a part that cannot be read back")
            self._engine.update(block)
            self._done += len(block)


def _copy_some(disk: Disk, source: int, start: int, size: int, target: int, at: int) -> int:
    """Copy inside the kernel where it can; how many bytes it were. Raises BadContent, OSError."""
    copied = disk.copy_range(source, start, min(size, COPY_AT_ONCE), target, at)
    if copied:
        return copied
    disk.seek(source, start)
    disk.seek(target, at)
    block = disk.read(source, min(size, BLOCK))
    if not block:
        raise BadContent("the file to copy from is shorter by now")
    write_all(disk, target, block)
    return len(block)


def new_file_mode(executable: bool) -> int:
    """What a new file is made with; the umask takes its share."""
    return 0o777 if executable else 0o666


def replaced_file_mode(old: int, executable: bool) -> int:
    """The mode of a file that takes the place of one with mode `old`."""
    bits = stat.S_IMODE(old)
    if executable:
        return bits | ((0o100 | ((bits & 0o444) >> 2)) & ~_umask())
    return bits & ~0o111


_UMASK: Dict[str, int] = {}


def _umask() -> int:
    """Read once, at a moment when no thread creates files: there is no call that only reads it."""
    if "umask" not in _UMASK:
        current = os.umask(0o077)
        os.umask(current)
        _UMASK["umask"] = current
    return _UMASK["umask"]


def _part(digest: bytes) -> str:
    return digest.hex() + PART
