"""The agent's one thread that touches the replica: runs requests, follows events, tells changes.

Everything that it says about the replica goes out in the order in which it became true, so that
the laptop's picture is never older than the last answer.
"""

from __future__ import annotations

import os
import queue
import signal
import struct
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional

from remotedl.sync.agent.apply import Outcome, Status
from remotedl.sync.agent.disk import Disk
from remotedl.sync.agent.folder import FolderBusy, FolderGone, FolderReplaced
from remotedl.sync.agent.follow import Follower
from remotedl.sync.agent.heartbeat import Heartbeat
from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.listing import Around, Generations, Listing, Version, pack_listing
from remotedl.sync.agent.opened import MERGES, open_documents
from remotedl.sync.agent.protocol import Type, pack_json, parts
from remotedl.sync.agent.replica import Replica
from remotedl.sync.agent.scan import Limits
from remotedl.sync.agent.trash import entry_to_json
from remotedl.sync.agent.tree import Change, key
from remotedl.sync.agent.undo import Returned, changes_done, to_json, undo
from remotedl.sync.agent.wire import Wire

TAKE_OVER_S = 5.0
"""How long an agent of the same laptop, left by a lost link, is given to go."""
PROOF_S = 25.0
"""How long an agent may take to find out whether its laptop still speaks, see `Agent.doubt`."""
ROOT_S = 3.0
"""How often the root is looked for at its path: no event tells that a folder above it was moved."""
LOOKING_S = 0.2
"""How often it is told how much there is to look at."""
SAVE_S = 300.0
"""A changed picture is saved after so long; a session that ends well saves it anyway."""

Task = Callable[[], None]


class Refused(Exception):
    """The replica cannot be served. `kind` is a word of the protocol."""

    def __init__(self, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.more = more


class Keeper:
    """Holds the replica. `post` from any thread; everything else in the keeper's own."""

    def __init__(
        self, wire: Wire, disk: Disk, clock: Callable[[], float], heartbeat: Heartbeat
    ) -> None:
        self._wire = wire
        self._disk = disk
        self._heartbeat = heartbeat
        self._clock = clock
        self._tasks: queue.Queue[Optional[Task]] = queue.Queue()
        self._refused = False
        self._poked = threading.Event()
        self._follower: Optional[Follower] = None
        self._generations = Generations(_new_epoch())
        self._told: Optional[Version] = None
        """What the laptop knows."""
        self._told_around: Optional[Around] = None
        self._commits: Deque[Task] = deque()
        self._is_between = False
        self._looking = (0, 0.0)
        """What was said last about how much there is to look at, and when."""
        self._gone = ""
        self._marker: Optional[str] = None
        self._saved: Optional[Version] = None
        self._saved_at = clock()

    @property
    def replica(self) -> Replica:
        assert self._follower is not None, "HELLO opens it"
        return self._follower.replica

    def refuse(self) -> None:
        """There is no replica to be served: further requests go unanswered."""
        self._refused = True

    def post(self, task: Optional[Task]) -> None:
        """Run `task` when it is its turn; None ends the keeper."""
        self._tasks.put(task)

    def post_commit(self, task: Task) -> None:
        """The same, for what need not wait for the end of a long look; in its order."""
        self._commits.append(task)
        self._tasks.put(self._commit_next)

    def _commit_next(self) -> None:
        if self._commits:  # else it was done in the middle of a look
            self._commits.popleft()()

    def run(self) -> None:
        """The keeper's thread. Raises what a task raises: the agent ends then."""
        try:
            while True:
                try:
                    task = self._tasks.get(timeout=self._patience())
                except queue.Empty:
                    task = self._follow
                if task is None:
                    return
                if self._refused:
                    continue
                with self._heartbeat.working():
                    task()
                    if self._tasks.empty():
                        self._follow()
        finally:
            self._close()

    # Requests

    def open(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """HELLO: open the replica as asked; what to answer. Raises Refused."""
        _check_root(str(request["root"]), bool(request.get("unusual")))
        try:
            replica = self._take(request)
        except FolderGone as exc:
            raise Refused("gone", exc.strerror or str(exc)) from exc
        except FolderReplaced as exc:
            raise Refused("replaced", str(exc), marker=exc.marker) from exc
        except FolderBusy as exc:
            raise Refused("busy", str(exc), holder=exc.holder) from exc
        except OSError as exc:
            why = exc.strerror or str(exc)
            raise Refused("unusable", why, path=str(exc.filename or "")) from exc
        self._follower = Follower(replica, self._clock, self._poke)
        if replica.saved is not None:
            notes = replica.saved.notes.get("generations")
            self._generations = Generations.from_json(notes, self._generations.epoch)
            self._saved = self._generations.version
        if request.get("watch"):
            self._follower.start_watching(_open_watch)
            replica.scanner.on_pile = self._between
        if request.get("trash_size") is not None:
            replica.trash.size = int(request["trash_size"])
        traits = replica.side.traits
        self._marker = replica.marker()
        return {
            "root": replica.folder.path,
            "link": os.path.islink(os.path.expanduser(str(request["root"]))),
            "marker": self._marker,
            "created": replica.created,
            "boot": replica.boot,
            "case_insensitive": traits.folding.case_insensitive,
            "normalising": traits.folding.normalising,
            "executable": traits.executable,
            "links": traits.links,
        }

    def tell(self, stream: int, since: Optional[Version], scan: bool) -> None:
        """SNAP: look at everything, or only at what events spoke about; tell what is new."""
        assert self._follower is not None
        self._look(self._follower.scan if scan else self._follower.look_now)
        self._say(Type.SNAP, stream, since)
        if self._generations.forget(since):
            self._saved = None

    def commit(
        self,
        stream: int,
        changes: List[Change],
        step: str,
        reasons: List[str],
        failed: Dict[bytes, str],
    ) -> None:
        """COMMIT: apply, tell what turned out to be otherwise, then how each change ended.

        `failed`: contents that did not arrive, and why.
        """
        try:
            outcomes = self._apply(changes, step, reasons)
        except FolderGone as exc:
            self._note_gone(exc)
            outcomes = [Outcome(Status.REFUSED, str(exc))] * len(changes)
        pairs = [(change, _told_why(change, end, failed)) for change, end in zip(changes, outcomes)]
        self._note_known(key(change.path) for change, end in pairs if end.status is Status.DONE)
        doubtful = [change.path for change, end in pairs if end.status is not Status.DONE]
        if doubtful:
            self._look(lambda: self.replica.look(doubtful))
        self._say_changes()
        answers = [list(end) for _, end in pairs]
        answer = {"outcomes": answers, "version": list(self._generations.version)}
        self._wire.control(Type.ACK, stream, pack_json(answer))
        self._tidy_trash()

    def _apply(self, changes: List[Change], step: str, reasons: List[str]) -> List[Outcome]:
        """What Jupyter is to merge is put down only where the file is still open there."""
        if MERGES not in reasons:
            return self.replica.apply(changes, step, reasons)
        opened = open_documents(self.replica.folder)
        closed = Outcome(Status.CHANGED, "it is open no more")
        fit = [why != MERGES or key(change.path) in opened for change, why in zip(changes, reasons)]
        done = iter(
            self.replica.apply(
                [change for change, fits in zip(changes, fit) if fits],
                step,
                [why for why, fits in zip(reasons, fit) if fits],
            )
        )
        return [next(done) if fits else closed for fits in fit]

    def _tidy_trash(self) -> None:
        try:
            self.replica.trash.keep_to_size()
        except OSError:
            pass  # it takes room, and costs nothing else

    def flush(self, stream: int, cookie: str) -> None:
        """FLUSH: everything that was written here before now is told before the answer."""
        assert self._follower is not None
        follower = self._follower
        self._look(lambda: follower.prove(cookie))
        self._say_changes()
        self._wire.control(Type.ACK, stream, pack_json({"watching": follower.watching}))

    def read_for_sure(self, keys: List[str]) -> None:
        """Digests of these, however big they are; what they turn out to be is told."""
        self._look(lambda: self.replica.scanner.look_for_sure(keys))
        self._say_changes()

    def set_marker(self, marker: str) -> None:
        self.replica.folder.set_marker(marker)
        self._marker = marker

    def set_rules(self, rules: List[Any]) -> None:
        assert self._follower is not None
        self.replica.set_rules(_rules(rules))
        self._look(self._follower.scan)
        self._say_changes()

    def list_trash(self) -> Dict[str, Any]:
        return {
            "lines": [
                {**line._asdict(), "old": entry_to_json(line.old), "new": entry_to_json(line.new)}
                for line in self.replica.trash.kept()
            ]
        }

    def undo(self, step: str, only: List[str], new_step: str, made: List[Change]) -> Dict[str, Any]:
        """Bring back what `step` displaced here, and tell it as a change like any other."""
        returned: List[Returned] = []

        def run() -> Iterable[str]:
            returned.extend(undo(self.replica, step, only, new_step, made))
            return [key(change.path) for change in changes_done(returned)]

        self._look(run)
        self._say_changes()
        self._tidy_trash()
        return {"paths": to_json(returned)}

    # Following

    def _poke(self) -> None:
        """From the watcher's thread: wake the keeper, once for many events."""
        if not self._poked.is_set():
            self._poked.set()
            self._tasks.put(self._poked.clear)

    def _follow(self) -> None:
        """Look at what is ripe, and tell what changed."""
        if self._follower is None or self._told is None:
            return
        self._look(self._follower.look_ripe)
        self._say_changes()
        self._say_looking()
        unsaved = self._saved != self._generations.version
        if unsaved and self._clock() - self._saved_at > SAVE_S:
            self._save()

    def _patience(self) -> Optional[float]:
        """How long nothing has to be done."""
        if self._follower is None or self._told is None:
            return None
        waits = [self._follower.patience(), ROOT_S]
        if self._follower.has_heard:
            waits.append(LOOKING_S)
        if self._saved != self._generations.version:
            waits.append(self._saved_at + SAVE_S - self._clock())
        return max(0.001, min(waits))

    def _look(self, look: Callable[[], Iterable[str]]) -> None:
        try:
            changed = set(look())
            marker = self.replica.marker()
            if self._gone and self._follower is not None:
                changed |= self._follower.scan()  # what happened meanwhile, no event told
        except FolderGone as exc:
            self._note_gone(exc)
            return
        if changed or self._gone or marker != self._marker:
            self._generations.note(changed)
        self._gone, self._marker = "", marker

    def _note_gone(self, exc: OSError) -> None:
        why = exc.strerror or str(exc)
        if self._gone != why:
            self._generations.note([])
        self._gone = why

    def _note_known(self, keys: Iterable[str]) -> None:
        """Changes that the laptop itself asked for: it need not be told."""
        up_to_date = self._told == self._generations.version
        self._generations.note(keys)
        if up_to_date:
            self._told = self._generations.version

    def _between(self) -> None:
        """In the middle of a long look: saves of the laptop go first."""
        if self._is_between:
            return
        self._is_between = True
        try:
            self._say_looking()
            while self._commits:
                self._commits.popleft()()
        finally:
            self._is_between = False

    # Telling

    def _say_looking(self) -> None:
        """How much is known to have changed here that the laptop has not been told of."""
        if self._follower is None or self._told is None:
            return
        (said, at), now, count = self._looking, self._clock(), self._follower.waiting
        if count != said and (not count or now - at >= LOOKING_S):
            self._looking = (count, now)
            self._wire.control(Type.LOOKING, 0, struct.pack(">Q", count))

    def _say_changes(self) -> None:
        if self._told is not None and self._told != self._generations.version:
            self._say(Type.DIRTY, 0, self._told)

    def _say(self, kind: Type, stream: int, since: Optional[Version]) -> None:
        tree = self.replica.scanner.tree
        keys = self._generations.since(since)
        whole = keys is None
        rows = list(tree.items()) if keys is None else [(one, tree.get(one)) for one in keys]
        side = self.replica.side
        around = Around(
            dict(side.issues), dict(side.spelling), frozenset(side.holding), dict(side.twins)
        )
        news = around if whole or around != self._told_around else None
        version = self._generations.version
        pieces = list(parts(rows))
        growing = frozenset(self.replica.scanner.growing)
        for number, piece in enumerate(pieces):
            first, last = number == 0, number == len(pieces) - 1
            listing = Listing(
                version,
                whole and first,
                last,
                list(piece),
                news if last else None,
                None if self._gone else self._marker,
                self._gone,
                self._follower.watching if self._follower is not None else "off",
                frozenset(growing.intersection(one for one, _ in piece)) if growing else growing,
            )
            self._wire.control(kind, stream, pack_listing(listing))
        self._told, self._told_around = version, around

    # Opening and closing

    def _take(self, request: Dict[str, Any]) -> Replica:
        """Open and lock; an agent that a lost link left behind is sent away first."""
        holder = {str(name): str(value) for name, value in request["holder"].items()}
        holder["pid"] = str(os.getpid())
        take_over = bool(request.get("take_over"))
        began = self._clock()
        asked = False
        while True:
            try:
                replica = self._open_replica(request, holder)
                break
            except FolderBusy as exc:
                ours = take_over or exc.holder.get("id") == holder["id"]
                same = take_over or exc.holder.get("boot") in (None, holder.get("boot"))
                limit = TAKE_OVER_S if same else PROOF_S
                if not ours or self._clock() - began > limit:
                    raise
                if same or not asked:
                    # Another run of the same machine: after a reboot, or a copy of it that runs.
                    _signal(exc.holder, signal.SIGTERM if same else signal.SIGUSR1)
                asked = True
                time.sleep(0.05)
        try:
            _check_owner(replica, holder, take_over)
        except BaseException:
            replica.close()
            raise
        return replica

    def _open_replica(self, request: Dict[str, Any], holder: Dict[str, str]) -> Replica:
        return Replica(
            str(request["root"]),
            _rules(request["rules"]),
            disk=self._disk,
            limits=Limits(hash_below=request.get("hash_below")),
            holder=holder,
            create=bool(request.get("create")),
            expected=request.get("expected"),
        )

    def _save(self) -> None:
        try:
            self.replica.save({"generations": self._generations.to_json()})
        except OSError:
            pass  # it only saves work
        self._saved, self._saved_at = self._generations.version, self._clock()

    def _close(self) -> None:
        if self._follower is None:
            return
        self._follower.close()
        if self._saved != self._generations.version or self.replica.unsaved:
            self._save()
        self.replica.close()


def _open_watch(root: str, tell: Any) -> Any:
    from remotedl.sync.agent.inotify import Watcher

    return Watcher(root, tell)


def _told_why(change: Change, end: Outcome, failed: Dict[bytes, str]) -> Outcome:
    """Content that is missing because it could not be written was refused by the disk."""
    if end.status is Status.NO_CONTENT and change.new is not None:
        why = failed.get(change.new.digest or b"", "")
        return Outcome(Status.REFUSED, why) if why else end
    return end


def _rules(rules: Any) -> Ignore:
    return Ignore([Source(str(text), str(folder)) for text, folder in rules])


def _check_root(root: str, unusual: bool) -> None:
    """Raises Refused for folders that nobody means."""
    path = os.path.realpath(os.path.expanduser(root))
    if path == os.path.dirname(path):
        raise Refused("root", f"{path} is the root of the whole filesystem")
    if not unusual and path == os.path.realpath(os.path.expanduser("~")):
        raise Refused("home", f"{path} is the whole home folder")


def _check_owner(replica: Replica, holder: Dict[str, str], take_over: bool) -> None:
    """Whoever took the folder over keeps it until another one does. Raises FolderBusy, OSError."""
    owner = replica.folder.owner()
    if take_over and owner.get("id") != holder["id"]:
        replica.folder.set_owner({name: holder.get(name, "") for name in ("id", "name")})
    elif owner and owner.get("id") != holder["id"]:
        raise FolderBusy(owner)


def _signal(holder: Dict[str, str], number: int) -> None:
    """To the agent that still holds the folder, if it is one."""
    try:
        pid = int(holder["pid"])
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"agent" not in file.read():
                return
        os.kill(pid, number)
    except (KeyError, ValueError, OSError):
        return


def _new_epoch() -> str:
    return os.urandom(8).hex()
