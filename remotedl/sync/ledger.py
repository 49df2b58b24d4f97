"""What is on its way and what has arrived, between two records of the database.

Each batch is noted in the database before it is sent, and again as soon as it is acknowledged. So
a cut costs no false conflict: what was acknowledged is agreed on, and a version that was sent and
stands on the other side is known as this side's own past, not taken for an edit made there. The
same holds the other way, for what came down and was in place when the laptop was killed.

Decision: a batch is one row with a table of entries. Alternative: rows by path. Reason: a first
copy of 100,000 files would write each of them twice more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from remotedl.sync.agent.tree import Entry, Tree
from remotedl.sync.database import Database
from remotedl.sync.verdict import Operation, Where

KEPT = 32
"""Versions of one path that are remembered; each takes a save and a cut, or a refusal."""

Sent = dict[str, list[Entry]]


class Ledger:
    """Notes batches of operations. The cycle's thread."""

    def __init__(self, database: Database) -> None:
        """Raises StateCorrupt."""
        self._database = database
        self._sent: dict[Where, Sent] = {where: {} for where in Where}
        """By key, what was sent there and has not been agreed on since."""
        self._apart: frozenset[str] = frozenset()
        """Keys that one acknowledgement does not settle."""
        self.agreed: dict[str, Entry | None] = {}
        """What was acknowledged since the ancestor was last recorded; None: it was deleted."""
        self.outstanding = 0
        """Operations of the cycle of now that are not done, or given up."""
        self.news: dict[str, Entry | None] = {}
        """The part of it that nobody has taken notice of."""
        self.waiting: set[str] = set()
        """Keys of the cycle of now that are still to be done."""
        self.is_open = False
        """Whether there are batches that the last record does not cover."""
        for side, arrived, rows in database.batches():
            for key, entry in rows:
                if arrived:
                    self._settle(key, entry)
                elif entry is not None:
                    self._note(Where(side), key, entry)

    def begin(self, *operations: Iterable[Operation]) -> None:
        """Before the first batch of a cycle: all that it is to do."""
        ops = [op for side in operations for op in side]
        self.outstanding = len(ops)
        self.waiting = {op.key for op in ops}
        count = Counter(op.key for op in ops)
        self._apart = frozenset(op.key for op in ops if count[op.key] > 1 or not op.settles)

    def sending(self, where: Where, batch: Sequence[Operation]) -> int:
        """Note a batch before anybody can see it; its number."""
        rows: list[tuple[str, Entry | None]] = []
        for op in batch:
            if op.new is not None and op.key not in self._apart:
                self._note(where, op.key, op.new)
                rows.append((op.key, op.new))
        self.is_open = True
        arrivals = _arrivals(batch) if where is Where.LAPTOP else ()
        return self._database.add_batch(where.value, rows, arrivals)

    def arrived(
        self, number: int, batch: Sequence[Operation], done: Sequence[Operation]
    ) -> dict[str, Entry | None]:
        """It was acknowledged; what both sides agree on by that."""
        self.outstanding = max(0, self.outstanding - len(batch))
        self.waiting.difference_update(op.key for op in done)
        agreed = {op.key: op.new for op in done if op.key not in self._apart}
        rows: list[tuple[str, Entry | None]] = []
        if len(done) < len(batch):
            keys = {op.key for op in batch} - {op.key for op in done}
            rows = [(op.key, op.new) for op in batch if op.key in keys - self._apart and op.new]
        self._database.batch_arrived(number, list(agreed.items()), rows)
        for key, entry in agreed.items():
            self._settle(key, entry)
        self.news.update(agreed)
        return agreed

    def own_past(self, ancestor: Tree, laptop: Tree, remote: Tree) -> dict[str, Entry]:
        """Versions that stand where they were sent to, though nobody said that they arrived."""
        found = {}
        for where, tree in ((Where.LAPTOP, laptop), (Where.REMOTE, remote)):
            for key, sent in self._sent[where].items():
                now, known = tree.get(key), ancestor.get(key)
                for entry in sent if now != known else ():
                    if known != entry and _came(entry, known, now):
                        found[key] = entry
        return found

    def adopt(self, found: Mapping[str, Entry]) -> None:
        """Both sides had these versions, and they are flushed where they were sent to."""
        for key, entry in found.items():
            self._settle(key, entry)

    def forget(self, keys: Iterable[str]) -> None:
        """Nothing is agreed on at these any more."""
        gone: dict[str, Entry | None] = dict.fromkeys(keys)
        number = self._database.add_batch(Where.LAPTOP.value, [])
        self._database.batch_arrived(number, list(gone.items()), [])
        for key in gone:
            self._settle(key, None)

    def recorded(self, agreed: Iterable[str]) -> None:
        """The ancestor is in the database, with `agreed` and what was acknowledged."""
        for key in agreed:
            self._forget(key)
        self.agreed.clear()
        self.news.clear()
        self.is_open = False

    def open_after(self, agreed: Iterable[str]) -> list[tuple[str, list[tuple[str, Entry]]]]:
        """What stays noted once `agreed` is recorded too, for the database."""
        gone = set(agreed)
        return [
            (where.value, [(key, one) for key in sent if key not in gone for one in sent[key]])
            for where, sent in self._sent.items()
        ]

    def clear(self) -> None:
        """Nothing that was agreed on or sent counts any more."""
        for sent in self._sent.values():
            sent.clear()
        self.agreed.clear()

    def _note(self, where: Where, key: str, entry: Entry) -> None:
        known = self._sent[where].setdefault(key, [])
        if entry not in known:
            known.append(entry)
            del known[:-KEPT]

    def _settle(self, key: str, entry: Entry | None) -> None:
        self._forget(key)
        self.agreed[key] = entry

    def _forget(self, key: str) -> None:
        for sent in self._sent.values():
            sent.pop(key, None)


def _arrivals(batch: Sequence[Operation]) -> Iterator[tuple[str, bytes]]:
    """Contents that are new to the laptop at these paths, before anybody here can see them."""
    for op in batch:
        if op.new is None:
            if op.key.endswith(".dockerignore"):  # without it, more is part of a build
                yield op.key, b""
        elif op.new.target is not None:
            yield op.key, op.new.target.encode("utf-8", "surrogateescape")
        elif op.new.digest and (op.expected is None or op.expected.digest != op.new.digest):
            yield op.key, op.new.digest


def _came(sent: Entry, known: Entry | None, now: Entry | None) -> bool:
    """Whether `now` is what was sent; its x bit may have been changed since, or is not kept."""
    if now is None or now == sent:
        return now == sent
    is_other_content = known is None or known.digest != sent.digest
    return is_other_content and now._replace(executable=sent.executable) == sent
