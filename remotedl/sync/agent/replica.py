"""One of the two folders: opened, locked, scanned, read from and changed. Both sides use it.

It knows nothing of the other side and of what is wanted. One thread at a time, but for `staging`
and `open_content`, which transfers call from threads of their own.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set

from remotedl.sync.agent import cache
from remotedl.sync.agent.apply import Applier, Outcome
from remotedl.sync.agent.blocks import Changed
from remotedl.sync.agent.disk import CREATE, READ, At, Disk, this_disk
from remotedl.sync.agent.folder import OWN, Folder, FolderReplaced, Way
from remotedl.sync.agent.ignore import Ignore
from remotedl.sync.agent.scan import Limits, Scanner, stamp_of
from remotedl.sync.agent.staging import Staging
from remotedl.sync.agent.trash import Trash
from remotedl.sync.agent.tree import Change, Entry, Folding, Issue, Kind, Side, Traits

PROBE = "probe"
COOKIE = "cookie-"


class Source(NamedTuple):
    """An open file whose content is `entry`'s, if its stat record stays as it is."""

    fd: int
    found: os.stat_result


class Replica:
    """An open replica. Close it."""

    def __init__(
        self,
        path: str,
        ignore: Ignore,
        *,
        disk: Optional[Disk] = None,
        limits: Limits = Limits(),  # noqa: B008
        holder: Optional[Dict[str, str]] = None,
        create: bool = False,
        last_boot: str = "",
        corner: str = "",
        expected: Optional[str] = None,
    ) -> None:
        """`last_boot`: the machine's boot id at the last session, if whoever opens it knows.
        `expected`: the marker that the root must have; nothing is made in any other one.

        Raises FolderGone, FolderReplaced, FolderBusy, OSError.
        """
        self.disk = this_disk() if disk is None else disk
        self.created = create and not os.path.lexists(os.path.expanduser(path))
        if self.created:
            os.makedirs(os.path.expanduser(path))
        self.folder = Folder(path, self.disk, corner)
        try:
            if expected is not None and not self.created:
                marker = self.folder.marker()
                if marker != expected:
                    raise FolderReplaced(marker)
            self.folder.lock(holder or {})
            self.folder.hide_own()
            self.boot = self.disk.boot_id()
            self.scanner = Scanner(self.folder, ignore, limits=limits)
            self._probe()
            self.saved = cache.load(self.scanner, self.boot)
            self._last_boot = self.saved.boot if self.saved is not None else last_boot
            self._note_crash()
            self.staging = Staging(self.folder)
            self.trash = Trash(self.folder)
        except BaseException:
            self.folder.close()
            raise
        self.applier = Applier(self.folder, self.scanner, self.staging, self.trash)
        self._saved_edits = 0

    def close(self) -> None:
        self.staging.close()
        self.trash.close()
        self.folder.close()

    @property
    def side(self) -> Side:
        return self.scanner.side

    def marker(self) -> Optional[str]:
        """The root's id, read anew. Raises FolderGone."""
        self.folder.check()
        return self.folder.marker()

    def scan(self) -> Set[str]:
        return self.scanner.scan()

    def look(self, paths: Iterable[str]) -> Set[str]:
        return self.scanner.look(paths)

    def apply(
        self, changes: Sequence[Change], step: str, reasons: Optional[Sequence[str]] = None
    ) -> List[Outcome]:
        return self.applier.apply(changes, step, reasons)

    def sync(self) -> None:
        """Have all that stands here survive a power cut, where there is such a call.

        Raises OSError.
        """
        self.disk.syncfs(self.folder.top)

    def _note_crash(self) -> None:
        """The machine was started anew since the last session."""
        if not self._last_boot or self._last_boot == self.boot:
            return
        started = self.disk.booted_at()
        if started is not None:
            self.scanner.crashed_ns = int(started * 1e9) + self.scanner.skew_ns

    def save(self, notes: Optional[Dict[str, Any]] = None) -> None:
        """Keep the picture for the next session. Raises OSError."""
        if not self.unsaved and not notes:
            return
        boot = self.boot
        if self.holds_zeroed:
            boot = self._last_boot  # what a crash emptied must be known as such next time too
        cache.save(self.scanner, boot, notes or {})
        self._saved_edits = self.scanner.edits

    @property
    def unsaved(self) -> bool:
        """Whether the picture is not as it was saved, or was saved before the machine started."""
        same_boot = self.saved is not None and self.saved.boot == self.boot
        return not same_boot or self.scanner.edits != self._saved_edits

    @property
    def holds_zeroed(self) -> bool:
        """Whether something stands there that a crash of the machine emptied."""
        return Issue.ZEROED in self.scanner.issues.values()

    def set_rules(self, ignore: Ignore) -> None:
        """Other ignore rules from the next scan on."""
        self.scanner.ignore = ignore
        self.scanner.judged = False

    def open_content(self, path: str) -> Source:
        """Open a file to send it. Raises OSError; the caller closes `fd`."""
        with Way(self.folder) as way:
            at, name = way.parent(path)
            fd = self.disk.open(name, READ, at)
        try:
            found = self.disk.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise Changed(errno.EAGAIN, "no file any more", path)
        except BaseException:
            self.disk.close(fd)
            raise
        return Source(fd, found)

    def unchanged(self, source: Source) -> bool:
        """Whether what was read from it is one state of the file."""
        return stamp_of(self.disk.fstat(source.fd)) == stamp_of(source.found)

    def write_cookie(self, name: str) -> None:
        """Make an event that the watcher must see: everything before it has been seen then."""
        at = self.folder.shared()
        try:
            fd = self.disk.open(COOKIE + name, CREATE, at)
            self.disk.close(fd)
            self.disk.unlink(COOKIE + name, at)
        finally:
            self.disk.close_dir(at)

    def _probe(self) -> None:
        """Try out what this filesystem can do, in our own corner."""
        at = self.folder.own()
        try:
            _clear_probes(self.disk, at)
            self._probe_at(at)
            _clear_probes(self.disk, at)
        finally:
            self.disk.close_dir(at)

    def _probe_at(self, at: At) -> None:
        disk = self.disk
        fd = disk.open(PROBE + "-\u00e9a", CREATE, at, 0o700)
        try:
            before = disk.now()
            disk.write(fd, b"?")
            found = disk.fstat(fd)
            self.scanner.skew_ns = found.st_mtime_ns - int(before * 1e9)
            if abs(self.scanner.skew_ns) < 1_000_000_000:
                self.scanner.skew_ns = 0
            # A umask that takes the owner's x bit is taken at its word, as a disk that keeps none.
            executable = bool(found.st_mode & stat.S_IXUSR)
            disk.chmod(fd, 0o600)
            executable = executable and not disk.fstat(fd).st_mode & stat.S_IXUSR
        finally:
            disk.close(fd)
        folding = Folding(
            case_insensitive=_exists(disk, PROBE + "-\u00e9A", at),
            normalising=_exists(disk, PROBE + "-e\u0301a", at),
        )
        try:
            disk.symlink("?", PROBE + "-link", at)
            links = True
        except (OSError, NotImplementedError):
            links = False
        self.scanner.traits = Traits(
            folding, executable=executable, links=links, windows_names=os.name == "nt"
        )


def _exists(disk: Disk, name: str, at: At) -> bool:
    try:
        disk.lstat(name, at)
    except OSError:
        return False
    return True


def _clear_probes(disk: Disk, at: At) -> None:
    for name in (PROBE + "-\u00e9a", PROBE + "-link"):
        try:
            disk.unlink(name, at)
        except FileNotFoundError:
            pass


def is_own(path: str) -> bool:
    """Whether a path lies in our own corner."""
    return path == OWN or path.startswith(OWN + "/")


def is_cookie(path: str) -> Optional[str]:
    """The cookie that an event's path names."""
    prefix = OWN + "/" + COOKIE
    return path[len(prefix) :] if path.startswith(prefix) else None


def wants_content(entry: Optional[Entry]) -> bool:
    return entry is not None and entry.kind is Kind.FILE
