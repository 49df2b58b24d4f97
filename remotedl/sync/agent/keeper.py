"""The agent's one thread that touches the replica: runs requests, follows events, tells changes.

Everything that it says about the replica goes out in the order in which it became true, so that
the laptop's picture is never older than the last answer.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from remotedl.sync.agent.apply import Status
from remotedl.sync.agent.disk import Disk
from remotedl.sync.agent.folder import OWN, FolderBusy, FolderGone
from remotedl.sync.agent.hints import ROOT, Hint, Hints
from remotedl.sync.agent.ignore import Ignore, Source
from remotedl.sync.agent.listing import Around, Generations, Listing, Version, pack_listing
from remotedl.sync.agent.protocol import Type, pack_json, parts
from remotedl.sync.agent.replica import Replica, is_cookie, is_own
from remotedl.sync.agent.scan import Limits
from remotedl.sync.agent.trash import entry_to_json
from remotedl.sync.agent.tree import Change, key
from remotedl.sync.agent.wire import Wire

TAKE_OVER_S = 5.0
"""How long an agent of the same laptop, left by a lost link, is given to go."""
POLL_S = 10.0
"""How often everything is looked at where the kernel gives no watches."""
BACKGROUND_S = 600.0
"""How often everything is looked at although the kernel tells what changes."""
COOKIE_S = 2.0
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

    def __init__(self, wire: Wire, disk: Optional[Disk], clock: Callable[[], float]) -> None:
        self._wire = wire
        self._disk = disk
        self._clock = clock
        self._tasks: queue.Queue[Optional[Task]] = queue.Queue()
        self._hints = Hints()
        self._hints_lock = threading.Lock()
        self._poked = False
        self._cookies: Dict[str, threading.Event] = {}
        self._replica: Optional[Replica] = None
        self._watcher: Any = None
        self._watching = "off"
        self._generations = Generations(_new_epoch())
        self._told: Optional[Version] = None
        """What the laptop knows."""
        self._told_around: Optional[Around] = None
        self._scanned = 0.0
        self._saved: Optional[Version] = None
        self._saved_at = clock()

    @property
    def replica(self) -> Replica:
        assert self._replica is not None, "HELLO opens it"
        return self._replica

    def post(self, task: Optional[Task]) -> None:
        """Run `task` when it is its turn; None ends the keeper."""
        self._tasks.put(task)

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
                task()
                if self._tasks.empty():
                    self._follow()
        finally:
            self._close()

    # Requests

    def open(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """HELLO: open the replica as asked; what to answer. Raises Refused."""
        root = str(request["root"])
        _check_root(root, bool(request.get("unusual")))
        ignore = _rules(request["rules"])
        holder = {**request["holder"], "pid": str(os.getpid())}
        limits = Limits(hash_below=request.get("hash_below"))
        try:
            replica = self._take(root, ignore, limits, holder, bool(request.get("create")))
        except FolderGone as exc:
            raise Refused("gone", exc.strerror or str(exc)) from exc
        except FolderBusy as exc:
            raise Refused("busy", str(exc), holder=exc.holder) from exc
        except OSError as exc:
            raise Refused("unusable", exc.strerror or str(exc), path=exc.filename) from exc
        self._replica = replica
        if replica.saved is not None:
            notes = replica.saved.notes.get("generations")
            self._generations = Generations.from_json(notes, self._generations.epoch)
            self._saved = self._generations.version
        if request.get("watch"):
            self._start_watching()
        side = replica.side
        return {
            "root": replica.folder.path,
            "marker": replica.marker(),
            "boot": replica.boot,
            "traits": {
                "case_insensitive": side.traits.folding.case_insensitive,
                "normalising": side.traits.folding.normalising,
                "executable": side.traits.executable,
                "links": side.traits.links,
            },
            "watching": self._watching,
        }

    def tell(self, stream: int, since: Optional[Version], scan: bool) -> None:
        """SNAP: look at everything (or only at what is known to have changed), tell what is new."""
        if scan:
            self._look([ROOT])
        else:
            self._look(self._all_hints())
        self._say(Type.SNAP, stream, since)

    def set_marker(self, marker: str) -> None:
        self.replica.folder.set_marker(marker)

    def commit(
        self,
        stream: int,
        changes: List[Change],
        step: str,
        reasons: List[str],
        failed: Dict[bytes, str],
    ) -> None:
        """COMMIT: apply, tell what turned out to be otherwise, then how each change ended."""
        outcomes = self.replica.apply(changes, step, reasons)
        done = []
        doubtful = []
        answers = []
        for change, outcome in zip(changes, outcomes):
            why = outcome.why
            if outcome.status is Status.DONE:
                done.append(key(change.path))
            else:
                doubtful.append(change.path)
            if outcome.status is Status.NO_CONTENT and change.new is not None:
                why = failed.get(change.new.digest or b"", why)
            answers.append([outcome.status.value, why])
        up_to_date = self._told == self._generations.version
        self._generations.note(done)
        if up_to_date:
            self._told = self._generations.version
        self._look(doubtful)
        self._say_changes()
        answer = {"outcomes": answers, "version": list(self._generations.version)}
        self._wire.control(Type.ACK, stream, pack_json(answer))

    def flush(self, stream: int, cookie: str) -> None:
        """FLUSH: everything that was written here before now is told before the answer."""
        proved = self._await_cookie(cookie)
        self._look(self._all_hints() if proved else [ROOT])
        self._say_changes()
        answer = {"proved": proved, "version": list(self._generations.version)}
        self._wire.control(Type.ACK, stream, pack_json(answer))

    def set_rules(self, rules: List[Any]) -> None:
        self.replica.set_rules(_rules(rules))
        self._look([ROOT])
        self._say_changes()

    def list_trash(self) -> Dict[str, Any]:
        return {
            "lines": [
                {**line._asdict(), "old": entry_to_json(line.old), "new": entry_to_json(line.new)}
                for line in self.replica.trash.kept()
            ]
        }

    # Following

    def hint(self, path: str, hint: Hint) -> None:
        """From the watcher's thread."""
        cookie = is_cookie(path)
        if cookie is not None:
            seen = self._cookies.get(cookie)
            if seen is not None:
                seen.set()
            return
        if is_own(path):
            return
        with self._hints_lock:
            self._hints.add(path, hint, self._clock())
            poke, self._poked = not self._poked, True
        if poke:
            self._tasks.put(self._unpoke)

    def _unpoke(self) -> None:
        self._poked = False

    def _follow(self) -> None:
        """Look at what is ripe, and tell what changed."""
        if self._replica is None or self._told is None:
            return
        now = self._clock()
        with self._hints_lock:
            ripe = self._hints.ripe(now)
        if now - self._scanned > self._scan_every():
            ripe = [ROOT]
        if ripe:
            self._look(ripe)
        if self.replica.scanner.next_due() == 0.0:
            self._note(self.replica.scanner.look_again())
        self._say_changes()
        if self._saved != self._generations.version and now - self._saved_at > SAVE_S:
            self._save()

    def _patience(self) -> Optional[float]:
        """How long nothing has to be done."""
        if self._replica is None or self._told is None:
            return None
        now = self._clock()
        with self._hints_lock:
            ripe = self._hints.next_ripe(now)
        waits = [self._scanned + self._scan_every() - now]
        waits += [wait for wait in (ripe, self.replica.scanner.next_due()) if wait is not None]
        if self._saved != self._generations.version:
            waits.append(self._saved_at + SAVE_S - now)
        return max(0.001, min(waits))

    def _scan_every(self) -> float:
        limited = self._watcher is None or self._watcher.limited is not None
        return POLL_S if limited and self._watching != "off" else BACKGROUND_S

    def _look(self, paths: List[str]) -> None:
        if not paths:
            return
        try:
            if ROOT in paths:
                started = time.monotonic()
                self._note(self.replica.scan())
                # A scan that takes long must not be all that happens.
                self._scanned = self._clock() + 9 * (time.monotonic() - started)
            else:
                self._note(self.replica.look(paths))
        except FolderGone as exc:
            self._say_gone(exc)
        if self._watcher is not None and self._watcher.limited is not None:
            self._watching = "poll"

    def _note(self, changed: Any) -> None:
        if changed:
            self._generations.note(changed)

    def _all_hints(self) -> List[str]:
        with self._hints_lock:
            return self._hints.all()

    def _await_cookie(self, cookie: str) -> bool:
        if self._watcher is None or self._watcher.limited is not None:
            return False
        seen = self._cookies[cookie] = threading.Event()
        try:
            self.replica.write_cookie(cookie)
            return seen.wait(COOKIE_S)
        except OSError:
            return False
        finally:
            del self._cookies[cookie]

    # Telling

    def _say_changes(self) -> None:
        if self._told is not None and self._told != self._generations.version:
            self._say(Type.DIRTY, 0, self._told)

    def _say(self, kind: Type, stream: int, since: Optional[Version]) -> None:
        tree = self.replica.scanner.tree
        keys = self._generations.since(since)
        whole = keys is None
        rows = list(tree.items()) if keys is None else [(one, tree.get(one)) for one in keys]
        side = self.replica.side
        around = Around(dict(side.issues), dict(side.spelling), frozenset(side.holding))
        news = around if whole or around != self._told_around else None
        version = self._generations.version
        marker = self.replica.folder.marker()
        pieces = list(parts(rows))
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            told = news if last else None
            listing = Listing(version, whole and number == 0, last, list(piece), told, marker)
            self._wire.control(kind, stream, pack_listing(listing))
        self._told, self._told_around = version, around

    def _say_gone(self, exc: OSError) -> None:
        gone = exc.strerror or str(exc)
        listing = Listing(self._generations.version, False, True, [], None, None, gone)
        self._wire.control(Type.DIRTY, 0, pack_listing(listing))

    # Opening and closing

    def _take(
        self, root: str, ignore: Ignore, limits: Limits, holder: Dict[str, str], create: bool
    ) -> Replica:
        """Open and lock; an agent that a lost link left behind is sent away first."""
        deadline = self._clock() + TAKE_OVER_S
        while True:
            try:
                return Replica(
                    root, ignore, disk=self._disk, limits=limits, holder=holder, create=create
                )
            except FolderBusy as exc:
                ours = exc.holder.get("id") == holder.get("id")
                if not ours or self._clock() > deadline:
                    raise
                _send_away(exc.holder)
                time.sleep(0.05)

    def _start_watching(self) -> None:
        from remotedl.sync.agent.inotify import Unwatchable, Watcher

        self._watching = "events"
        try:
            self._watcher = Watcher(self.replica.folder.path, self.hint)
        except (OSError, AttributeError) as exc:
            self._watching = "poll"
            if isinstance(exc, Unwatchable):
                self._watching = "poll: " + exc.sysctl
            return
        self._watcher.watch(OWN)
        self.replica.scanner.on_dir = self._watcher.watch

    def _save(self) -> None:
        try:
            self.replica.save({"generations": self._generations.to_json()})
        except OSError:
            pass  # it only saves work
        self._saved, self._saved_at = self._generations.version, self._clock()

    def _close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        if self._replica is not None:
            if self._saved != self._generations.version:
                self._save()
            self._replica.close()


def _rules(rules: Any) -> Ignore:
    return Ignore([Source(str(text), str(folder)) for text, folder in rules])


def _check_root(root: str, unusual: bool) -> None:
    """Raises Refused for folders that nobody means."""
    path = os.path.realpath(os.path.expanduser(root))
    if path == os.path.dirname(path):
        raise Refused("refused", f"{path} is the root of the whole filesystem")
    if not unusual and path == os.path.realpath(os.path.expanduser("~")):
        raise Refused("unusual", f"{path} is the whole home folder")


def _send_away(holder: Dict[str, str]) -> None:
    """End an agent of the same laptop that still holds the folder."""
    try:
        pid = int(holder["pid"])
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"agent" not in file.read():
                return
        os.kill(pid, signal.SIGTERM)
    except (KeyError, ValueError, OSError):
        return


def _new_epoch() -> str:
    return f"{random.SystemRandom().getrandbits(64):016x}"
