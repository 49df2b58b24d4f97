"""Carry out what a cycle was cleared to do: contents to where they are missing, then the changes.

Small contents go along in packs, many on their way at once; big ones wait until `Transfers` has
brought them. Only what was acknowledged counts as done. Nothing is decided here.

Deletes come last. None goes ahead while something was refused: a move is a write and a delete,
and half of it must not happen. Big files on their way hold back the deletes of big files alone
(the old checkpoint goes when the new one is there), so that a module that was renamed does not
stand there twice for as long as a data set takes. This does not depend on how quickly a transfer
fails: one that failed holds back as much as one that runs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby

from remotedl.errors import ProtocolError
from remotedl.sync.agent.apply import DONE, Outcome, Status
from remotedl.sync.agent.packed import Packed, holds
from remotedl.sync.agent.protocol import Content
from remotedl.sync.agent.replica import Replica
from remotedl.sync.agent.transfer import GONE, PACK_BYTES, SMALL, Basis, Wanted
from remotedl.sync.agent.tree import Change, Entry, Kind, Tree
from remotedl.sync.fresh import Fresh
from remotedl.sync.ledger import Ledger
from remotedl.sync.peer import Peer, Reply
from remotedl.sync.picture import Picture
from remotedl.sync.remedies import shown
from remotedl.sync.safety import Cleared
from remotedl.sync.status import Counts, Failure
from remotedl.sync.transfers import Job, Transfers, is_big
from remotedl.sync.verdict import Operation, Phase, Reason, Where

BATCH = 512
"""Operations in one COMMIT."""
GET_BYTES = 8 << 20
"""Contents asked for at once; while they are put in place, the next come."""
GETS = 2
BATCHES = 2
"""Batches that are on their way up at once, where saves may have to overtake them."""
BATCH_S = 0.08
"""How long a batch may take where saves wait for its end."""
SMALLEST = 16
NAP_S = 0.01
AT_HAND_FROM = 1 << 16
"""A file of so many bytes is not sent where the receiver has the same content elsewhere."""


@dataclass(slots=True)
class Carried:
    """What really happened, for the ancestor, the status and the history."""

    done_laptop: list[Operation] = field(default_factory=list)
    done_remote: list[Operation] = field(default_factory=list)
    to_laptop: Counts = field(default_factory=Counts)
    to_remote: Counts = field(default_factory=Counts)
    pending: list[Operation] = field(default_factory=list)
    """Not done yet, and nothing is wrong."""
    failures: list[Failure] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    """Paths on the laptop that were not as expected."""
    overtook: dict[str, Entry | None] = field(default_factory=dict)
    """What was sent while the cycle was under way, and is newer than what it decided."""
    again: bool = False
    """Another cycle can bring what was missing in this one."""

    def too_large_for_trash(self, limit: int) -> Iterator[str]:
        """What to say of displaced versions that the trash will not keep for long."""
        for side, ops in (("laptop", self.done_laptop), ("host", self.done_remote)):
            for op in ops:
                old, new = op.expected, op.new
                went = old is not None and (new is None or new.digest != old.digest)
                if went and old is not None and old.size > limit > 0:
                    yield (
                        f"what {shown(op.key)} was on the {side} is larger than trash_size: the "
                        "trash there keeps it until something else goes in"
                    )


class Carrier:
    """Applies cleared operations to both sides. The cycle's thread."""

    def __init__(
        self,
        replica: Replica,
        picture: Picture,
        peer: Peer,
        transfers: Transfers,
        ledger: Ledger,
    ) -> None:
        self.ledger = ledger
        self.between: Callable[[], None] | None = None
        """Called again and again while a cycle is carried out: what is urgent overtakes."""
        self.batch = BATCH
        """Operations in one batch, as they are quick."""
        self.replica = replica
        self.picture = picture
        self.peer = peer
        self.transfers = transfers
        self.outflow = peer.outflow(replica)

    def wait(self, reply: Reply) -> dict[str, object]:
        """Its answer; what is urgent overtakes meanwhile. Raises LinkLost, SyncError."""
        while self.between is not None and not reply.is_there:
            self.between()
            reply.nap(NAP_S)
        return reply.wait()

    def took(self, seconds: float) -> None:
        """A batch took so long."""
        if self.between is None:
            self.batch = BATCH
        elif seconds > BATCH_S:
            self.batch = max(self.batch // 2, SMALLEST)
        elif seconds < BATCH_S / 2:
            self.batch = min(self.batch * 2, BATCH)

    def carry(self, cleared: Cleared, step: str, fresh: Fresh) -> Carried:
        """`fresh`: contents by digest that need not be read again. Raises LinkLost, SyncError."""
        carried = Carried()
        Upload(self, step, carried, fresh).run(cleared.to_remote)
        _Download(self, step, carried).run(cleared.to_laptop)
        return carried


class _Trip:
    """Operations on one side."""

    where: Where

    def __init__(self, own: Carrier, step: str, carried: Carried) -> None:
        self._own = own
        self._step = step
        self._carried = carried
        self._refused = False
        self._awaits_big = False
        """A big content that belongs here is not there yet, or could not be brought."""
        self._digests: set[bytes] | None = None
        self._brought: set[bytes] = set()
        """Contents that were sent in this trip."""

    def _phases(self, operations: Sequence[Operation]) -> Iterator[list[Operation]]:
        """In their order; deletes that have to wait are left out."""
        for phase, group in groupby(operations, key=lambda op: op.phase):
            ops = list(group)
            if phase is Phase.DELETE:
                waiting = [op for op in ops if self._must_wait(op)]
                self._carried.pending.extend(waiting)
                ops = [op for op in ops if op not in waiting] if waiting else ops
            yield ops

    def _must_wait(self, op: Operation) -> bool:
        return self._refused or (self._awaits_big and is_big(op.expected))

    def _is_at_hand(self, entry: Entry, tree: Tree) -> bool:
        """Whether the receiver holds this content under another name."""
        if entry.size < AT_HAND_FROM:
            return False
        if isinstance(tree, Packed):
            assert entry.digest is not None
            return entry.digest in self._brought or holds(tree, entry.digest)
        if self._digests is None:
            self._digests = {
                one.digest
                for one in tree.values()
                if one.digest is not None and one.size >= AT_HAND_FROM
            }
        return entry.digest in self._digests or entry.digest in self._brought

    def _will_be_at_hand(self, entry: Entry) -> None:
        """Sent once in this trip: later batches copy it from where an earlier one put it."""
        if entry.size >= AT_HAND_FROM and entry.digest is not None:
            self._brought.add(entry.digest)

    def _is_brought(self, op: Operation, entry: Entry) -> bool:
        """Whether a big content waits in the receiver's staging area."""
        old = op.expected.digest if op.expected is not None else None
        basis = None if old is None else Basis(op.path, old)
        why = self._own.transfers.want(Job(op.key, self.where, op.source, entry, basis))
        if why is None:
            self._carried.pending.append(op)
        elif why == GONE:
            self._carried.pending.append(op)
            if self.where is Where.REMOTE:
                self._carried.doubtful.add(op.source)
        elif why:
            self._carried.failures.append(Failure(op.key, self.where, why))
        self._awaits_big |= why != ""
        return why == ""

    def _fail(self, op: Operation, why: str) -> None:
        self._refused = True
        self._carried.failures.append(Failure(op.key, self.where, why))

    def _ended(self, op: Operation, end: Outcome) -> bool:
        """Whether the operation is done; otherwise it is noted."""
        if is_big(op.new) and op.new is not None and op.new.digest is not None:
            self._own.transfers.forget(self.where, op.new.digest)
        if end.status is Status.DONE:
            return True
        if end.status is Status.REFUSED:
            self._fail(op, end.why)
        else:
            self._carried.pending.append(op)
            self._carried.again |= end.status is Status.NO_CONTENT
        return False


class Upload(_Trip):
    """Operations on the host: at once (`run`), or piece by piece (`begin`, `reap`, `end`)."""

    where = Where.REMOTE

    def __init__(
        self, own: Carrier, step: str, carried: Carried, fresh: Fresh, *, urgent: bool = False
    ) -> None:
        super().__init__(own, step, carried)
        self._fresh = fresh
        self._urgent = urgent
        self._sent: deque[tuple[int, list[Operation], Reply]] = deque()
        """Batches by their numbers in the ledger."""

    def run(self, operations: Sequence[Operation]) -> None:
        """Raises LinkLost, SyncError."""
        for ops in self._phases(operations):
            self.begin(ops)
            self.end()

    def begin(self, ops: Iterable[Operation]) -> None:
        """Send contents and commits; the answers come later. Raises LinkLost."""
        for batch in self._batches(ops):
            number = self._own.ledger.sending(self.where, batch)
            self._sent.append((number, batch, self._commit(batch)))
            while self._own.between and not self._urgent and len(self._sent) >= BATCHES:
                began = time.monotonic()
                self._take_next()
                self._own.took(time.monotonic() - began)

    def reap(self) -> None:
        """Take the answers that have come. Raises LinkLost, SyncError."""
        while self._sent and self._sent[0][2].is_there:
            self._take_next()

    def end(self) -> None:
        """Wait for all answers. Raises LinkLost, SyncError."""
        while self._sent:
            self._take_next()

    def _batches(self, ops: Iterable[Operation]) -> Iterator[list[Operation]]:
        """Pieces whose contents are on their way when they are yielded."""
        batch: list[Operation] = []
        pack: dict[bytes, bytes] = {}
        size = 0
        for op in ops:
            if op.new is not None and _brings_content(op):
                if not self._load(op, op.new, pack):
                    continue
                size += op.new.size if op.new.size <= SMALL else 0
            batch.append(op)
            if size >= PACK_BYTES or len(batch) >= self._own.batch:
                self._send_pack(pack)
                yield batch
                batch, pack, size = [], {}, 0
        if batch:
            self._send_pack(pack)
            yield batch

    def _load(self, op: Operation, new: Entry, pack: dict[bytes, bytes]) -> bool:
        """See that the content gets to the host; False if the operation has to wait."""
        assert new.digest is not None
        if new.digest in pack or self._is_at_hand(new, self._own.picture.tree):
            self._fresh.take(new.digest)
            return True
        if is_big(new):
            return self._is_brought(op, new)
        data = self._fresh.take(new.digest)
        why = ""
        try:
            if data is not None:
                pack[new.digest] = data
            elif new.size <= SMALL:
                pack[new.digest] = self._own.outflow.read_small(Wanted(op.source, new))
            else:
                why = self._own.outflow.send_big(Wanted(op.source, new))
                self._count_sent(0 if why else new.size)
        except ConnectionError:
            self._own.peer.check()
            raise
        except OSError as exc:
            why = exc.strerror or str(exc)
        if why:  # it changed since the scan: the next look sees what it is now
            self._carried.pending.append(op)
            self._carried.doubtful.add(op.source)
            return False
        self._will_be_at_hand(new)
        return True

    def _send_pack(self, pack: dict[bytes, bytes]) -> None:
        if not pack:
            return
        self._count_sent(sum(map(len, pack.values())))
        try:
            self._own.outflow.send_pack(
                [(Content(digest, len(data)), data) for digest, data in pack.items()],
                urgent=self._urgent,
            )
        except ConnectionError:
            self._own.peer.check()
            raise

    def _count_sent(self, size: int) -> None:
        self._carried.to_remote = self._carried.to_remote.plus(Counts(sent=size))

    def _commit(self, batch: list[Operation]) -> Reply:
        changes = [Change(op.path, op.expected, op.new) for op in batch]
        growing = self._own.replica.scanner.growing
        reasons = _reasons(batch, growing)
        return self._own.peer.commit(changes, self._step, reasons, urgent=self._urgent)

    def _take_next(self) -> None:
        number, batch, reply = self._sent.popleft()
        answer = reply.wait() if self._urgent else self._own.wait(reply)
        outcomes = _outcomes(answer, len(batch))
        done = [op for op, end in zip(batch, outcomes, strict=True) if self._ended(op, end)]
        for op in done:
            self._own.picture.believe(op.key, op.path, op.new)
        self._own.ledger.arrived(number, batch, done)
        self._carried.done_remote += done
        self._carried.to_remote = self._carried.to_remote.plus(_counted(done))


class _Download(_Trip):
    """Operations on the laptop."""

    where = Where.LAPTOP

    def run(self, operations: Sequence[Operation]) -> None:
        """Raises LinkLost, SyncError."""
        for ops in self._phases(operations):
            asked: deque[tuple[list[Operation], Reply | None]] = deque()
            for batch in self._batches(ops):
                asked.append((batch, self._ask(batch)))
                if len(asked) >= GETS:
                    self._apply(*asked.popleft())
            while asked:
                self._apply(*asked.popleft())

    def _batches(self, ops: Iterable[Operation]) -> Iterator[list[Operation]]:
        batch: list[Operation] = []
        size = 0
        for op in ops:
            if op.new is not None and _brings_content(op):
                if is_big(op.new):
                    at_hand = self._is_at_hand(op.new, self._own.replica.side.tree)
                    if not at_hand and not self._is_brought(op, op.new):
                        continue
                else:
                    size += op.new.size
            batch.append(op)
            if size >= GET_BYTES or len(batch) >= self._own.batch:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _ask(self, batch: list[Operation]) -> Reply | None:
        """Have the contents sent that are not here yet."""
        wanted: dict[bytes, Wanted] = {}
        tree = self._own.replica.side.tree
        for op in batch:
            new = op.new
            if new is None or new.digest is None or not _brings_content(op) or is_big(new):
                continue
            if not self._is_at_hand(new, tree):
                wanted[new.digest] = Wanted(op.source, new)
                self._will_be_at_hand(new)
        if not wanted:
            return None
        sent = sum(one.entry.size for one in wanted.values())
        self._carried.to_laptop = self._carried.to_laptop.plus(Counts(sent=sent))
        return self._own.peer.get(list(wanted.values()))

    def _apply(self, batch: list[Operation], reply: Reply | None) -> None:
        if reply is not None:
            self._own.wait(reply)  # what could not be sent shows as missing content below
        if self._own.between is not None:
            self._own.between()
        changes = [Change(op.path, op.expected, op.new) for op in batch]
        reasons = _reasons(batch, self._own.picture.growing)
        number = self._own.ledger.sending(self.where, batch)
        began = time.monotonic()
        outcomes = self._own.replica.apply(changes, self._step, reasons)
        self._own.took(time.monotonic() - began)
        done = []
        for op, end in zip(batch, outcomes, strict=True):
            if end.status is Status.NO_CONTENT and op.new is not None and op.new.digest:
                why = self._own.peer.not_taken.get(op.new.digest, "")
                end = Outcome(Status.REFUSED, why) if why else end
            if self._ended(op, end):
                done.append(op)
            else:
                self._carried.doubtful.add(op.path)
        self._own.ledger.arrived(number, batch, done)
        with suppress(OSError):  # it takes room, and costs nothing else
            self._own.replica.trash.keep_to_size()
        self._carried.done_laptop += done
        self._carried.to_laptop = self._carried.to_laptop.plus(_counted(done))


def _counted(done: Sequence[Operation]) -> Counts:
    """Folders are not counted among what was written."""
    deleted = sum(op.new is None for op in done)
    folders = sum(op.new is not None and op.new.kind is Kind.DIR for op in done)
    return Counts(written=len(done) - deleted - folders, deleted=deleted)


def _reasons(batch: Sequence[Operation], growing: Container[str]) -> list[str]:
    """Why each is done; of a log that is being written, the version before is no loss."""
    return [
        (Reason.GREW if op.reason is Reason.EDITED and op.key in growing else op.reason).value
        for op in batch
    ]


def _brings_content(op: Operation) -> bool:
    """Whether bytes are needed: not for dirs, links and x bits."""
    new, old = op.new, op.expected
    if new is None or new.kind is not Kind.FILE:
        return False
    return old is None or old.kind is not Kind.FILE or old.digest != new.digest


def _outcome(status: str, why: str) -> Outcome:
    return DONE if status == "done" and not why else Outcome(Status(status), str(why))


def _outcomes(answer: dict[str, object], count: int) -> list[Outcome]:
    """Raises ProtocolError for an answer that makes no sense."""
    try:
        given = [_outcome(*one) for one in answer["outcomes"]]  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"the agent on the host speaks nonsense: {exc}") from exc
    if len(given) != count:
        raise ProtocolError("the agent on the host answered for another number of changes")
    return given
