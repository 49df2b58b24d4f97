"""Bring both folders up: lock, marker, agent, first look at both sides, at the same time.

Ends with a `Pair` that a session works on, or with an error and nothing left open.
"""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from remotedl.config.models import SyncConfig
from remotedl.errors import FolderUnusable, ProtocolError, RootInUse
from remotedl.ssh.remote import Remote
from remotedl.sync.agent.disk import Disk
from remotedl.sync.agent.folder import LOCK, OWN, REPLACED, FolderBusy, FolderGone, FolderReplaced
from remotedl.sync.agent.follow import Follower
from remotedl.sync.agent.ignore import Ignore
from remotedl.sync.agent.packed import alike
from remotedl.sync.agent.replica import Replica
from remotedl.sync.agent.tree import Folding, Traits, Tree, amend
from remotedl.sync.carry import Carrier
from remotedl.sync.database import Database
from remotedl.sync.fresh import Fresh
from remotedl.sync.holder import holder, user
from remotedl.sync.lanes import left_lane
from remotedl.sync.ledger import Ledger
from remotedl.sync.peer import Peer, refusal
from remotedl.sync.picture import Picture
from remotedl.sync.rules import read_rules
from remotedl.sync.safety import HaltKind, Root, check_roots
from remotedl.sync.transfers import Transfers
from remotedl.sync.watch import open_watch

DATABASE = "sync.db"
ANOTHER = "another"
"""Stands for the marker of a folder that took the place of ours: never equal to one of ours."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be opened, and how."""

    root: Path
    connect: Callable[[], Remote]
    remote_root: str
    config: SyncConfig
    state_dir: Path
    watch: bool
    allowed: frozenset[HaltKind]
    confirm: Callable[[str], bool]
    """Asks the user about a folder that few people mean; False where nobody can answer."""
    unusual: bool
    """The user said yes."""
    corner: str
    """The folder in the laptop's `.remotedl/` for what belongs to this host alone; "": none."""
    disk: Disk | None
    """Through which the laptop's folder is reached; None: this machine's own."""
    clock: Callable[[], float]
    wake: Callable[[], None]
    fresh: Fresh


@dataclass(slots=True)
class Pair:
    """Both sides, open. `close` it."""

    database: Database
    ancestor: Tree
    replica: Replica
    follower: Follower
    peer: Peer
    picture: Picture
    transfers: Transfers
    carrier: Carrier
    ledger: Ledger
    remote_root: str
    remote_boot: str
    first: bool
    """Nothing was ever agreed on."""
    scan: Background[set[str]]
    """The laptop's first scan; on a first copy it may still run."""
    closing: ExitStack

    def finish_scan(self) -> None:
        """Wait until the laptop's first scan is over. Raises FolderUnusable."""
        _finish(self.scan, self.replica)

    def roots(self) -> tuple[Root, Root]:
        """What both sides say about their roots now."""
        expected_laptop, expected_remote = self.database.expected_markers
        try:
            marker, here = self.replica.marker(), True
        except FolderGone as exc:
            marker, here = _gone(exc.strerror)
        there = (self.picture.marker, True)
        if self.picture.gone:
            there = _gone(self.picture.gone)
        return Root(here, marker, expected_laptop), Root(there[1], there[0], expected_remote)

    def note_boots(self) -> None:
        """Remember in which runs of both machines the session ended well.

        Not while something that a crash emptied still stands there: it must be known as such next
        time too.
        """
        if not (self.replica.holds_zeroed or self.picture.zeroed):
            boots = (self.replica.boot, self.remote_boot)
            if boots != self.database.boots():
                self.database.set_boots(*boots)

    def close(self) -> None:
        self.closing.close()


def _gone(why: str | None) -> tuple[str | None, bool]:
    """Marker and existence of a root that went away under us."""
    return (ANOTHER, True) if why == REPLACED else (None, False)


def open_pair(request: Request) -> Pair:
    """Raises SyncHalted, FolderUnusable, RootInUse, StateCorrupt, LinkLost, ProtocolError."""
    try:
        with ExitStack() as closing:
            return _open(request, closing)
    except _Unusual as exc:
        if not request.confirm(f"{exc.message}. Sync it all the same?"):
            raise
    with ExitStack() as closing:
        return _open(replace(request, unusual=True), closing)


class _Unusual(FolderUnusable):
    """A folder that few people mean: they are asked."""


def _open(request: Request, closing: ExitStack) -> Pair:
    _check_root(request.root)
    launching = Background("sync-connect", lambda: Peer.launch(request.connect(), request.wake))
    closing.callback(_end, launching)
    used = (request.root / OWN / request.corner / LOCK).exists()
    database = Database(request.state_dir / DATABASE, used=used)
    closing.callback(database.close)
    expected_laptop, expected_remote = database.expected_markers
    if not request.unusual:
        _check_usual(request.root, first=expected_laptop is None)
    rules = read_rules(request.root, request.config)
    laptop_boot, remote_boot = database.boots()
    replica = _open_laptop(request, rules, expected_laptop, laptop_boot)
    closing.callback(replica.close)
    replica.trash.size = request.config.trash_size
    marker = replica.marker()
    laptop = _root(replica.created, marker, expected_laptop)
    untouched = Root(True, expected_remote, expected_remote)
    _halt_unless_sound(laptop, untouched, request.allowed)
    if marker is None:
        marker = _new_marker()
        try:
            replica.folder.set_marker(marker)
        except OSError as exc:
            raise FolderUnusable(f"{request.root}: {exc.strerror}") from exc

    who = holder(request.state_dir, _laptop_id(database), marker, replica.boot)
    hello = _hello(request, rules, who, expected_remote)
    version = database.remote_version()
    greeting = Background("sync-greet", lambda: launching.finish().greeted(hello, version))
    closing.callback(_end, greeting)
    ancestor = alike(database.ancestor(), replica.scanner.tree)
    tree = database.remote(ancestor)
    ledger = Ledger(database)
    amend(ancestor, ledger.agreed)
    replica.scanner.agreed = ancestor
    follower = Follower(replica, request.clock, request.wake)
    closing.callback(follower.close)
    if request.watch:
        follower.start_watching(open_watch)
    replica.scanner.on_read = request.fresh.put
    if not ancestor:
        replica.scanner.known = deque()
        request.fresh.wait_for_room(True)
    scan = Background("sync-scan", follower.scan)
    closing.callback(scan.join)
    closing.callback(request.fresh.wait_for_room, False)

    peer = greeting.finish()
    peer.receive_into(replica)
    answer = peer.opened()
    _check_answer(request, peer.host, answer, laptop, expected_remote)
    remote = _root(bool(answer["created"]), answer["marker"], expected_remote)
    _halt_unless_sound(laptop, remote, request.allowed)
    known = expected_remote is not None and laptop.marker is not None
    known = known and (laptop.marker, remote.marker) == (expected_laptop, expected_remote)
    if not known:  # the first time, or the user let a halt pass
        database.forget_agreement()
        ledger.clear()
        ancestor, tree, version = {}, {}, None
    picture = Picture(tree, version)
    picture.traits = _traits(answer)
    told = peer.told
    if not known:
        told.wait()
        list(peer.listings())  # of another folder: not ours
        remote_marker = remote.marker or _new_marker()
        peer.ops("marker", marker=remote_marker).wait()
        database.expect_markers(marker, remote_marker)
        told = peer.snap(None, scan=False)
    # Until the session ends well, what crashed counts as crashed: see `Pair.note_boots`.
    crashed = bool(remote_boot) and remote_boot != str(answer["boot"])
    if not laptop_boot or not remote_boot:
        database.set_boots(replica.boot, str(answer["boot"]))
    transfers = Transfers(replica, peer, request.clock, request.wake)
    closing.callback(transfers.close)
    carrier = Carrier(replica, picture, peer, transfers, ledger)
    told.wait()
    for listing in peer.listings():
        picture.take(listing)
    if crashed:
        picture.note_crash(ancestor)
    if ancestor or picture.tree:
        request.fresh.wait_for_room(False)
        _finish(scan, replica)
    _leave_lanes(database, ledger, request.config, ancestor, replica.side.tree, picture.tree)
    return Pair(
        database=database,
        ancestor=ancestor,
        replica=replica,
        follower=follower,
        peer=peer,
        picture=picture,
        transfers=transfers,
        carrier=carrier,
        ledger=ledger,
        remote_root=str(answer["root"]),
        remote_boot=str(answer["boot"]),
        first=not ancestor,
        scan=scan,
        closing=closing.pop_all(),
    )


def _leave_lanes(
    database: Database,
    ledger: Ledger,
    config: SyncConfig,
    ancestor: Tree,
    laptop: Tree,
    remote: Tree,
) -> None:
    """`outputs` may name other paths than in the last session."""
    before, now = database.outputs(), tuple(config.outputs)
    if before == now:
        return
    forgotten = left_lane(ancestor, laptop, remote, before, now) if before else set()
    for key in forgotten:
        ancestor.pop(key, None)
    if forgotten:
        ledger.forget(forgotten)
    database.set_outputs(now)


class Background(threading.Thread, Generic[T]):
    """Something that takes a while, done meanwhile."""

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._result: T
        self._error: BaseException | None = None
        self.start()

    @property
    def is_done(self) -> bool:
        return not self.is_alive()

    @property
    def succeeded(self) -> bool:
        return self.is_done and self._error is None

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as exc:  # noqa: BLE001
            self._error = exc

    def finish(self) -> T:
        """Wait for it. Raises what it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._result


def _end(starting: Background[Peer]) -> None:
    """Whatever became of it, no agent is left."""
    starting.join()
    if starting.succeeded:
        starting.finish().close()


def _finish(scan: Background[set[str]], replica: Replica) -> None:
    try:
        scan.finish()
    except OSError as exc:
        raise FolderUnusable(f"{replica.folder.path}: {exc.strerror}") from exc


def _open_laptop(request: Request, rules: Ignore, expected: str | None, last_boot: str) -> Replica:
    root = str(request.root)
    remake = HaltKind.ROOT_MISSING in request.allowed
    holds = {"name": user(), "pid": str(os.getpid())}
    try:
        return Replica(
            root,
            rules,
            disk=request.disk,
            holder=holds,
            create=remake,
            last_boot=last_boot,
            corner=request.corner,
            expected=_required(request, expected),
        )
    except FolderReplaced as exc:
        sound = Root(True, None, None)
        _halt_unless_sound(Root(True, exc.marker, expected), sound, request.allowed)
        raise FolderUnusable(f"{root}: {exc.strerror}") from exc
    except FolderGone as exc:
        gone = Root(False, None, expected)
        if expected is not None:
            _halt_unless_sound(gone, Root(True, None, None), request.allowed)
        raise FolderUnusable(f"{root}: {exc.strerror}") from exc
    except FolderBusy as exc:
        who = f" (process {exc.holder['pid']})" if "pid" in exc.holder else ""
        message = f"{root} is being synced by another session{who}"
        raise RootInUse(message, hint="remotedl status") from exc
    except OSError as exc:
        raise FolderUnusable(f"{root}: {exc.strerror}: {exc.filename}") from exc


def _required(request: Request, expected: str | None) -> str | None:
    """The marker without which a folder is not even opened: a halt makes nothing in it."""
    return None if HaltKind.ROOT_REPLACED in request.allowed else expected


def _laptop_id(database: Database) -> str:
    """Tells this memory of the pair from any other; one that was lost is another one."""
    id = database.laptop_id()
    if id is None:
        id = _new_marker()
        database.set_laptop_id(id)
    return id


def _hello(
    request: Request, rules: Ignore, holder: dict[str, str], expected: str | None
) -> dict[str, Any]:
    return {
        "root": request.remote_root,
        "create": expected is None or HaltKind.ROOT_MISSING in request.allowed,
        "expected": _required(request, expected),
        "holder": holder,
        "take_over": HaltKind.ROOT_IN_USE in request.allowed,
        "rules": [list(source) for source in rules.sources],
        "hash_below": request.config.max_file_size_down,
        "trash_size": request.config.trash_size,
        "watch": request.watch,
        "unusual": request.unusual or expected is not None,
    }


def _check_answer(
    request: Request, host: str, answer: dict[str, Any], laptop: Root, expected: str | None
) -> None:
    """Raises SyncHalted, RootInUse, FolderUnusable, ProtocolError."""
    if "error" in answer:
        if answer["error"] == "gone" and expected is not None:
            _halt_unless_sound(laptop, Root(False, None, expected), request.allowed)
        if answer["error"] == "replaced" and expected is not None:
            found = answer.get("marker")
            there = Root(True, None if found is None else str(found), expected)
            _halt_unless_sound(laptop, there, request.allowed)
        if answer["error"] == "home":
            raise _Unusual(
                f"{request.remote_root} on {host} is a whole home folder",
                hint="set workdir to a folder below it in hosts.toml",
            )
        raise refusal(answer, host, request.remote_root)
    marker = answer.get("marker")
    complete = {"root", "boot", "created"} <= answer.keys()
    if not complete or not (marker is None or isinstance(marker, str)):
        raise ProtocolError(f"the agent on {host} does not introduce itself")
    if answer.get("link") and expected is None and not request.unusual:
        raise _Unusual(
            f"{request.remote_root} on {host} is a link to {answer['root']}",
            hint=f"set workdir to {answer['root']} in hosts.toml",
        )


def _root(created: bool, marker: str | None, expected: str | None) -> Root:
    """A root that was made just now was missing, unless it is the first time."""
    return Root(expected is None or not created, marker, expected)


def _halt_unless_sound(laptop: Root, remote: Root, allowed: frozenset[HaltKind]) -> None:
    halt = check_roots(laptop, remote, allowed)
    if halt is not None:
        raise halt.error()


def _check_root(root: Path) -> None:
    """Raises FolderUnusable for what nobody means."""
    path = Path(os.path.realpath(root))
    if path == path.parent:
        raise FolderUnusable(f"{path} is the root of the whole filesystem; it is never synced")


def _check_usual(root: Path, *, first: bool) -> None:
    """Raises _Unusual for what few people mean; what was synced before is meant."""
    path = Path(os.path.realpath(root))
    if first and path == Path.home().resolve():
        hint = "change into a project folder"
        raise _Unusual(f"{path} is your whole home folder", hint=hint)
    if first and root.is_symlink():
        raise _Unusual(f"{root} is a link to {path}", hint=f"cd {path}")


def _traits(answer: dict[str, Any]) -> Traits:
    folding = Folding(bool(answer.get("case_insensitive")), bool(answer.get("normalising")))
    return Traits(
        folding,
        executable=bool(answer.get("executable", True)),
        links=bool(answer.get("links", True)),
    )


def _new_marker() -> str:
    return f"{random.SystemRandom().getrandbits(128):032x}"
