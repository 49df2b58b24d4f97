"""Make changes to a root, each one compare-and-swap, in an order that survives any crash.

stage → journal → flush → for each change: look at the target again, move, look at what was
displaced → flush the directories → only then report. A target that is not what was expected is
left alone, or put back, and reported as such; the next cycle sees it. What is displaced goes to
the trash, never away. Deciding is not done here: whoever calls has decided.

Decision: a replacement is staged under its place in the trash and swapped with the target, so
that the displaced version needs no second move. Alternative: stage elsewhere, swap, move to the
trash. Reason: a kill between the last two left a user's file in the staging area.
"""

from __future__ import annotations

import errno
import os
import stat
from enum import Enum
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from remotedl.sync.agent.blocks import Changed, hash_file
from remotedl.sync.agent.disk import READ, At, NoExchange
from remotedl.sync.agent.folder import Folder, Way
from remotedl.sync.agent.growth import begins_with
from remotedl.sync.agent.scan import Scanner
from remotedl.sync.agent.staging import (
    NoContent,
    Staging,
    new_file_mode,
    replaced_file_mode,
)
from remotedl.sync.agent.trash import Trash, Trashed
from remotedl.sync.agent.tree import Change, Entry, Kind
from remotedl.sync.agent.tree import key as key_of
from remotedl.sync.agent.tree import parent as parent_of

SYNCFS_FROM = 8
"""So many files in a batch are flushed by one syncfs instead of an fsync each."""
GREW = "grew"
"""The reason of a change by which a log grew that is being written."""
COPY_FROM = 1 << 12
"""A file of fewer bytes is never searched for in the tree."""


class Status(str, Enum):
    """How one change ended."""

    DONE = "done"
    CHANGED = "changed"
    """The target was not what was expected; it is as it was."""
    BUSY = "busy"
    """Some program has the target open for writing."""
    NOT_EMPTY = "not empty"
    """A directory that holds something: it stays."""
    NO_CONTENT = "no content"
    """The bytes were not sent, or not all of them."""
    REFUSED = "refused"
    """The system said no; `why` says what."""


class Outcome(NamedTuple):
    status: Status
    why: str = ""


DONE = Outcome(Status.DONE)


class _Stop(Exception):
    """This change ends here, with nothing moved."""

    def __init__(self, status: Status, why: str = "") -> None:
        super().__init__(status)
        self.outcome = Outcome(status, why)


class _Staged(NamedTuple):
    """A new file or link that waits under a name of ours."""

    at: At
    name: str
    identity: Tuple[int, int, int]


class Applier:
    """Applies batches of changes to one root. One thread at a time."""

    def __init__(self, folder: Folder, scanner: Scanner, staging: Staging, trash: Trash) -> None:
        self.folder = folder
        self.disk = folder.disk
        self.scanner = scanner
        self.staging = staging
        self.trash = trash

    def apply(
        self, changes: Sequence[Change], step: str, reasons: Optional[Sequence[str]] = None
    ) -> List[Outcome]:
        """One outcome a change, in their order. `step` names the cycle in the journal.

        Changes are applied in the order given: dirs before what is in them, deletes bottom-up.
        Raises FolderGone when the root is not the one that was opened.
        """
        self.folder.check()
        with Way(self.folder) as way:
            batch = _Batch(self, way, changes, step, reasons or [""] * len(changes))
            return batch.run()


class _Batch:
    """The state of one call of `apply`."""

    def __init__(
        self,
        own: Applier,
        way: Way,
        changes: Sequence[Change],
        step: str,
        reasons: Sequence[str],
    ) -> None:
        self._own = own
        self._disk = own.disk
        self._scanner = own.scanner
        self._trash = own.trash
        self._way = way
        self._changes = changes
        self._step = step
        self._reasons = reasons
        self._outcomes: List[Outcome] = [DONE] * len(changes)
        self._staged: Dict[int, _Staged] = {}
        self._ids: Dict[int, str] = {}
        self._dirs: Set[str] = set()
        """Paths of directories whose names changed."""
        self._needed: Dict[bytes, int] = {}
        self._sources: Optional[Dict[bytes, str]] = None

    def run(self) -> List[Outcome]:
        self._stage_all()
        try:
            self._announce()
            self._flush_content()
        except OSError as exc:
            self._outcomes = [_refused(exc)] * len(self._changes)
            self._tidy()
            return self._outcomes
        self._apply_all()
        try:
            self._flush_dirs()
        except OSError as exc:  # in place, but who knows for how long: not to be relied upon
            self._outcomes = [_refused(exc)] * len(self._changes)
            return self._outcomes
        self._tidy()
        self._drop_what_grew()
        return self._outcomes

    def _apply_all(self) -> None:
        for number, change in enumerate(self._changes):
            if self._outcomes[number] is not DONE:
                continue
            try:
                self._apply(number, change)
            except _Stop as stop:
                self._outcomes[number] = stop.outcome
            except OSError as exc:
                self._outcomes[number] = _refused(exc)

    # Staging

    def _stage_all(self) -> None:
        for change in self._changes:
            if _brings_content(change):
                assert change.new is not None and change.new.digest is not None
                self._needed[change.new.digest] = self._needed.get(change.new.digest, 0) + 1
        for number, change in enumerate(self._changes):
            if change.old is not None and change.old.kind is not Kind.DIR and _displaces(change):
                self._ids[number] = self._trash.new_id(self._step)
            if change.new is None or change.new.kind is Kind.DIR or _is_chmod(change):
                continue
            try:
                self._staged[number] = self._stage(number, change.new)
            except NoContent as exc:
                self._outcomes[number] = Outcome(Status.NO_CONTENT, str(exc))
            except OSError as exc:
                self._outcomes[number] = _refused(exc)

    def _stage(self, number: int, new: Entry) -> _Staged:
        """Make the new file or link under its later name in the trash, or in the staging area."""
        if number in self._ids:
            at, name = self._trash.at, self._ids[number]
        else:
            at, name = self._own.staging.at, self._own.staging.new_name()
        if new.kind is Kind.LINK:
            assert new.target is not None
            self._disk.symlink(new.target, name, at)
            found = self._disk.lstat(name, at)
        else:
            found = self._stage_file(at, name, new)
        return _Staged(at, name, _identity(found))

    def _stage_file(self, at: At, name: str, new: Entry) -> os.stat_result:
        assert new.digest is not None
        mode = new_file_mode(new.executable)
        self._needed[new.digest] -= 1
        try:
            last = not self._needed[new.digest]
            return self._own.staging.place(new.digest, at, name, mode, last=last)
        except NoContent:
            source = self._find_here(new)
            if source is None:
                raise
            try:
                self._own.staging.copy_new(source, at, name, mode, new.digest)
            finally:
                self._disk.close(source)
            return self._disk.lstat(name, at)

    def _find_here(self, new: Entry) -> Optional[int]:
        """An open file of the same content that stands in this root already."""
        if new.size < COPY_FROM:
            return None
        if self._sources is None:
            self._sources = {
                entry.digest: key
                for key, entry in self._scanner.tree.items()
                if entry.digest is not None and entry.size >= COPY_FROM
            }
        key = self._sources.get(new.digest) if new.digest is not None else None
        if key is None:
            return None
        try:
            at, name = self._way.parent(self._scanner.spelling.get(key, key))
            return self._disk.open(name, READ, at)
        except OSError:
            return None

    def _announce(self) -> None:
        """Tell the journal what will be displaced."""
        now = self._disk.now()
        lines = []
        for number, change in enumerate(self._changes):
            if change.old is None or not _displaces(change):
                continue
            if self._outcomes[number] is not DONE:
                continue
            name = self._ids.get(number) or self._trash.new_id(self._step)
            reason = self._reasons[number]
            lines.append(
                Trashed(name, self._step, now, change.path, change.old, change.new, reason)
            )
        self._trash.announce(lines)

    def _flush_content(self) -> None:
        """All staged bytes are on the disk before the first name points at them."""
        files = [
            staged
            for number, staged in self._staged.items()
            if (new := self._changes[number].new) is not None and new.kind is Kind.FILE
        ]
        if not files:
            return
        if len(files) >= SYNCFS_FROM and self._disk.syncfs(self._own.folder.top):
            return
        for staged in files:
            fd = self._disk.open(staged.name, READ, staged.at)
            try:
                self._disk.fsync(fd)
            finally:
                self._disk.close(fd)

    def _flush_dirs(self) -> None:
        if self._ids:
            self._disk.sync_dir(self._trash.at)
        if len(self._dirs) >= SYNCFS_FROM and self._disk.syncfs(self._own.folder.top):
            return
        for path in sorted(self._dirs):
            try:
                self._disk.sync_dir(self._way.to(path))
            except (FileNotFoundError, NotADirectoryError):
                pass  # moved away since: its new parent is somebody else's change

    def _tidy(self) -> None:
        """Remove what was staged and not used; what waits in memory and was used."""
        for number, staged in self._staged.items():
            if self._outcomes[number].status is Status.DONE:
                continue
            try:
                if _identity(self._disk.lstat(staged.name, staged.at)) == staged.identity:
                    self._disk.unlink(staged.name, staged.at)
            except FileNotFoundError:
                pass
        used = set()
        for number, change in enumerate(self._changes):
            if _brings_content(change) and self._outcomes[number].status is Status.DONE:
                assert change.new is not None and change.new.digest is not None
                used.add(change.new.digest)
        self._own.staging.spent(used)

    def _drop_what_grew(self) -> None:
        """A log that grew holds all that it was: its old version need not fill the trash."""
        for number, change in enumerate(self._changes):
            old, new = change.old, change.new
            if self._outcomes[number] is not DONE or old is None or new is None:
                continue
            if self._reasons[number] == GREW and number in self._ids and new.size > old.size:
                try:
                    self._drop_if_held(self._ids[number], change.path, old.size)
                except OSError:
                    pass  # it stays in the trash

    def _drop_if_held(self, id: str, path: str, size: int) -> None:
        at, name = self._way.parent(path)
        old = self._disk.open(id, READ, self._trash.at)
        try:
            new = self._disk.open(name, READ, at)
            try:
                held = begins_with(self._disk, new, old, size)
            finally:
                self._disk.close(new)
        finally:
            self._disk.close(old)
        if held:
            self._trash.remove(id)

    # One change

    def _apply(self, number: int, change: Change) -> None:
        """Raises _Stop, OSError; nothing of the user's is lost by either."""
        old, new = change.old, change.new
        try:
            at, name = self._way.parent(change.path)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                if new is None:
                    self._forget(change.path)  # gone, with the directory that held it
                    return
                raise _Stop(Status.CHANGED, "the folder that holds it is gone") from exc
            raise
        if old is None:
            self._create(number, change, at, name)
        elif new is None:
            self._delete(number, change, at, name)
        elif _is_chmod(change):
            self._chmod(change, at, name)
        elif old.kind is Kind.DIR or new.kind is Kind.DIR:
            self._delete(number, change, at, name)
            self._create(number, change, at, name)
        else:
            self._replace(number, change, at, name)

    def _create(self, number: int, change: Change, at: At, name: str) -> None:
        assert change.new is not None
        if change.new.kind is Kind.DIR:
            try:
                self._disk.mkdir(name, at)
            except FileExistsError:
                if not stat.S_ISDIR(self._disk.lstat(name, at).st_mode):
                    raise _Stop(Status.CHANGED, "something else stands there") from None
        else:
            staged = self._staged[number]
            try:
                self._disk.rename_new(staged.name, staged.at, name, at)
            except FileExistsError:
                found = self._disk.lstat(name, at)
                if not self._holds(change.path, at, name, change.new, found):
                    raise _Stop(Status.CHANGED, "something else stands there") from None
                self._discard(staged)
                self._believe(change, found)
                return
        self._dirs.add(parent_of(change.path))
        self._settle(number, change, at, name)

    def _replace(self, number: int, change: Change, at: At, name: str) -> None:
        """Swap the staged version with the target, then look at what came out."""
        assert change.old is not None
        staged = self._staged[number]
        before = self._expect(change, at, name)
        if change.old.kind is Kind.FILE:
            self._take_after(staged, change, before)
        try:
            self._disk.exchange(staged.name, staged.at, name, at)
        except NoExchange:
            self._replace_by_link(staged, change, at, name, before)
        else:
            self._verify_swap(staged, change, at, name, before)
        self._dirs.add(parent_of(change.path))
        self._settle(number, change, at, name)

    def _verify_swap(
        self, staged: _Staged, change: Change, at: At, name: str, before: os.stat_result
    ) -> None:
        """The displaced file is the expected one, or everything goes back. Raises _Stop."""
        assert change.old is not None
        stop = self._why_not(staged, change.old, before)
        if stop is None:
            return
        self._disk.exchange(staged.name, staged.at, name, at)
        found = self._disk.lstat(staged.name, staged.at)
        if _identity(found) != staged.identity:
            # A still newer version came out: it belongs at the target, the other is kept.
            self._disk.exchange(staged.name, staged.at, name, at)
            self._keep(staged.name, change)
        raise stop

    def _why_not(self, displaced: _Staged, old: Entry, before: os.stat_result) -> Optional[_Stop]:
        """Whether what was displaced must go back to its place."""
        found = self._disk.lstat(displaced.name, displaced.at)
        try:
            if _same_content(found, before) and not self._is_written(displaced, found):
                return None
            if self._holds("", displaced.at, displaced.name, old, found):
                return None
        except _Stop as stop:
            return stop
        return _Stop(Status.CHANGED, "it changed at that very moment")

    def _keep(self, name: str, change: Change) -> None:
        """Say in the journal what really is in the trash: not what was expected."""
        fd = self._disk.open(name, READ, self._trash.at)
        try:
            found = self._disk.fstat(fd)
            digest, _ = hash_file(self._disk, fd, found.st_size)
        finally:
            self._disk.close(fd)
        kept = Entry(Kind.FILE, digest, found.st_size, bool(found.st_mode & stat.S_IXUSR))
        now = self._disk.now()
        self._trash.announce(
            [Trashed(name, self._step, now, change.path, kept, change.new, "kept")]
        )

    def _is_written(self, staged: _Staged, found: os.stat_result) -> bool:
        if not stat.S_ISREG(found.st_mode):
            return False
        try:
            fd = self._disk.open(staged.name, READ, staged.at)
        except OSError:
            return False
        try:
            return bool(self._disk.has_writer(fd))
        finally:
            self._disk.close(fd)

    def _replace_by_link(
        self, staged: _Staged, change: Change, at: At, name: str, before: os.stat_result
    ) -> None:
        """Where names cannot be swapped: a second name in the trash, then rename over the first."""
        waiting = staged.name + ".new"
        self._disk.rename_new(staged.name, staged.at, waiting, staged.at)
        try:
            try:
                self._disk.link(name, at, staged.name, staged.at)
            except OSError as exc:
                if exc.errno == errno.ENOENT:
                    raise
                self._disk.rename_new(name, at, staged.name, staged.at)  # no hard links here
            assert change.old is not None
            stop = self._why_not(staged, change.old, before)
            if stop is not None:
                self._put_back(staged, at, name)
                raise stop
            try:
                unmoved = _identity(self._disk.lstat(name, at)) == _identity(before)
            except FileNotFoundError:
                self._fill(waiting, staged.at, name, at)
                return
            if not unmoved:
                self._disk.unlink(staged.name, staged.at)  # the second name only
                raise _Stop(Status.CHANGED, "it changed at that very moment")
            self._disk.replace(waiting, staged.at, name, at)
        except BaseException:
            try:
                self._disk.unlink(waiting, staged.at)
            except FileNotFoundError:
                pass
            raise

    def _fill(self, waiting: str, waiting_at: At, name: str, at: At) -> None:
        try:
            self._disk.rename_new(waiting, waiting_at, name, at)
        except FileExistsError:
            raise _Stop(Status.CHANGED, "something new stands there") from None

    def _put_back(self, staged: _Staged, at: At, name: str) -> None:
        """The name in the trash goes; where it was the only one, back to its place."""
        try:
            self._disk.rename_new(staged.name, staged.at, name, at)
        except FileExistsError:
            here = _identity(self._disk.lstat(name, at))
            if here == _identity(self._disk.lstat(staged.name, staged.at)):
                self._disk.unlink(staged.name, staged.at)

    def _delete(self, number: int, change: Change, at: At, name: str) -> None:
        """Into the trash; an empty directory by rmdir. What is gone already is done."""
        assert change.old is not None
        self._dirs.add(parent_of(change.path))
        if change.old.kind is Kind.DIR:
            self._remove_dir(change, at, name)
            return
        try:
            before = self._expect(change, at, name)
        except FileNotFoundError:
            self._forget(change.path)
            return
        trash_id = self._ids[number]
        staged = self._staged.get(number)
        if staged is not None:  # its place in the trash is taken by what comes instead
            waiting = trash_id + ".new"
            self._disk.rename_new(staged.name, staged.at, waiting, staged.at)
            self._staged[number] = staged._replace(name=waiting)
        self._disk.rename_new(name, at, trash_id, self._trash.at)
        displaced = self._disk.lstat(trash_id, self._trash.at)
        there = _Staged(self._trash.at, trash_id, _identity(displaced))
        stop = self._why_not(there, change.old, before)
        if stop is not None:
            try:
                self._disk.rename_new(trash_id, self._trash.at, name, at)
            except FileExistsError:  # a still newer version stands there: this one is kept
                self._keep(trash_id, change)
            raise stop
        self._forget(change.path)

    def _remove_dir(self, change: Change, at: At, name: str) -> None:
        self._way.forget(change.path)
        try:
            self._disk.rmdir(name, at)
        except FileNotFoundError:
            pass
        except OSError as exc:
            if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise _Stop(Status.NOT_EMPTY, "it holds something that is not synced") from exc
            if exc.errno == errno.ENOTDIR:
                raise _Stop(Status.CHANGED, "it is no folder any more") from exc
            raise
        self._forget(change.path)

    def _chmod(self, change: Change, at: At, name: str) -> None:
        assert change.new is not None
        before = self._expect(change, at, name)
        fd = self._disk.open(name, READ, at)
        try:
            if _identity(self._disk.fstat(fd)) != _identity(before):
                raise _Stop(Status.CHANGED, "it changed at that very moment")
            self._disk.chmod(fd, replaced_file_mode(before.st_mode, change.new.executable))
            self._disk.fsync(fd)
            self._believe(change, self._disk.fstat(fd))
        finally:
            self._disk.close(fd)

    # Looking

    def _expect(self, change: Change, at: At, name: str) -> os.stat_result:
        """The target's stat record, if it is what the change expects. Raises _Stop, OSError."""
        assert change.old is not None
        found = self._disk.lstat(name, at)
        if not self._holds(change.path, at, name, change.old, found):
            raise _Stop(Status.CHANGED, "it is not what it was")
        return found

    def _holds(self, path: str, at: At, name: str, entry: Entry, found: os.stat_result) -> bool:
        """Whether `entry` stands at a name with that stat record. Raises _Stop when written."""
        mode = found.st_mode
        if entry.kind is Kind.DIR:
            return stat.S_ISDIR(mode)
        if entry.kind is Kind.LINK:
            return stat.S_ISLNK(mode) and self._disk.readlink(name, at) == entry.target
        executable = bool(mode & stat.S_IXUSR)
        if not stat.S_ISREG(mode) or (
            self._scanner.traits.executable and executable != entry.executable
        ):
            return False
        fd = self._disk.open(name, READ, at)
        try:
            if self._disk.has_writer(fd):
                raise _Stop(Status.BUSY, "a program has it open for writing")
            key = key_of(path) if path else ""
            if key and self._scanner.trusts(key, found):
                return self._scanner.tree.get(key) == entry
            if found.st_size != entry.size:
                return False
            digest, _ = hash_file(self._disk, fd, found.st_size)
            return digest == entry.digest
        except Changed:
            return False
        finally:
            self._disk.close(fd)

    # Recording

    def _take_after(self, staged: _Staged, change: Change, before: os.stat_result) -> None:
        """The new version gets mode and owner of the one that it replaces. Raises _Stop."""
        assert change.new is not None
        if change.new.kind is not Kind.FILE:
            return
        fd = self._disk.open(staged.name, READ, staged.at)
        try:
            own = self._disk.fstat(fd)
            if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
                self._take_owner(fd, own, before)
            self._disk.chmod(fd, replaced_file_mode(before.st_mode, change.new.executable))
        finally:
            self._disk.close(fd)

    def _take_owner(self, fd: int, own: os.stat_result, before: os.stat_result) -> None:
        try:
            self._disk.chown(fd, before.st_uid, before.st_gid)
        except PermissionError:
            if own.st_uid != before.st_uid:
                why = f"it belongs to user {before.st_uid}, and only root can keep that"
                raise _Stop(Status.REFUSED, why) from None

    def _settle(self, number: int, change: Change, at: At, name: str) -> None:
        """Record what stands there now, unless somebody was faster."""
        found = self._disk.lstat(name, at)
        staged = self._staged.get(number)
        if staged is not None and _identity(found) != staged.identity:
            return  # newer than ours: the next look sees it
        self._believe(change, found, placed=staged is not None)

    def _believe(self, change: Change, found: os.stat_result, *, placed: bool = False) -> None:
        assert change.new is not None
        key = key_of(change.path)
        self._scanner.believe(key, change.path, change.new, found, placed=placed)

    def _forget(self, path: str) -> None:
        self._scanner.forget(key_of(path))

    def _discard(self, staged: _Staged) -> None:
        self._disk.unlink(staged.name, staged.at)


def _identity(found: os.stat_result) -> Tuple[int, int, int]:
    """Which file, in which state of its content; a rename changes none of it."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def _same_content(found: os.stat_result, before: os.stat_result) -> bool:
    return _identity(found) == _identity(before) and found.st_mode == before.st_mode


def _brings_content(change: Change) -> bool:
    new = change.new
    return new is not None and new.kind is Kind.FILE and not _is_chmod(change)


def _is_chmod(change: Change) -> bool:
    """Only the x bit changes."""
    old, new = change.old, change.new
    if old is None or new is None or old.kind is not Kind.FILE or new.kind is not Kind.FILE:
        return False
    return old.digest == new.digest and old.size == new.size


def _displaces(change: Change) -> bool:
    """Whether something of the user's leaves its place."""
    return change.old is not None and not _is_chmod(change) and change.old != change.new


def _refused(exc: OSError) -> Outcome:
    return Outcome(Status.REFUSED, exc.strerror or str(exc))
