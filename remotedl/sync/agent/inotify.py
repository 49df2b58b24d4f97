"""Linux's inotify by ctypes: which paths below a root somebody changed.

Directories are watched one by one, as the scanner is about to list them, so that ignored ones
cost nothing and nothing is missed between the watch and the listing. Reading causes no event.
What comes out are hints; a lost one costs time, never data.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import threading
from typing import Any, Callable, Dict, List, Optional

from remotedl.sync.agent.hints import ROOT, Hint

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_DONT_FOLLOW = 0x2000000
IN_EXCL_UNLINK = 0x4000000
IN_ISDIR = 0x40000000

MASK = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
    | IN_ONLYDIR
    | IN_DONT_FOLLOW
    | IN_EXCL_UNLINK
)
GONE = IN_MOVED_FROM | IN_DELETE
SELF = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT

_EVENT = struct.Struct("iIII")
_BUFFER = 1 << 16

Tell = Callable[[str, Hint], None]


class Unwatchable(OSError):
    """The kernel gives us no (further) watch; `sysctl` names the knob."""

    def __init__(self, number: int, sysctl: str) -> None:
        super().__init__(number, os.strerror(number))
        self.sysctl = sysctl


class Watcher:
    """Watches directories below `root` and tells hints from a thread of its own."""

    def __init__(self, root: str, tell: Tell) -> None:
        """Raises Unwatchable."""
        self._root = root
        self._tell = tell
        self._libc = _libc()
        self._fd = int(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self._fd < 0:
            number = _errno()
            raise Unwatchable(number, "fs.inotify.max_user_instances")
        self._lock = threading.Lock()
        self._paths: Dict[int, str] = {}
        self._watches: Dict[str, int] = {}
        self.limited: Optional[Unwatchable] = None
        """Why some directories are not watched."""
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._run, name="inotify", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._woken)
        self._thread.join()
        os.close(self._wake)
        os.close(self._fd)

    def watch(self, path: str) -> None:
        """Watch a directory; again and again is fine. What cannot be watched is noted."""
        if self.limited is not None:
            return
        full = os.path.join(self._root, path) if path else self._root
        with self._lock:
            number = int(self._libc.inotify_add_watch(self._fd, os.fsencode(full), MASK))
            if number < 0:
                failed = _errno()
                if failed in (errno.ENOSPC, errno.ENOMEM):
                    self.limited = Unwatchable(failed, "fs.inotify.max_user_watches")
                return
            before = self._watches.get(path)
            if before == number:
                return
            if before is not None:
                self._drop(before)
            moved = self._paths.get(number)
            if moved is not None and self._watches.get(moved) == number:
                del self._watches[moved]
            self._paths[number] = path
            self._watches[path] = number

    def __len__(self) -> int:
        return len(self._paths)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN | select.POLLHUP)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._wake in ready:
                return
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                continue
            self._take(data)

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            self._event(number, mask, name)

    def _event(self, number: int, mask: int, name: str) -> None:
        if mask & IN_Q_OVERFLOW:
            self._tell(ROOT, Hint.CHANGED)
            return
        with self._lock:
            folder = self._paths.get(number)
            if mask & IN_IGNORED:
                self._forget(number)
                return
        if folder is None:
            return
        if mask & SELF:
            # The parent tells about the name; only the root has no parent that we watch.
            if folder == "":
                self._tell(ROOT, Hint.CHANGED)
            return
        path = folder + "/" + name if folder and name else folder or name
        if mask & IN_ISDIR and mask & GONE:
            self._drop_below(path)
        self._tell(path, _hint(mask))

    def _drop_below(self, path: str) -> None:
        """A directory moved away: what is watched below it has another path now, or none."""
        with self._lock:
            below = path + "/"
            for watched in [p for p in self._watches if p == path or p.startswith(below)]:
                self._drop(self._watches[watched])

    def _drop(self, number: int) -> None:
        self._libc.inotify_rm_watch(self._fd, number)
        self._forget(number)

    def _forget(self, number: int) -> None:
        path = self._paths.pop(number, None)
        if path is not None and self._watches.get(path) == number:
            del self._watches[path]


def _hint(mask: int) -> Hint:
    if mask & GONE:
        return Hint.GONE
    if mask & IN_MODIFY:
        return Hint.WRITTEN
    return Hint.CHANGED


_LIBC: List[Any] = []


def _libc() -> Any:
    if not _LIBC:
        import ctypes

        _LIBC.append(ctypes.CDLL(None, use_errno=True))
    return _LIBC[0]


def _errno() -> int:
    import ctypes

    return ctypes.get_errno()
