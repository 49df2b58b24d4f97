"""A sync session: two folders, opened, watched and kept equal. What `session` and `cli` call.

One cycle is: what changed → `reconcile` → `safety` → `carry` → what was really done goes into the
ancestor, in one transaction. Everything else here is about when to do that. The deciding is in
`reconcile` and `safety`, the doing in `agent/apply`.
"""

from __future__ import annotations

import atexit
import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

from remotedl.config.models import SyncConfig
from remotedl.errors import (
    FolderUnusable,
    StateCorrupt,
    SyncError,
    SyncHalted,
    SyncPaused,
    UsageError,
)
from remotedl.report import SILENT, Report
from remotedl.ssh.remote import Remote
from remotedl.sync.agent.disk import Disk
from remotedl.sync.agent.folder import FolderGone
from remotedl.sync.agent.ignore import ALWAYS, DEFAULTS, Ignore, Source
from remotedl.sync.agent.packed import Packed, alike, count_files
from remotedl.sync.agent.tree import DIR, Change, Entry, Issue, amend, changed_keys, share
from remotedl.sync.agent.tree import key as key_of
from remotedl.sync.agent.undo import REASON as UNDO
from remotedl.sync.behind import behind
from remotedl.sync.carry import Carried
from remotedl.sync.conflicts import Comparison
from remotedl.sync.database import Step
from remotedl.sync.estimate import Estimate, estimate
from remotedl.sync.express import Express
from remotedl.sync.firstcopy import can_begin, copy_while_reading
from remotedl.sync.fresh import Fresh
from remotedl.sync.history import PastStep, Undone, choose_step, read_history, undo_step
from remotedl.sync.instructions import HOME, Instructions
from remotedl.sync.lanes import Choice, Decision, Policy, policy_of
from remotedl.sync.losses import WINDOW_S, Losses
from remotedl.sync.manifest import manifest
from remotedl.sync.measure import measure_rate
from remotedl.sync.memory import one_heap, trim
from remotedl.sync.opening import DATABASE, Pair, Request, open_pair
from remotedl.sync.proof import place_of, put_back
from remotedl.sync.reconcile import reconcile
from remotedl.sync.remedies import shown, typed
from remotedl.sync.rules import is_rules_file, read_rules
from remotedl.sync.safety import NOTHING_ALLOWED, Cleared, Halt, HaltKind, check_roots, clear
from remotedl.sync.status import Barrier, Counts, Opening, Outcome, State, SyncStatus, There
from remotedl.sync.turns import DiskSilent, Turns
from remotedl.sync.verdict import (
    Conflict,
    ConflictKind,
    Operation,
    Verdict,
    Where,
    settle,
    unmerged,
)
from remotedl.sync.versions import compare_unmerged, compare_versions

RETRY_S = 1.0
"""What was busy or had changed is tried again after so long."""
FAILED_S = 30.0
"""What the system refused is tried again after so long."""
ROOT_S = 2.0
"""How often the laptop's folder is looked for at its path: no event tells that one above moved."""
HALTED_S = 1.0
"""How often a halt is looked at anew; all of both sides is compared then."""
NAP_S = 0.25
"""How often a live session looks whether it is to stop."""
HISTORY = 10_000
"""Steps among which `undo` looks."""
GARBAGE = (200_000, 50, 100)
"""Trees are many small objects in no cycles: looking for cycles takes a sixth of a first scan."""
TURN_S = 0.0005
"""How long a thread computes before another may, while both sides are opened."""
USUAL_TURN_S = 0.005
"""Python's own."""
ROUNDS = 100
"""Cycles in a row after which `cycle` gives up on folders that do not come to rest."""
PLAN_S = 60.0
CLOSE_S = 5.0
"""How long the end waits for a cycle."""
NO_VERDICT = Verdict((), (), {}, (), (), (), (), frozenset())
SLICE = 2000
"""So many new files are decided upon at once in a live session: saves overtake between batches."""
FLUSH_ROUNDS = 10
"""Cycles in a row after which `flush` waits for nothing but what is on its way."""
DAY_S = 86400.0
PRUNE_EVERY_S = 3600.0
"""How often both trashes are kept to their limits."""


class Sync:
    """Keeps a folder of the laptop and one of a host equal.

    Use: `open`, then `cycle` once, or `run` in a thread until it is told to stop; `close` in any
    case. `run` raises LinkLost when the link is gone: make a new `Sync` over a new connection.
    All other methods may be called from any thread while `run` runs.
    """

    def __init__(
        self,
        root: Path,
        remote: Remote | Callable[[], Remote],
        remote_root: str,
        config: SyncConfig,
        *,
        state_dir: Path,
        report: Report = SILENT,
        watch: bool = True,
        allowed: frozenset[HaltKind] = frozenset(),
        confirm: Callable[[str], bool] = lambda _: False,
        corner: str = "",
        named: Iterable[str] = (),
        container: str = "",
        disk: Disk | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`remote_root` may start with "~/". `state_dir` holds the database of this pair.

        `remote` may be a function that connects: the laptop is scanned meanwhile.

        `watch`: follow changes (for `run`). `allowed`: halts that the user lets pass, once.
        `confirm`: asks the user about a folder that is a whole home, or a link. `disk`: how the
        laptop's folder is reached, if not by this machine's own calls. `corner`: where in the
        laptop's `.remotedl/` the trash of this host is; each of several hosts has its own.
        `named`: keys of files that remotedl, ssh or git were told to read; see instructions.py.
        `container`: in which the host's folder is mounted, for hints.
        """
        self._config = config
        self._container = container
        home = HOME if root.resolve() == Path.home().resolve() else ()
        self._instructions = Instructions((*config.ask_before, *home), named)
        self._report = report
        self._clock = clock
        self._now = now
        self._fresh = Fresh()
        self._lock = Turns(self._disk_since)
        self._wake = threading.Event()
        self._request = Request(
            root=root,
            connect=remote if callable(remote) else lambda: remote,
            remote_root=remote_root,
            config=config,
            state_dir=state_dir,
            watch=watch,
            allowed=allowed,
            confirm=confirm,
            unusual=False,
            corner=corner,
            disk=disk,
            clock=clock,
            wake=self._wake.set,
            fresh=self._fresh,
        )
        self._open_pair: Pair | None = None
        self._state = State.OPENING
        self._allowed = allowed
        self._halt: Halt | None = None
        self._outcome = Outcome()
        self._candidates: set[str] = set()
        """Keys of the last cycle that have to be looked at again."""
        self._unmerged: set[str] = set()
        """Keys of versions that could not be merged where the file was open in Jupyter."""
        self._moved = False
        """The last cycle did something: what it made possible is decided in another one."""
        self._changed: set[str] | None = None
        """Keys that may differ from the ancestor; None: all of them."""
        self._retry_at: float | None = None
        self._last_success: float | None = None
        self._read_for_sure: set[str] = set()
        """Big files of the host whose digests were asked for."""
        self._serial = 0
        self._prune_at = 0.0
        """When to look whether the trashes are due (`clock`)."""
        self._losses = Losses()
        self._root_was_gone = False
        """The laptop's folder was not there: what happened in it meanwhile, no event told."""
        self._rules_unread = False
        """The user was told that the rules cannot be read now."""
        self._in_hand = 0
        """Keys that are being decided upon."""
        self._files = 0
        self._since: dict[str, float] = {}
        """Since when what a program is writing waits for it."""
        self._news = 0
        """What is being looked at here, or was told by the agent and is being taken in."""
        self._paused = False
        self._stale = False
        """A request was given up: what the host did with it is to be asked for."""
        self._counted = False
        """While paused: how much waits is known."""
        self._runs = False
        """Followed live: what was seen last may be old."""
        self._root_at = 0.0
        """When to look whether it is there (`clock`)."""
        self._again_at = 0.0
        """When to look at a halt anew (`clock`)."""

    @property
    def _pair(self) -> Pair:
        if self._open_pair is None:
            raise UsageError("the sync is not open")
        return self._open_pair

    def open(self) -> Opening:
        """Open, lock and scan both sides; nothing is changed yet but our own `.remotedl/`.

        Raises SyncHalted, FolderUnusable, RootInUse, StateCorrupt, LinkLost, ProtocolError.
        """
        gc.set_threshold(*GARBAGE)
        if self._request.watch:  # a session that stays
            one_heap()
        _end_quickly()
        found = put_back(self._request.root, self._request.state_dir / DATABASE)
        with _quick_turns():
            pair = open_pair(self._request)
            while not (pair.replica.scanner.listed.wait(NAP_S) or pair.scan.is_done):
                pass
        self._open_pair = pair
        pair.replica.scanner.on_similar = self._prepare
        self._state = State.LIVE
        days = self._config.trash_days
        pair.database.drop_steps(self._now() - days * DAY_S)
        self._remember_losses()
        pair.database.note_place(place_of(self._request.root))
        if found:
            self._report.note(
                f"{self._request.root} had lost its .remotedl; it is the folder that is synced "
                f"with {pair.remote_root} on {pair.peer.host}, and goes on as that"
            )
        return Opening(
            remote_root=pair.remote_root,
            laptop_files=pair.replica.scanner.files_listed,
            remote_files=count_files(pair.picture.tree),
            first=pair.first,
            left_out=_lines(pair.replica.scanner.ignore),
        )

    def close(self) -> None:
        """End the session in order; idempotent. Whoever waits for a disk that hangs is ended."""
        if not self._lock.acquire(CLOSE_S):
            self.abort()
            if not self._lock.acquire(CLOSE_S):
                return  # the laptop's own disk hangs
        try:
            pair, self._open_pair = self._open_pair, None
            self._state = State.CLOSED
            if pair is None:
                return
            pair.peer.say_bye()
            try:
                pair.replica.save()
                if pair.scan.is_done:
                    pair.note_boots()
            except (OSError, StateCorrupt, FolderUnusable):
                pass  # it only saves work
            pair.close()
        finally:
            self._lock.release()

    def abort(self) -> None:
        """Have every wait for the host end in LinkLost. From any thread; never blocks."""
        pair = self._open_pair
        if pair is not None:
            pair.peer.abort()

    def _disk_since(self) -> float | None:
        pair = self._open_pair
        return None if pair is None else pair.peer.disk_since

    def plan(self) -> Verdict:
        """What a cycle would do now; the status knows its conflicts then. Raises SyncHalted."""
        with self._lock:
            self._finish_scan()
            if self._runs:  # else both sides have just been looked at
                self._see_all(PLAN_S)
            self._take_news()
            self._check_roots()
            return self._foresee()

    def _foresee(self) -> Verdict:
        self._know_own_past()
        verdict = self._decide(self._changed)
        self._outcome = self._outcome._replace(
            conflicts=verdict.conflicts, frozen=verdict.frozen, left_out=verdict.left_out
        )
        return verdict

    def estimate(self) -> tuple[Verdict, Estimate, Halt | None]:
        """What a cycle would do now, what it would cost at the rate measured just now, and
        whether safety would stop it.

        Raises SyncHalted, LinkLost.
        """
        with self._lock:
            verdict = self.plan()
            pair = self._pair

            def ask(size: int) -> None:
                pair.peer.ops("probe", data="0" * size).wait()

            rate = measure_rate(ask, self._clock)
            here, there = _digests(pair.replica.side.tree), _digests(pair.picture.tree)
            halt = self._clear(verdict, NOTHING_ALLOWED)
            cost = estimate(verdict, here, there, rate)
            return verdict, cost, halt if isinstance(halt, Halt) else None

    def cycle(self, *, scan: bool = True) -> Outcome:
        """Bring both sides together: until nothing is left that can be done now.

        `scan`: look at everything anew first; not needed right after `open`.
        Raises SyncHalted, LinkLost, SyncError.
        """
        with self._lock:
            self._require_going()
            first = self._copy_first()
            if scan:
                self._scan_both()
            total = _sum(first, self._step())
            for _ in range(ROUNDS):
                if not self._wait_for_more():
                    break
                total = _sum(total, self._step())
            self._prune_trashes()
            return total

    def run(self, stop: threading.Event) -> None:
        """Keep both sides equal until `stop`. Raises LinkLost, ProtocolError."""
        with self._lock.patiently(stop) as mine:
            if not mine:
                return
            self._runs = True
            if self._paused:
                self._finish_scan()
            else:
                self._copy_first()
            self._take_less_memory()
            trim()  # what was needed to open both sides is not needed any more
        while not stop.is_set():
            with self._lock.patiently(stop) as mine:
                patience = self._tend() if mine else 0.0
            self._wake.wait(min(patience, NAP_S))
            self._wake.clear()

    def flush(self, timeout_s: float = 60.0) -> Barrier:
        """What was written or removed on either side before now is so on both when this returns.

        Raises SyncHalted, SyncPaused, LinkLost; TimeoutError when it takes longer.
        """
        deadline = self._clock() + timeout_s
        with self._lock.within(timeout_s):
            self._require_going()
            self._copy_first()
            self._see_all(timeout_s)
            outcome = self._step()
            rounds = 1
            # What one cycle made possible (a copy beside a conflict) is done in the next ones.
            while outcome.pending or (self._moved and rounds < FLUSH_ROUNDS):
                if not self._wait_for_more():
                    break
                if self._clock() > deadline:
                    raise TimeoutError(f"{outcome.pending} paths are not synced yet")
                outcome = self._step()
                rounds += 1
            stands = outcome.pending, outcome.failures, outcome.conflicts, outcome.frozen
            return Barrier(*stands, self._behind(outcome), self._there(self._pair))

    def manifest(self) -> bytes:
        """Which version of every file the host holds, as far as we know: see manifest.py."""
        with self._lock:
            return manifest(self._pair.picture.tree)

    def status(self) -> SyncStatus:
        """How things stand; never blocks for long and asks nobody."""
        pair = self._open_pair
        unsettled = self._unsettled()
        outcome = self._outcome
        return SyncStatus(
            state=self._state,
            last_success=self._last_success,
            pending=unsettled + outcome.pending,
            transfers=pair.transfers.progress() if pair else (),
            conflicts=outcome.conflicts,
            frozen=outcome.frozen,
            failures=outcome.failures,
            left_out=outcome.left_out,
            laptop_watching=pair.follower.watching if pair else "off",
            remote_watching=pair.picture.watching if pair else "off",
            halt=self._halt,
            files=self._count_files(),
            since=self._since,
            unmerged=tuple(sorted(self._unmerged)),
            disk_since=self._disk_since(),
            there=self._there(pair) if pair else There(),
        )

    def _there(self, pair: Pair) -> There:
        return There(pair.peer.host, pair.remote_root, self._container)

    def _count_files(self) -> int:
        """As of the last moment at which nothing was just being recorded."""
        pair = self._open_pair
        try:
            self._files = count_files(pair.ancestor) if pair else 0
        except RuntimeError:
            pass  # it changed while it was counted
        return self._files

    def _unsettled(self) -> int:
        """How much is known to have changed, on either side, and is not decided upon yet.

        From any thread: "in step" is said only where this is 0.
        """
        pair = self._open_pair
        if pair is None:
            return 0
        # In the order in which a change goes from one to the next: none is missed between them.
        found = pair.follower.waiting + pair.peer.untold + self._news
        changed = self._changed
        if self._state not in (State.PAUSED, State.HALTED):  # there they are counted as pending
            found += 1 if changed is None else len(changed)
        found += self._in_hand
        return found + max(0, pair.ledger.outstanding - self._outcome.pending)

    def pause(self) -> None:
        """Change nothing until `resume`; what waits meanwhile is counted. Never blocks."""
        self._paused = True
        self._counted = False
        self._state = State.PAUSED
        self._wake.set()

    def _require_going(self) -> None:
        if self._paused:
            raise SyncPaused("the sync is paused", hint="remotedl sync resume")

    def resume(self) -> None:
        with self._lock:
            self._paused = False
            self._state = State.LIVE
            self._changed = None
        self._wake.set()

    def lost_root(self) -> Halt | None:
        """Whether one of the folders is missing or replaced right now. Raises LinkLost."""
        with self._lock:
            pair = self._pair
            pair.peer.snap(pair.picture.version, scan=False).wait()
            self._take_news()
            return check_roots(*pair.roots())

    def allow(self, kinds: Iterable[HaltKind]) -> None:
        """Let these halts pass, once."""
        with self._lock:
            self._require_going()
            self._allowed = frozenset(kinds)
            self._changed = None
        self._wake.set()

    def resolve(self, key: str, choice: Choice, seen: str = "") -> Conflict:
        """Settle a conflict, for the two versions that are there now.

        `seen`: the version of the conflict whose differences the user was shown; what is held
        back is taken from the host for no other. Raises UsageError.
        """
        with self._lock:
            self._require_going()
            conflict = self._conflict(key)
            if conflict.held and choice is not Choice.LAPTOP and seen != conflict.version:
                raise UsageError(
                    f"{shown(key)} tells a program of the laptop what to do: nobody was shown "
                    "what differs now",
                    hint=f"remotedl sync resolve {typed(key)} --{choice.value}",
                )
            decision = Decision(choice, conflict.version)
            self._pair.database.decide(key, decision)
            self._changed = None
        self._wake.set()
        return conflict

    def conflicts_like(self, pattern: str | None) -> tuple[Conflict, ...]:
        """Those whose path a line of .gitignore names; all for None."""
        with self._lock:
            found = self._outcome.conflicts
        if pattern is None:
            return found
        rules = Ignore([Source(pattern)], defaults=False)
        return tuple(
            one for one in found if rules.ignores(one.key, DIR in (one.laptop, one.remote))
        )

    def compare(self, key: str) -> Comparison:
        """What differs in a conflict. Raises UsageError, LinkLost."""
        with self._lock:
            self._take_news()
            self._foresee()
            if key in self._unmerged:
                return compare_unmerged(self._pair, key)
            return compare_versions(self._pair, self._conflict(key))

    def history(self, limit: int = 100) -> tuple[PastStep, ...]:
        """What the sync changed, newest first. Raises LinkLost, ProtocolError."""
        with self._lock:
            return read_history(self._pair, limit)

    def undo(
        self, step: str | None = None, where: Where | None = None, paths: Sequence[str] = ()
    ) -> Undone:
        """Bring back what a step displaced, on its side; a cycle carries it over.

        `step`: the beginning of its id; None: the last one that can be brought back. `paths`: only
        these and what is below them. Raises UsageError, LinkLost, ProtocolError.
        """
        with self._lock:
            self._require_going()
            pair = self._pair
            self._take_news()
            trees = {Where.LAPTOP: pair.replica.side.tree, Where.REMOTE: pair.picture.tree}
            chosen = choose_step(read_history(pair, HISTORY), step, where, paths, trees)
            new_step = self._new_step()
            undone = undo_step(self._pair, chosen, paths, new_step)
            done = undone.changes
            if done:
                record = Step(new_step, self._now(), chosen.where.value, (UNDO,) * len(done), done)
                self._pair.database.add_step(record)
            self._note({key_of(change.path) for change in done})
        self._wake.set()
        return undone

    def _conflict(self, key: str) -> Conflict:
        for found in self._outcome.conflicts:
            if found.key == key:
                return found
            if key.startswith(found.key + "/"):
                ways = f"remotedl sync resolve {typed(found.key)} --laptop | --remote | --both"
                message = f"{shown(key)} is part of the conflict {shown(found.key)}"
                raise UsageError(message, hint=ways)
        if key in self._unmerged:
            hint = f"take what you need into {typed(unmerged(key) or '')}, then: rm {typed(key)}"
            raise UsageError(f"{shown(key)} is a copy that was kept beside its file", hint=hint)
        raise UsageError(f"{shown(key)} is no conflict", hint="remotedl sync conflicts")

    # The first copy

    def _copy_first(self) -> Outcome:
        """Where the laptop is still being read, send what is read already; what was done."""
        pair = self._pair
        if not can_begin(pair):
            self._finish_scan()
            return Outcome()
        self._check_roots()
        step = self._new_step()
        result = copy_while_reading(pair, self._policy(), self._fresh, step)
        if isinstance(result, Halt):
            self._stop_at(result)
        verdict, carried = result
        self._record(verdict, carried, step, None)
        self._finish_scan()
        self._changed = None
        return Outcome(to_remote=carried.to_remote)

    def _finish_scan(self) -> None:
        self._fresh.wait_for_room(False)
        self._pair.finish_scan()

    # One cycle

    def _step(self, *, in_slices: bool = False) -> Outcome:
        """Decide upon what is known, and do it. Raises SyncHalted, LinkLost, SyncError.

        `in_slices`: of many new files some; the others stay for further steps.
        """
        self._take_news()
        self._check_roots()
        self._catch_up()
        self._know_own_past()
        self._ask_for_digests()
        if self._changed is not None and not (
            self._changed or self._moved or self._outcome.pending
        ):
            return self._rest()
        self._in_hand = 1 if self._changed is None else len(self._changed)
        changed, self._changed = self._changed, set()
        if in_slices and changed is not None:
            changed, self._changed = self._slice(changed)
        try:
            return self._cycle_over(changed)
        except BaseException:
            known = changed is not None and self._changed is not None
            self._changed = {*(changed or ()), *(self._changed or ())} if known else None
            raise
        finally:
            self._in_hand = 0

    def _slice(self, changed: set[str]) -> tuple[set[str], set[str]]:
        """All but a bulk of new files, of which the first are taken, folders before what is in
        them: each is decided by itself. And what is left.

        Not where anything was deleted: what goes must not go before all that comes is there.
        """
        known, laptop = self._pair.ancestor, self._pair.replica.side.tree
        remote = self._pair.picture.tree
        if len(changed) <= SLICE or any(
            key in known and not (key in laptop and key in remote) for key in changed
        ):
            return changed, set()
        new = sorted(
            key for key in changed if key not in known and (key in laptop) != (key in remote)
        )
        rest = set(new[SLICE:])
        return changed - rest, rest

    def _cycle_over(self, changed: set[str] | None) -> Outcome:
        """`changed`: keys that may differ from the ancestor; None: all of them."""
        pair = self._pair
        verdict = self._decide(changed)
        cleared = self._clear(verdict, self._allowed)
        if isinstance(cleared, Halt):
            self._stop_at(cleared)
        for notice in cleared.notices:
            self._report.note(notice)
        step = self._new_step()
        pair.ledger.begin(cleared.to_remote, cleared.to_laptop)
        # What needs no I/O holds from now on: saves that overtake build upon it.
        pair.ledger.agreed.update(verdict.ancestor)
        amend(pair.ancestor, verdict.ancestor)
        self._in_hand = 0
        try:
            with self._overtaking(step) as express:
                carried = pair.carrier.carry(cleared, step, self._fresh)
                overtook = express.end() if express is not None else Carried()
            carried.overtook = {op.key: op.new for op in overtook.done_remote}
            carried.done_remote += overtook.done_remote
            carried.to_remote = carried.to_remote.plus(overtook.to_remote)
            carried.doubtful |= overtook.doubtful
        except (DiskSilent, TimeoutError):
            self._stale = True
            raise
        except FolderGone as exc:  # an ancestor that is behind costs nothing
            self._root_was_gone = True
            self._check_roots()
            raise FolderUnusable(f"{self._request.root}: {exc.strerror}") from exc
        self._fresh.clear()
        self._record(verdict, carried, step, changed)
        if carried.doubtful:
            self._look(lambda: pair.replica.look(carried.doubtful))
        too_large = tuple(carried.too_large_for_trash(self._config.trash_size))
        for notice in too_large:
            self._report.note(notice)
        return self._conclude(verdict, carried, (*cleared.notices, *too_large))

    @contextmanager
    def _overtaking(self, step: str) -> Iterator[Express | None]:
        """What is saved on the laptop meanwhile goes before all that is still to be done."""
        pair = self._pair
        if not self._runs or self._paused or pair.carrier.between is not None:
            yield None
            return
        policy, fresh = self._policy(), self._fresh
        express = Express(
            pair, step, fresh, policy, lambda v: self._clear(v, NOTHING_ALLOWED), self._note
        )
        pair.carrier.between = pair.replica.scanner.on_pile = express.between
        try:
            yield express
        finally:
            pair.carrier.between = pair.replica.scanner.on_pile = None
            pair.carrier.took(0.0)
            pair.replica.scanner.placed.clear()

    def _look_and_send(self, look: Callable[[], Iterable[str]]) -> None:
        """A look at the laptop that may take long; what is saved meanwhile does not wait."""
        step = self._new_step()
        with self._overtaking(step) as express:
            self._look(look)
            overtook = express.end() if express is not None else Carried()
        if overtook.done_remote:
            candidates = self._candidates
            self._record(NO_VERDICT, overtook, step, set())
            self._candidates |= candidates
            self._note(op.key for op in overtook.done_remote)

    def _decide(self, changed: set[str] | None) -> Verdict:
        pair = self._pair
        policy = self._policy()
        keys = None if changed is None else changed | self._candidates
        self._note_unmerged(keys)

        def decide(policy: Policy) -> Verdict:
            return reconcile(pair.ancestor, pair.replica.side, pair.picture.side, policy, keys)

        verdict = decide(policy)
        if any(one.kind is ConflictKind.BOTH_EDITED for one in verdict.conflicts):
            opened = pair.peer.ops("open").wait(PLAN_S)["keys"]
            verdict = decide(policy._replace(opened=frozenset(opened)))
        return verdict

    def _note_unmerged(self, changed: set[str] | None) -> None:
        """What could not be merged stands beside its file until the user removes it."""
        tree = self._pair.replica.side.tree
        keys = tree if changed is None else changed
        stand = {key for key in keys if unmerged(key) is not None and key in tree}
        self._unmerged = stand | (set() if changed is None else self._unmerged - changed)

    def _clear(self, verdict: Verdict, allowed: frozenset[HaltKind]) -> Cleared | Halt:
        pair = self._pair
        laptop = pair.replica.side
        lost = self._losses.lately(self._now(), laptop.tree)
        remote, instructions = pair.picture.side, self._instructions
        return clear(verdict, pair.ancestor, laptop, remote, allowed, lost, instructions)

    def _remember_losses(self) -> None:
        """What earlier sessions took from the laptop a few minutes ago."""
        database = self._pair.database
        since = max(self._now() - WINDOW_S, database.forgiven_at())
        for step in reversed(database.steps(HISTORY, since)):
            if step.side == Where.LAPTOP and UNDO not in step.reasons:
                for change in step.changes:
                    self._losses.note(step.at, key_of(change.path), change.old, change.new)

    def _behind(self, outcome: Outcome) -> tuple[str, ...]:
        pair = self._pair
        sides = pair.ancestor, pair.replica.side, pair.picture.side
        return behind(*sides, self._policy(), outcome.frozen, outcome.left_out)

    def _policy(self) -> Policy:
        pair = self._pair
        ignore, decisions = pair.replica.scanner.ignore, pair.database.decisions()
        return policy_of(self._config, ignore, decisions, self._instructions)

    def _record(
        self, verdict: Verdict, carried: Carried, step: str, changed: set[str] | None
    ) -> None:
        """What was done becomes what both agree on: in memory and, in one transaction, on disk.

        `changed`: keys that may differ from the ancestor; None: all of them.
        """
        pair = self._pair
        done_laptop = {op.key for op in carried.done_laptop}
        done_remote = {op.key for op in carried.done_remote}
        agreed = {**pair.ledger.agreed, **settle(verdict, done_laptop, done_remote)}
        agreed.update(carried.overtook)
        amend(pair.ancestor, agreed)
        if changed is None:  # all keys may differ otherwise than the database remembers
            touched = changed_keys(pair.ancestor, pair.picture.tree)
        else:
            touched = {*agreed, *done_remote, *verdict.candidates, *changed}
        remote = {key: self._difference(key) for key in touched}
        steps = [
            _as_step(step, self._now(), where, ops)
            for where, ops in (
                (Where.LAPTOP, carried.done_laptop),
                (Where.REMOTE, carried.done_remote),
            )
            if ops
        ]
        if agreed or steps or verdict.spent or changed != set() or pair.ledger.is_open:
            pair.database.record(
                pair.ancestor,
                agreed,
                remote,
                pair.picture.version,
                verdict.spent,
                steps,
                whole=changed is None,
                open_batches=pair.ledger.open_after(agreed),
            )
            pair.ledger.recorded(agreed)
        if HaltKind.MASS_DELETE in self._allowed:
            self._losses.forgive()
            pair.database.set_forgiven(self._now())
        else:
            for op in carried.done_laptop:
                self._losses.note(self._now(), op.key, op.expected, op.new)
        self._candidates = {*verdict.candidates, *done_laptop, *done_remote}
        self._moved = bool(agreed or steps or carried.again)

    def _difference(self, key: str) -> tuple[bool, Entry | None]:
        now = self._pair.picture.tree.get(key)
        return now != self._pair.ancestor.get(key), now

    def _conclude(self, verdict: Verdict, carried: Carried, notices: Sequence[str]) -> Outcome:
        outcome = Outcome(
            to_laptop=carried.to_laptop,
            to_remote=carried.to_remote,
            pending=len(carried.pending) + len(carried.failures),
            failures=tuple(carried.failures),
            conflicts=verdict.conflicts,
            frozen=verdict.frozen,
            left_out=verdict.left_out,
            notices=tuple(notices),
        )
        self._outcome = outcome
        now, waits = self._now(), (one for one in verdict.frozen if one.issue is Issue.UNSTABLE)
        self._since = {one.key: self._since.get(one.key, now) for one in waits}
        self._pair.ledger.outstanding = 0
        self._allowed = frozenset()
        self._halt = None
        if not (outcome.pending or self._unsettled()):
            self._last_success = self._now()
        self._plan_retry(carried)
        return outcome

    def _rest(self) -> Outcome:
        """Nothing happened since the last cycle."""
        self._halt = None
        if not self._unsettled():
            self._last_success = self._now()
        old = self._outcome
        self._outcome = old._replace(to_laptop=Counts(), to_remote=Counts(), notices=())
        return self._outcome

    def _plan_retry(self, carried: Carried) -> None:
        if carried.failures:
            self._retry_at = self._clock() + FAILED_S
        elif carried.pending and not self._pair.transfers.running:
            self._retry_at = self._clock() + RETRY_S
        else:
            self._retry_at = None

    def _check_roots(self) -> None:
        halt = check_roots(*self._pair.roots())  # to let a lost root pass, open anew
        if halt is not None:
            self._stop_at(halt)

    def _stop_at(self, halt: Halt) -> NoReturn:
        self._halt = halt
        raise halt.error()

    # What changed

    def _take_news(self) -> None:
        """What the agent has told since the last time."""
        pair = self._pair
        pair.peer.check()
        if self._stale:
            self._stale = False
            pair.peer.snap(pair.picture.version, scan=False)
        self._news = pair.peer.untold
        for listing in pair.peer.listings():
            whole = listing.whole
            changed = pair.picture.take(listing)
            if whole:
                self._changed = None
            else:
                self._note(changed)
        self._news = 0

    def _ask_for_digests(self) -> None:
        """The agent reads no file above the limit, but where the laptop knows the same path."""
        pair = self._pair
        limit = self._config.max_file_size_down
        tree = pair.picture.tree
        asked: list[str] = []
        for key in tree if self._changed is None else self._changed:
            entry = tree.get(key)
            if entry is None or entry.size <= limit or key in self._read_for_sure:
                continue
            others = (pair.ancestor.get(key), pair.replica.side.tree.get(key))
            if entry not in others and any(o is not None and o.size == entry.size for o in others):
                asked.append(key)
        if asked:
            self._read_for_sure.update(asked)
            pair.peer.ops("digests", keys=asked).wait()
            self._take_news()

    def _look(self, look: Callable[[], Iterable[str]]) -> bool:
        """Look at the laptop's folder; whether something changed there.

        Where that is gone, `_check_roots` says what it means.
        """
        self._news = 1
        try:
            found = set(look())
            self._note(found)
        except FolderGone:
            self._root_was_gone = True
            return False
        finally:
            self._news = 0
        return bool(found)

    def _know_own_past(self) -> None:
        """What was sent and stands there now is no edit, though its acknowledgement was lost."""
        pair = self._pair
        found = pair.ledger.own_past(pair.ancestor, pair.replica.side.tree, pair.picture.tree)
        if not found:
            return
        try:
            flushed = pair.peer.ops("sync")
            pair.replica.sync()
            flushed.wait()
        except (OSError, SyncError):
            return  # who knows for how long it stands there: not to be relied upon
        pair.ledger.adopt(found)
        amend(pair.ancestor, found)
        self._note(found)

    def _count_what_waits(self) -> None:
        """Paused: nothing is moved, but what would be is seen."""
        pair = self._pair
        heard = pair.peer.has_listings
        if not (self._look(pair.follower.look_ripe) or heard or not self._counted):
            return
        self._finish_scan()
        self._take_news()
        verdict = self._foresee()
        waiting = len({op.key for op in (*verdict.to_laptop, *verdict.to_remote)})
        self._outcome = self._outcome._replace(pending=waiting, failures=())
        self._counted = True

    def _see_all(self, timeout_s: float) -> None:
        """Look at everything that was written on either side before now."""
        pair = self._pair
        cookie = f"{random.SystemRandom().getrandbits(64):016x}"
        proof = pair.peer.flush(cookie)
        self._look(lambda: pair.follower.prove(cookie))
        proof.wait(timeout_s)

    def _look_for_root(self) -> None:
        if self._clock() >= self._root_at:
            self._root_at = self._clock() + ROOT_S
            try:
                self._pair.replica.folder.check()
            except FolderGone:
                self._root_was_gone = True

    def _catch_up(self) -> None:
        """The laptop's folder is back: what happened in it is seen only by looking."""
        if self._root_was_gone:
            self._root_was_gone = False
            self._look(self._pair.follower.scan)
            self._check_roots()

    def _note(self, keys: Iterable[str]) -> None:
        if self._changed is not None:
            self._changed.update(keys)
        if self._rules_unread or any(is_rules_file(key, self._config) for key in keys):
            self._read_rules()

    def _take_less_memory(self) -> None:
        """What both sides and the database hold alike is held once."""
        pair = self._pair
        scanner, picture = pair.replica.scanner, pair.picture
        pair.database.shrink()
        scanner.pack()
        if isinstance(scanner.tree, Packed):
            pair.ancestor = scanner.agreed = alike(pair.ancestor, scanner.tree)
            picture.tree = alike(picture.tree, scanner.tree)
        else:
            scanner.share(pair.ancestor)
            share(picture.tree, pair.ancestor)

    def _prepare(self, key: str, before: Entry) -> None:
        """From a scanning thread: a big file that both sides have turns out to be changed a bit."""
        pair = self._open_pair
        if pair is not None and pair.picture.tree.get(key) == before:
            pair.peer.prepare(pair.picture.side.path(key))

    def _read_rules(self) -> None:
        """The rules' files changed: other rules on both sides, and everything looked at anew."""
        pair = self._pair
        try:
            rules = read_rules(self._request.root, self._config)
        except FolderUnusable as exc:
            if not self._rules_unread:
                self._report.warn(f"{exc.message}; the last rules hold", exc.hint)
            self._rules_unread = True
            return
        self._rules_unread = False
        if rules.fingerprint == pair.replica.scanner.ignore.fingerprint:
            return
        pair.replica.set_rules(rules)
        told = pair.peer.ops("rules", rules=[list(source) for source in rules.sources])
        self._look(pair.follower.scan)
        told.wait()
        self._changed = None

    def _scan_both(self) -> None:
        pair = self._pair
        told = pair.peer.snap(pair.picture.version, scan=True)
        self._look(pair.follower.scan)
        told.wait()

    def _wait_for_more(self) -> bool:
        """Whether there is more for a further cycle; waits for what is on its way."""
        pair = self._pair
        while not self._has_news():
            if not pair.transfers.running:
                return False
            self._wake.wait(NAP_S)
            self._wake.clear()
            pair.peer.check()
        return True

    # Living

    def _tend(self) -> float:
        """One turn of a live session; for how long there is nothing to do."""
        pair = self._pair
        pair.peer.check()
        if self._paused:
            self._state = State.PAUSED
            self._count_what_waits()
            return NAP_S
        if pair.follower.has_heard:
            self._look_and_send(pair.follower.look_ripe)
        else:
            self._look(pair.follower.look_ripe)
        self._look_for_root()
        told = self._halt if self._state is State.HALTED else None
        try:
            if self._has_work():
                self._step(in_slices=True)
            elif self._state is State.HALTED:
                return NAP_S
            else:
                self._fresh.clear()
                self._prune_trashes()
        except SyncHalted as exc:
            if self._halt != told:
                self._report.stage("sync", "halted")
                self._report.warn(exc.message, exc.hint)
            self._state = State.HALTED
            self._again_at = self._clock() + HALTED_S
            return NAP_S
        if told is not None:
            self._report.stage("sync", "goes on")
        self._state = State.PAUSED if self._paused else State.LIVE
        if self._changed:
            return 0.0
        waits = [pair.follower.patience()]
        if self._retry_at is not None:
            waits.append(self._retry_at - self._clock())
        return max(0.0, min(waits))

    def _prune_trashes(self) -> None:
        """What is too old, or too much, goes for good: on both sides, once in a while."""
        if self._clock() < self._prune_at:
            return
        self._prune_at = self._clock() + PRUNE_EVERY_S
        pair, now = self._pair, self._now()
        last = pair.database.pruned_at()
        if last and 0 <= now - last < PRUNE_EVERY_S:
            return
        pair.database.set_pruned(now)
        if not last:
            return  # a first session has displaced next to nothing yet
        days, size = float(self._config.trash_days), self._config.trash_size
        told = pair.peer.ops("prune", days=days, size=size)
        try:
            pair.replica.trash.prune(days, size)
            told.wait()
        except (OSError, SyncError) as exc:  # it takes room, and costs nothing else
            self._report.warn(f"a trash could not be tidied: {exc}", "remotedl sync history")

    def _has_work(self) -> bool:
        now = self._clock()
        if self._root_was_gone or (self._retry_at is not None and now >= self._retry_at):
            return True
        if self._state is State.HALTED:
            return bool(self._allowed) or now >= self._again_at
        return self._has_news()

    def _has_news(self) -> bool:
        pair = self._pair
        known = self._changed is not None and not (self._changed or self._moved)
        return not known or pair.peer.has_listings or pair.transfers.take_finished()

    def _new_step(self) -> str:
        self._serial += 1
        return f"{int(self._now() * 1000):x}-{self._serial:x}"


@cache
def _end_quickly() -> None:
    """Python ends by looking for cycles in all there is: a fifth of a short sync, for nothing."""
    atexit.register(gc.freeze)


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Login, agent and scan take turns: who has an answer to read waits for no 5 ms of Python."""
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(USUAL_TURN_S)


def _as_step(step: str, at: float, where: Where, ops: Sequence[Operation]) -> Step:
    return Step(
        step,
        at,
        where.value,
        tuple(op.reason.value for op in ops),
        tuple(Change(op.path, op.expected, op.new) for op in ops),
    )


def _lines(rules: Ignore) -> tuple[str, ...]:
    """The rules that are in force, ours first."""
    texts = [line for source in rules.sources for line in source.text.splitlines()]
    return (
        *ALWAYS[1:],
        *DEFAULTS,
        *(line for line in texts if line.strip() and not line.startswith("#")),
    )


def _digests(tree: Mapping[str, Entry]) -> frozenset[bytes]:
    return frozenset(entry.digest for entry in tree.values() if entry.digest is not None)


def _sum(one: Outcome, other: Outcome) -> Outcome:
    """Both cycles' work, the later one's state."""
    return other._replace(
        to_laptop=one.to_laptop.plus(other.to_laptop),
        to_remote=one.to_remote.plus(other.to_remote),
        notices=(*one.notices, *other.notices),
    )
