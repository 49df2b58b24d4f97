"""What stands below a root: listing, lstat, digests. It only ever reads.

`Scanner` keeps the last picture and brings it up to date: `scan` looks at everything, `look` at
some paths. Content is read only where the stat record is not the one that the digest was made
from. What cannot be seen for sure becomes an issue of its path, never an absence.

Decision: an absence is believed only after a complete listing of the parent. Alternative: ENOENT
of one lstat. Reason: a listing that fails half-way and a mount that went away look the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import threading
from typing import (
    Callable,
    Collection,
    Deque,
    Dict,
    Iterable,
    List,
    Mapping,
    MutableMapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from remotedl.sync.agent.blocks import Changed, Marks, hash_file
from remotedl.sync.agent.digest import FROM, SIZE, digest_of_zeros
from remotedl.sync.agent.disk import READ, At, Disk
from remotedl.sync.agent.folder import OWN, Folder, Way
from remotedl.sync.agent.growth import Growths
from remotedl.sync.agent.ignore import Ignore
from remotedl.sync.agent.packed import Packed, pack
from remotedl.sync.agent.tree import (
    DIR,
    Entry,
    Issue,
    Kind,
    Side,
    Traits,
    Tree,
    parents,
    share,
)
from remotedl.sync.agent.tree import key as key_of
from remotedl.sync.agent.tree import parent as parent_of

STAMP = struct.Struct("<QQqqqI")
"""dev, ino, size, mtime_ns, ctime_ns, mode: equal means the same content, unless racy."""
_UNSIGNED = (1 << 64) - 1
RACY_NS = 2_000_000_000
"""A stamp this close to the reading may hide a later write."""
EMPTIED_NS = 2_000_000_000
"""A file that became empty is believed after this long: Jupyter truncates, then writes."""
RESTED_NS = 3_000_000_000
"""A big file that some process holds open for writing is read when it rested for so long."""
ABSENT_NS = 100_000_000
"""A name that went away this recently is looked at once more: editors save by renaming."""
RETRY_NS = 250_000_000
"""An unstable file is looked at again after so long."""
BIG = 1 << 20
SMALL = 1 << 17
"""Up to here a file is read in one go, and handed to whoever wants its content."""
PREPARE_FROM = 1 << 26
"""From here on a file that changes is worth a word to the other side before all is read."""
SIDECARS = ("-wal", "-shm", "-journal")
DATABASE = b"SQLite format 3\0"
PILE = 32
"""Files that one thread reads before it asks for more."""

Reader = Callable[[str, Entry, bytes], None]
"""Told of a small file's content when it is read for its digest: key, entry, bytes."""


class Limits(NamedTuple):
    """How much a scan may cost."""

    threads: int = 2
    hash_below: Optional[int] = None
    """A file of more bytes gets a digest of its stamp in place of its content's (`guess`)."""


class Job(NamedTuple):
    """A file or link whose content must be read."""

    path: str
    key: str
    found: os.stat_result
    stamp: bytes


class _Zeroed(Exception):
    """A file that a crash of the machine emptied."""


def stamp_of(found: os.stat_result) -> bytes:
    """Any stat record has one: what takes more bits than there are keeps its lower ones."""
    given = (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_mode,
    )
    try:
        return STAMP.pack(*given)
    except struct.error:  # a time after 2262 or before 1678, an inode of 128 bits
        dev, ino, size, mtime, ctime, mode = given
        return STAMP.pack(
            dev & _UNSIGNED, ino & _UNSIGNED, _signed(size), _signed(mtime), _signed(ctime), mode
        )


def _signed(value: int) -> int:
    return ((value + (1 << 63)) & _UNSIGNED) - (1 << 63)


def is_racy(found: os.stat_result, now_ns: int) -> bool:
    """Whether a write right after the reading could leave this same stamp.

    Stamps that lie in the future are sound: the next write sets them to now.
    """
    return abs(now_ns - found.st_ctime_ns) < RACY_NS or abs(now_ns - found.st_mtime_ns) < RACY_NS


def guess(stamp: bytes) -> bytes:
    """Stands for the digest of a file that is too big to be read for nothing."""
    return hashlib.sha256(b"remotedl: not read\0" + stamp).digest()


class Scanner:
    """The picture of one root. One thread at a time."""

    def __init__(
        self,
        folder: Folder,
        ignore: Ignore,
        *,
        traits: Traits = Traits(),  # noqa: B008
        limits: Limits = Limits(),  # noqa: B008
    ) -> None:
        self.folder = folder
        self.disk = folder.disk
        self.ignore = ignore
        self.traits = traits
        self.limits = limits
        self.tree: Tree = {}
        self.issues: Dict[str, Issue] = {}
        self.spelling: Dict[str, str] = {}
        self.holding: Set[str] = set()
        self.twins: Dict[str, Tuple[str, ...]] = {}
        """By key, the paths of names that differ in their Unicode form alone."""
        self.stamps: MutableMapping[str, bytes] = {}
        """By key, of every file and link in the tree."""
        self.again: Dict[str, int] = {}
        """Keys whose stamp is not to be trusted, and when to look again (ns)."""
        self.missing: Dict[str, int] = {}
        """Keys that are in the tree still and were not found, and since when (ns)."""
        self.on_read: Optional[Reader] = None
        """Told of every small file that is read; from several threads."""
        self.on_similar: Optional[Callable[[str, Entry], None]] = None
        """Told, while a big file is read, that it is much as it was: key, entry as it was."""
        self.known: Optional[Deque[str]] = None
        """Where there is one, keys go in as soon as the picture holds them, parents first."""
        self.listed = threading.Event()
        """Set once a look has listed all; contents are still to be read."""
        self.files_listed = 0
        self.on_dir: Optional[Callable[[str], None]] = None
        """Told of every directory right before it is listed, so that it can be watched."""
        self.marks = Marks()
        self.placed: Set[str] = set()
        """Keys of what was put in place for the other side; whoever wants to know clears it."""
        self.believed: Optional[Set[str]] = None
        """During a look: keys of which something newer is known than what the look listed."""
        self.growths = Growths()
        self.growing: Dict[str, bytes] = {}
        """Logs that are being written, by key, and the digest of what was last seen of them."""
        self.judged = True
        """Whether all of `stamps` was found not to be ignored by the rules of now."""
        self.unsettled = 0
        """What the look of now has found changed, and what it has still to read."""
        self.on_pile: Optional[Callable[[], None]] = None
        """Called again and again while contents are read, from the thread that looks; the picture
        is as sound as between two looks then."""
        self.edits = 0
        """Counts changes of the picture."""
        self.sure: Set[str] = set()
        """Keys whose content is read however big they are."""
        self.crashed_ns: Optional[int] = None
        """When the machine was started, if the picture is from before that."""
        self.agreed: Mapping[str, Entry] = {}
        """What both sides agreed on, where this side knows that."""
        self.skew_ns = 0
        """How far this filesystem's clock is ahead of ours."""

    @property
    def side(self) -> Side:
        return Side(self.tree, self.issues, self.spelling, self.holding, self.traits, self.twins)

    def now_ns(self) -> int:
        return int(self.disk.now() * 1e9) + self.skew_ns

    def scan(self) -> Set[str]:
        """Look at everything; the keys whose entry or issue changed. Raises FolderGone.

        Takes 0.1 s longer where names went away a moment ago.
        """
        self.folder.check()
        changed = self._renew([""])
        self.judged = True
        return changed | self.look_for_missing()

    def look_for_missing(self) -> Set[str]:
        """Names that went away a moment ago get their time to come back, and are then believed.

        Raises FolderGone.
        """
        if not self.missing:
            return set()
        self.disk.pause(ABSENT_NS / 1e9)
        return self._renew([self._path(key) for key in self.missing])

    def look(self, paths: Iterable[str]) -> Set[str]:
        """Look at these paths, and below them; the keys whose entry or issue changed.

        A path is a hint: what stands there is looked up. Raises FolderGone.
        """
        self.folder.check()
        return self._renew(topmost(paths))

    def look_again(self) -> Set[str]:
        """Look at what was racy, unstable or missing and is due now."""
        now = self.now_ns()
        due = [self._path(key) for key, when in self.again.items() if when <= now]
        return self.look(due) if due else set()

    def next_due(self) -> Optional[float]:
        """In how many seconds `look_again` has something to do; None: never."""
        if not self.again:
            return None
        return max(0.0, (min(self.again.values()) - self.now_ns()) / 1e9)

    def look_for_sure(self, keys: Iterable[str]) -> Set[str]:
        """Look at these keys and read their content, however big. Raises FolderGone."""
        wanted = [key for key in keys if key in self.tree]
        self.sure.update(wanted)
        self.again.update(dict.fromkeys(wanted, 0))
        return self.look([self._path(key) for key in wanted])

    def trusts(self, key: str, found: os.stat_result) -> bool:
        """Whether the tree's entry is what a file of this stat record holds."""
        return key not in self.again and self.stamps.get(key) == stamp_of(found)

    def believe(
        self, key: str, path: str, entry: Entry, found: os.stat_result, *, placed: bool = False
    ) -> None:
        """Record what stands there, by its stat record after the content was read.

        `placed`: we wrote it, out of anybody's reach, and then renamed it to its place. Where the
        rename shows in its times, a write by somebody else since would show too.
        """
        self.edits += 1
        self.issues.pop(key, None)
        self.missing.pop(key, None)
        self.again.pop(key, None)
        self.tree[key] = entry
        if self.growing and self.growing.get(key) != entry.digest:
            self.growing.pop(key, None)
        self._spell(path, key)
        if entry.kind is Kind.DIR:
            self.stamps.pop(key, None)
            return
        self.stamps[key] = stamp = stamp_of(found)
        if self.believed is not None:
            self.believed.add(key)
        now = self.now_ns()
        if placed:
            self.placed.add(key)
        if not (placed and found.st_mtime_ns < found.st_ctime_ns) and is_racy(found, now):
            self.again[key] = now + RACY_NS
        elif entry.size >= FROM and entry.digest is not None:
            self.marks.stands(stamp, entry.digest)

    def forget(self, key: str) -> None:
        """Nothing stands at `key` any more."""
        self.edits += 1
        self.tree.pop(key, None)
        self.growing.pop(key, None)
        self.stamps.pop(key, None)
        self.issues.pop(key, None)
        self.missing.pop(key, None)
        self.again.pop(key, None)
        self.holding.discard(key)
        if self.spelling:
            self.spelling.pop(key, None)

    def pack(self) -> None:
        """Take less memory, where that is worth it."""
        self.tree, self.stamps = pack(self.tree, self.stamps, STAMP.size)

    def share(self, other: Mapping[str, Entry]) -> None:
        """Hold what another tree holds too as the same objects."""
        if isinstance(self.tree, Packed):
            return
        share(self.tree, other)
        keys = {key: key for key in self.tree}
        stamps = list(self.stamps.items())
        self.stamps.clear()
        self.stamps.update((keys.get(key, key), stamp) for key, stamp in stamps)

    def _path(self, key: str) -> str:
        return self.spelling.get(key, key)

    def _spell(self, path: str, key: str) -> None:
        if path != key:
            self.spelling[key] = path
        elif self.spelling:
            self.spelling.pop(key, None)

    def _renew(self, tops: Collection[str]) -> Set[str]:
        look = _Look(self)
        outermost = self.believed is None
        if outermost:
            self.believed = set()
        self.unsettled = len(tops)
        try:
            with Way(self.folder) as way:
                for top in tops:
                    look.at(way, top)
            look.read_contents()
        finally:
            self.unsettled = 0
            if outermost:
                self.believed = None
        return look.changed


class _Look:
    """One pass over some subtrees: what it finds goes into the scanner's picture."""

    def __init__(self, scanner: Scanner) -> None:
        self._own = scanner
        self._disk = scanner.disk
        self._device = scanner.folder.identity.dev
        self._now = scanner.now_ns()
        self._jobs: List[Job] = []
        self._names: Dict[str, Set[str]] = {}
        self._seen: Set[str] = set()
        self._fresh: Set[str] = set()
        """Keys of dirs whose names changed a moment ago."""
        self._issues_before: Dict[str, Optional[Issue]] = {}
        self._changed: Set[str] = set()
        self._lock = threading.Lock()

    @property
    def changed(self) -> Set[str]:
        """Keys whose entry or issue is not what it was."""
        issues = self._own.issues
        different = {key for key, was in self._issues_before.items() if issues.get(key) != was}
        return self._changed | different

    def at(self, way: Way, path: str) -> None:
        """Bring the picture of `path` and all below it up to date."""
        if path == OWN or path.startswith(OWN + "/"):
            return
        self._seen = set()
        if not path:
            self._forget_issues("")
            self._own.holding.clear()
            self._walk(way, "", "")
            self._drop("")
            return
        key = key_of(path)
        try:
            at, name = way.parent(path)
            found = self._disk.lstat(name, at)
        except OSError as exc:
            self._not_found(way, path, exc)
            return
        directory = stat.S_ISDIR(found.st_mode)
        self._forget_issues(key)
        if self._own.ignore.ignores(key, directory):
            self._own.holding.add(parent_of(key))
        elif name.endswith(SIDECARS) and self._is_sidecar(at, name, key, None):
            self._own.holding.add(parent_of(key))
            return
        elif not path.isascii() and self._has_twin(way, path, key):
            return
        elif directory:
            self._note_dir(path, key)
            self._forget_holding(key)
            self._walk(way, path, key)
        else:
            self._note(path, key, found)
        self._drop(key)

    def read_contents(self) -> None:
        """Read what has to be read, in several threads where there is much."""
        jobs = self._jobs
        jobs.reverse()
        self._own.files_listed = len(self._own.stamps) + len(jobs)
        self._own.listed.set()
        count = min(self._own.limits.threads, 1 + len(jobs) // (2 * PILE))
        helpers = [threading.Thread(target=self._read_piles) for _ in range(count - 1)]
        for helper in helpers:
            helper.start()
        self._read_piles(self._own.on_pile)
        for helper in helpers:
            helper.join()

    def _not_found(self, way: Way, path: str, exc: OSError) -> None:
        """lstat did not reach `path`: ask the listing of what is above it."""
        key = key_of(path)
        above, _, name = path.rpartition("/")
        if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            self._issue(key, Issue.UNREADABLE)
            return
        try:
            listed = self._names_in(way, above)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and above:
                self.at(way, above)
            else:
                self._issue(key_of(above), Issue.UNREADABLE)
            return
        if name in listed:
            return  # it came back: events will say so
        other = None if name.isascii() else _spelled_otherwise(name, listed)
        if other is not None:
            self.at(way, above + "/" + other if above else other)
            return
        self._forget_issues(key)
        self._drop(key)

    def _names_in(self, way: Way, path: str) -> Set[str]:
        """All names in a directory, listed once a pass. Raises OSError."""
        names = self._names.get(path)
        if names is None:
            at = way.to(path)
            names = self._names[path] = {item.name for item in _listing(self._disk, at)}
            self._note_freshness(key_of(path), self._disk.stat_dir(at))
        return names

    def _walk(self, way: Way, path: str, key: str) -> None:
        """List a directory and all below it, depth first, each opened from its parent."""
        pending = [(path, key)]
        on_dir = self._own.on_dir
        while pending:
            path, key = pending.pop()
            try:
                at = way.to(path)
                found = self._disk.stat_dir(at)
                if found.st_dev != self._device:
                    self._issue(key, Issue.MOUNTPOINT)
                    continue
                if on_dir is not None:
                    on_dir(path)
                listed = _listing(self._disk, at)
                self._note_freshness(key, found)
                pending.extend(self._note_all(listed, at, path, key))
            except OSError as exc:
                gone = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
                self._issue(key, Issue.UNSTABLE if exc.errno in gone else Issue.UNREADABLE)
                continue

    def _note_all(
        self, listed: List[os.DirEntry[str]], at: At, path: str, key: str
    ) -> List[Tuple[str, str]]:
        """Take in one directory's entries; the dirs among them, last first."""
        ignores = self._own.ignore.ignores_child
        stamps, again = self._own.stamps, self._own.again
        names = [item.name for item in listed]
        plain = "".join(names).isascii()
        twins = {} if plain else _twins(names)
        quick = plain and self._own.judged and not self._own.missing
        seen, pack = self._seen.add, STAMP.pack
        prefix = path + "/" if path else ""
        key_prefix = key + "/" if key else ""
        dirs: List[Tuple[str, str]] = []
        for name, item in zip(names, listed):
            if quick:  # nearly all files: known, and as they were
                child = key_prefix + name
                stamp = stamps.get(child)
                if stamp is not None and not (again and child in again):
                    try:
                        got = item.stat(follow_symlinks=False)
                        same = stamp == pack(
                            got.st_dev,
                            got.st_ino,
                            got.st_size,
                            got.st_mtime_ns,
                            got.st_ctime_ns,
                            got.st_mode,
                        )
                    except FileNotFoundError:
                        self._fresh.add(key)
                        continue
                    except struct.error:
                        same = False
                    if same:
                        seen(child)
                        continue
            leaf = name if plain else key_of(name)
            directory = item.is_dir(follow_symlinks=False)
            if ignores(key, leaf, directory):
                self._own.holding.add(key)
                continue
            child = key_prefix + leaf
            if name.endswith(SIDECARS) and self._is_sidecar(at, name, child, names):
                self._own.holding.add(key)
                continue
            if leaf in twins:
                self._collide(child, prefix, twins[leaf])
            elif directory:
                self._note_dir(prefix + name, child)
                dirs.append((prefix + name, child))
            else:
                try:
                    found = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    self._fresh.add(key)
                    continue
                self._note(prefix + name, child, found)
        dirs.sort(reverse=True)
        return dirs

    def _is_sidecar(self, at: At, name: str, key: str, names: Optional[Collection[str]]) -> bool:
        """Whether this is SQLite's log beside a database that some program has open.

        It means nothing without that program's memory, and another machine's SQLite that finds it
        would change the database. `names`: all of the directory, where they are known.
        """
        if key in self._own.tree:  # it was synced as the file that it was: not to be taken away
            return False
        main = name[: name.rindex("-")]
        if not main or (names is not None and main not in names):
            return False
        try:
            fd = self._disk.open(main, READ, at)
        except OSError:
            return False
        try:
            found = self._disk.read(fd, len(DATABASE)) if is_file(self._disk.fstat(fd)) else None
        except OSError:
            return False
        finally:
            self._disk.close(fd)
        return found in (DATABASE, b"")

    def _note_dir(self, path: str, key: str) -> None:
        own = self._own
        self._seen.add(key)
        if own.tree.get(key) != DIR:
            own.forget(key)
            own.tree[key] = DIR
            self._changed.add(key)
            if own.known is not None:
                own.known.append(key)
        if own.missing:
            own.missing.pop(key, None)
        own._spell(path, key)

    def _note(self, path: str, key: str, found: os.stat_result) -> None:
        """A name that is no directory: known by its stamp, or to be read."""
        own = self._own
        self._seen.add(key)
        if own.missing:
            own.missing.pop(key, None)
        stamp = stamp_of(found)
        if own.stamps.get(key) == stamp and key not in own.again:
            return
        mode = found.st_mode
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            self._jobs.append(Job(path, key, found, stamp))
        else:
            own.forget(key)
            own.holding.add(parent_of(key))
            self._issue(key, Issue.UNSUPPORTED)

    def _read_piles(self, between: Optional[Callable[[], None]] = None) -> None:
        """Until no job is left. Runs in several threads; the picture is written under the lock."""
        with Way(self._own.folder) as way:
            while True:
                with self._lock:
                    self._own.unsettled = len(self._jobs) + len(self._changed)
                    if between is not None:
                        between()
                    pile = self._jobs[-PILE:]
                    del self._jobs[-PILE:]
                if not pile:
                    return
                for job in reversed(pile):
                    self._read(way, job)

    def _read(self, way: Way, job: Job) -> None:
        try:
            if stat.S_ISLNK(job.found.st_mode):
                entry, found = self._read_link(way, job), job.found
            else:
                entry, found = self._read_file(way, job)
        except Changed:
            self._unstable(job.key)
        except _Zeroed:
            with self._lock:
                self._issue(job.key, Issue.ZEROED)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE):
                self._unstable(job.key)
            else:
                with self._lock:
                    self._issue(job.key, Issue.UNREADABLE)
        else:
            with self._lock:
                self._take(job, entry, found)

    def _take(self, job: Job, entry: Entry, found: os.stat_result) -> None:
        own = self._own
        if own.tree.get(job.key) != entry:
            self._changed.add(job.key)
        else:
            entry = own.tree[job.key]
        own.believe(job.key, job.path, entry, found)
        if own.known is not None:
            own.known.append(job.key)

    def _read_link(self, way: Way, job: Job) -> Entry:
        at, name = way.parent(job.path)
        target = self._disk.readlink(name, at)
        if stamp_of(self._disk.lstat(name, at)) != job.stamp:
            raise Changed(errno.EAGAIN, "a link that changes", job.path)
        return Entry(Kind.LINK, target=target)

    def _read_file(self, way: Way, job: Job) -> Tuple[Entry, os.stat_result]:
        """Raises Changed for a file that moves under our eyes."""
        at, name = way.parent(job.path)
        size = job.found.st_size
        executable = bool(job.found.st_mode & stat.S_IXUSR)
        known = self._own.tree.get(job.key)
        recent = abs(self._now - job.found.st_mtime_ns) < EMPTIED_NS
        if size == 0 and recent and known is not None and known.size > 0:
            raise Changed(errno.EAGAIN, "a file that was just emptied", job.path)
        limit = self._own.limits.hash_below
        if limit is not None and size > limit and job.key not in self._own.sure:
            return Entry(Kind.FILE, guess(job.stamp), size, executable), job.found
        fd = self._disk.open(name, READ, at)
        try:
            appended = size >= BIG and self._is_unrested(job) and bool(self._disk.has_writer(fd))
            digest, data = self._prefix(fd, job) if appended else self._digest(fd, job)
            found = self._disk.fstat(fd)
        finally:
            self._disk.close(fd)
        if stamp_of(found) != job.stamp:
            if not (appended and found.st_size >= size):
                raise Changed(errno.EAGAIN, "a file that changes", job.path)
            found = job.found
        entry = Entry(Kind.FILE, digest, size, executable)
        if self._own.crashed_ns is not None and self._is_zeroed(job, entry, known):
            raise _Zeroed
        if data is not None and self._own.on_read is not None:
            self._own.on_read(job.key, entry, data)
        return entry, found

    def _digest(self, fd: int, job: Job) -> Tuple[bytes, Optional[bytes]]:
        """The digest, and the content of a small file."""
        size = job.found.st_size
        if size < SMALL:
            data = self._disk.read(fd, size + 1)
            if len(data) == size:
                return hashlib.sha256(data).digest(), data
            self._disk.seek(fd, 0)
        look = self._similarity(job) if size >= PREPARE_FROM else None
        digest, blocks = hash_file(self._disk, fd, size, look)
        if blocks is not None:
            self._own.marks.put(digest, blocks)
        return digest, None

    def _prefix(self, fd: int, job: Job) -> Tuple[bytes, Optional[bytes]]:
        """The digest of what a log holds that is being written. Raises Changed for all else."""
        found, own = job.found, self._own
        args = job.key, found.st_ino, found.st_size, self._own.now_ns()
        prefix = own.growths.prefix(self._disk, fd, *args)
        if prefix.blocks is not None:
            own.marks.put(prefix.digest, prefix.blocks)
        with self._lock:
            own.growing[job.key] = prefix.digest
        return prefix.digest, None

    def _similarity(self, job: Job) -> Optional[Callable[[bytes], None]]:
        """Tells, early, of a big file that seems to be changed only here and there."""
        known, tell = self._own.tree.get(job.key), self._own.on_similar
        old = self._own.marks.get(known.digest) if known is not None else None
        if known is None or tell is None or old is None:
            return None

        def look(digests: bytes) -> None:
            before = old.some(0, len(digests) // SIZE)
            same = sum(
                digests[at : at + SIZE] == before[at : at + SIZE]
                for at in range(0, len(digests), SIZE)
            )
            if 2 * same * SIZE >= len(digests):
                tell(job.key, known)

        return look

    def _is_zeroed(self, job: Job, entry: Entry, known: Optional[Entry]) -> bool:
        """Whether a crash took the content: nothing or zeros, where there was something before."""
        before = known or self._own.agreed.get(job.key)
        if before is None or before.size == 0 or before.digest == entry.digest:
            return False
        started = self._own.crashed_ns
        if started is None or job.found.st_mtime_ns >= started:
            return False
        return entry.digest == digest_of_zeros(entry.size)

    def _is_unrested(self, job: Job) -> bool:
        return abs(self._now - job.found.st_mtime_ns) < RESTED_NS

    def _unstable(self, key: str) -> None:
        with self._lock:
            if self._own.believed and key in self._own.believed:
                return  # it was put there, or looked at, in the middle of this look
            self._issue(key, Issue.UNSTABLE)
            self._own.again[key] = self._own.now_ns() + RETRY_NS

    def _issue(self, key: str, issue: Issue) -> None:
        self._seen.add(key)
        self._issues_before.setdefault(key, self._own.issues.get(key))
        self._own.issues[key] = issue

    def _forget_issues(self, key: str) -> None:
        """At and below `key`: what is still the case will be found again."""
        issues = self._own.issues
        for one in [other for other in issues if _at_or_below(other, key)]:
            self._issues_before.setdefault(one, issues[one])
            del issues[one]
            self._own.twins.pop(one, None)

    def _forget_holding(self, key: str) -> None:
        holding = self._own.holding
        holding.difference_update([one for one in holding if _at_or_below(one, key)])

    def _note_freshness(self, key: str, found: os.stat_result) -> None:
        if abs(self._now - found.st_mtime_ns) < ABSENT_NS:
            self._fresh.add(key)

    def _drop(self, top: str) -> None:
        """What is in the picture at or below `top` and was not seen is gone, or soon will be."""
        own = self._own
        if top and own.tree.get(top) != DIR:
            gone = [top] if top in own.tree and top not in self._seen else []
        else:
            gone = [key for key in own.tree.keys() - self._seen if _at_or_below(key, top)]
        waiting: Set[str] = set()
        for key in sorted(gone):
            above = parent_of(key)
            if own.issues and self._is_hidden(key):
                continue
            if above in waiting or (above in self._fresh and self._is_too_soon(key)):
                waiting.add(key)
                continue
            own.forget(key)
            self._changed.add(key)

    def _is_hidden(self, key: str) -> bool:
        """Whether an issue at or above `key` keeps us from knowing that it is gone."""
        issues = self._own.issues
        return key in issues or "" in issues or any(above in issues for above in parents(key))

    def _is_too_soon(self, key: str) -> bool:
        since = self._own.missing.setdefault(key, self._now)
        if abs(self._now - since) >= ABSENT_NS:
            return False
        self._own.again[key] = since + ABSENT_NS
        return True

    def _has_twin(self, way: Way, path: str, key: str) -> bool:
        """Whether the same name stands beside it in another Unicode form; that is noted."""
        above, slash, name = path.rpartition("/")
        names = _twins(self._names_in(way, above)).get(key_of(name))
        if names is not None:
            self._collide(key, above + slash, names)
        return names is not None

    def _collide(self, key: str, prefix: str, names: List[str]) -> None:
        self._issue(key, Issue.COLLIDING)
        self._own.twins[key] = tuple(prefix + name for name in names)


def is_file(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)


def topmost(paths: Iterable[str]) -> List[str]:
    """Without duplicates and without what lies below another one; sorted."""
    kept: List[str] = []
    given = set(paths)
    if "" in given:
        return [""]
    for path in sorted(given):
        if not any(above in given for above in parents(path)):
            kept.append(path)
    return kept


def _listing(disk: Disk, at: At) -> List[os.DirEntry[str]]:
    """All of a directory, or OSError."""
    with disk.scandir(at) as found:
        return list(found)


def _spelled_otherwise(name: str, names: Iterable[str]) -> Optional[str]:
    """One of these names that differs in its Unicode form alone."""
    leaf = key_of(name)
    return next((one for one in sorted(names) if key_of(one) == leaf), None)


def _twins(names: Iterable[str]) -> Dict[str, List[str]]:
    """Leaves that are spelled in several ways in one directory, and how, sorted."""
    spelled: Dict[str, List[str]] = {}
    for name in names:
        if not name.isascii():
            spelled.setdefault(key_of(name), []).append(name)
    return {leaf: sorted(forms) for leaf, forms in spelled.items() if len(forms) > 1}


def _at_or_below(key: str, top: str) -> bool:
    return not top or key == top or key.startswith(top + "/")
