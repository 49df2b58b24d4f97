"""The laptop's end of the connection to the agent: starts it, sends requests, receives answers.

It knows frames, not what to sync. What the agent says is checked where it is used (`Picture`,
`Staging`); a frame that makes no sense ends the session.
"""

from __future__ import annotations

import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from remotedl.errors import (
    FolderUnusable,
    LinkLost,
    ProtocolError,
    RemotedlError,
    RootInUse,
    SyncError,
)
from remotedl.ssh.remote import Process, Remote
from remotedl.sync.agent import protocol
from remotedl.sync.agent.listing import Listing, Version, is_last, unpack_listing
from remotedl.sync.agent.protocol import Frame, Malformed, Parser, Type
from remotedl.sync.agent.replica import Replica
from remotedl.sync.agent.transfer import Arrived, Intake, Outflow, Wanted, pack_get
from remotedl.sync.agent.tree import Change
from remotedl.sync.agent.wire import Closed, Wire
from remotedl.sync.bundle import agent_bundle
from remotedl.sync.turns import LOOK_S, give_up_if

FOLDER = ".remotedl/agent"
"""On the host, below the login's home."""
PYTHON = ("python3", "-I", "-S", "-B", "-X", "utf8")
NO_PYTHON = 127
TOO_OLD = 78
"""What the agent ends with on a Python before 3.8."""
CHUNK = 1 << 18
PING_S = 10.0
SILENCE_S = 20.0
"""The link is lost when nothing came for so long although pings were sent."""
DISK_S = 10.0
"""A disk that is silent for so long while there is work hangs."""
FAR_S = 0.003
"""From this round trip on, contents are deflated as far as it pays."""
PROBES = 8
"""Pings in a row at the start, until one is back sooner: a busy machine is not a long link."""
START_S = 30.0
END_S = 5.0
ERRORS_KEPT = 4000
UNTAKEN_LIMIT = 64 << 20
"""Listings that wait to be taken: those of more than half a million files."""
LISTING_LIMIT = 16 << 20
ARRIVING_LIMIT = 2 * protocol.CREDIT_START
LONG_ANSWERS = ("trash", "undo")
"""Requests of the user's whose answers may be long."""


class TooMuch(Malformed):
    """More than is kept in memory."""


class Reply:
    """The answer to one request; comes later."""

    def __init__(self, silent: Callable[[], float | None] = lambda: None) -> None:
        """`silent`: since when the host's disk does not answer."""
        self._silent = silent
        self._done = threading.Event()
        self._answer: dict[str, Any] = {}
        self._error: RemotedlError | None = None

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Raises LinkLost, SyncError, TimeoutError; DiskSilent where nobody may wait for that."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._done.wait(LOOK_S):
            give_up_if(self._silent())
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._answer

    def nap(self, seconds: float) -> None:
        """Wait for it a moment, no longer. Raises DiskSilent."""
        if not self._done.wait(seconds):
            give_up_if(self._silent())

    @property
    def is_there(self) -> bool:
        return self._done.is_set()

    def set(self, answer: dict[str, Any]) -> None:
        self._answer = answer
        self._done.set()

    def fail(self, error: RemotedlError) -> None:
        self._error = error
        self._done.set()


class Peer:
    """One running agent. `launch` it, have it `greeted`, use it, `close` it."""

    def __init__(self, remote: Remote, process: Process, wake: Callable[[], None]) -> None:
        """`wake` is called, from any thread, when a listing came or the link was lost."""
        self._remote = remote
        self._process = process
        self._wake = wake
        self._wire = Wire(process.sendall, self._lose)
        self._streams = 1
        self._lock = threading.Lock()
        self._replies: dict[int, Reply] = {}
        self._wants_data: set[int] = set()
        """Streams of GETs: their answer comes after their data."""
        self._hello = Reply()
        self.told = Reply()
        self.looking = 0
        """How many paths of the host are known to have changed and are not told yet."""
        self.not_taken: dict[bytes, str] = {}
        """Contents that came and could not be written here, and why."""
        self._listings: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._untaken = 0
        """Bytes of listings that nobody has taken yet."""
        self._arriving = 0
        """Bytes of contents that are not written yet."""
        self._wanted: dict[int, frozenset[tuple[bytes, int]]] = {}
        """By the stream of a GET, what may be sent."""
        self._asked_for_much: set[int] = set()
        self._arrivals: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._intake: Intake | None = None
        self._heard = time.monotonic()
        self._disk_silent_s = 0.0
        self._round_trip = float("inf")
        self._probes = 0
        self._closing = False
        self._lost: RemotedlError | None = None
        self._errors = bytearray()
        self._outflow: Outflow | None = None
        self._stopped = threading.Event()
        for run in (self._read, self._read_errors, self._ping):
            threading.Thread(target=run, name="sync-peer", daemon=True).start()

    @classmethod
    def launch(cls, remote: Remote, wake: Callable[[], None]) -> Peer:
        """Run the agent on the host; it does nothing until `greeted`. Raises LinkLost."""
        process = remote.start([*PYTHON, f"{FOLDER}/{agent_bundle().name}"])
        return cls(remote, process, wake)

    def greeted(self, hello: Mapping[str, Any], since: Version | None) -> Peer:
        """Say HELLO; where the agent is not on the host, or is damaged there, upload it, once, and
        run another one.

        What changed `since` is asked for in the same breath: `told` is the answer.

        Raises LinkLost, SyncError.
        """
        self._greet(hello, since)
        if not self._did_not_start():
            return self
        self.close()
        bundle = agent_bundle()
        self._remote.put(bundle.data, f"{FOLDER}/{bundle.name}", mode=0o600)
        peer = Peer.launch(self._remote, self._wake)
        peer._greet(hello, since)
        return peer

    def _greet(self, hello: Mapping[str, Any], since: Version | None) -> None:
        try:
            self._wire.control(Type.HELLO, 0, protocol.pack_json(dict(hello)))
            self.told = self.snap(since, scan=True)
        except (Closed, RemotedlError):  # it ended at once; `opened` says why
            ended = LinkLost(f"the agent on {self._remote.name} is gone")
            self.told.fail(self._lost or ended)

    def opened(self) -> dict[str, Any]:
        """The agent's HELLO. Raises LinkLost, RootInUse, FolderUnusable, ProtocolError."""
        try:
            answer = self._hello.wait(START_S)
        except TimeoutError:
            said = self._said()
            raise ProtocolError(
                f"no agent answered on {self._remote.name} in {START_S:g} s{said}"
            ) from None
        if answer.get("version") != protocol.VERSION:
            raise ProtocolError(f"an agent of version {answer.get('version')} answered")
        return answer

    def receive_into(self, replica: Replica) -> None:
        """Contents that come go to this replica's staging area; its files can be sent."""
        self._intake = Intake(replica, self._give_credit)
        threading.Thread(target=self._run_arrivals, name="sync-intake", daemon=True).start()

    def outflow(self, replica: Replica) -> Outflow:
        """Sends a replica's files to the agent."""
        return Outflow(replica, self._wire, self._next_stream)

    @property
    def host(self) -> str:
        return self._remote.name

    @property
    def disk_since(self) -> float | None:
        """Since when the host's disk does not answer (seconds since the epoch); None: it does."""
        if self._disk_silent_s < DISK_S:
            return None
        return time.time() - self._disk_silent_s - (time.monotonic() - self._heard)

    @property
    def error(self) -> RemotedlError | None:
        """Why the session is over; None while it is not."""
        return self._lost

    def check(self) -> None:
        """Raises LinkLost or SyncError when the session is over."""
        if self._lost is not None:
            raise self._lost

    def listings(self) -> Iterator[Listing]:
        """What the agent told since the last call. Raises ProtocolError."""
        for _ in range(self._listings.qsize()):
            payload = self._listings.get()
            with self._lock:
                self._untaken -= len(payload)
            try:
                yield unpack_listing(payload)
            except Malformed as exc:
                self._fail(exc)
                self.check()

    @property
    def has_listings(self) -> bool:
        return not self._listings.empty()

    @property
    def untold(self) -> int:
        """Changes of the host that nobody has taken notice of: still looked at, or just told."""
        return self.looking + self._listings.qsize()

    def snap(self, since: Version | None, *, scan: bool) -> Reply:
        """Ask for what changed; the answer follows its listings. Raises LinkLost."""
        asked = {"since": None if since is None else list(since), "scan": scan}
        return self._ask(Type.SNAP, protocol.pack_json(asked))

    def commit(
        self, changes: Sequence[Change], step: str, reasons: Sequence[str], *, urgent: bool = False
    ) -> Reply:
        """After the contents that were sent before, as urgently. Raises LinkLost."""
        payload = protocol.pack_commit(step, reasons, changes)
        return self._ask(Type.COMMIT, payload, in_order=not urgent)

    def get(self, wanted: Sequence[Wanted]) -> Reply:
        """Have contents sent into the staging area; answered when all are there or given up."""
        payload = pack_get(wanted, deflate=self._is_far)
        asked = frozenset((one.entry.digest or b"", one.entry.size) for one in wanted)
        return self._ask(Type.GET, payload, asked=asked)

    @property
    def _is_far(self) -> bool:
        """A round trip is so long that the link may well be slow."""
        return FAR_S < self._round_trip < float("inf")

    def prepare(self, path: str) -> None:
        """A hint: this big file of the host will be replaced by one that is much like it."""
        try:
            self._wire.control(Type.PREPARE, 0, path.encode("utf-8", "surrogateescape"))
        except Closed:
            pass

    def flush(self, cookie: str) -> Reply:
        return self._ask(Type.FLUSH, protocol.pack_json({"cookie": cookie}))

    def ops(self, op: str, **more: Any) -> Reply:
        much = op in LONG_ANSWERS
        return self._ask(Type.OPS, protocol.pack_json({"op": op, **more}), much=much)

    def expect(self, stream: int) -> Reply:
        """The answer to contents that were sent on `stream`."""
        reply = Reply(lambda: self.disk_since)
        with self._lock:
            self._replies[stream] = reply
        if self._lost is not None:
            reply.fail(self._lost)
        return reply

    def expect_no_more(self, stream: int) -> None:
        """The contents of this stream were given up."""
        with self._lock:
            self._replies.pop(stream, None)

    def new_stream(self) -> int:
        return self._next_stream()

    def say_bye(self) -> None:
        """The agent may end, while we tidy up on our side; idempotent."""
        if self._closing:
            return
        self._closing = True
        try:
            self._wire.control(Type.BYE, 0)
            self._wire.drain(1)
            self._process.shutdown_write()
        except (Closed, LinkLost):
            pass

    def abort(self) -> None:
        """Whoever waits for an answer gets LinkLost: nobody can wait any longer. Idempotent."""
        self._stop(LinkLost("the session was closed"))

    def close(self) -> None:
        """End the session in order; idempotent."""
        self.say_bye()
        self._stopped.wait(END_S)  # until the agent's output ends
        self._stop(LinkLost("the session was closed"))

    def _ask(
        self,
        kind: Type,
        payload: bytes,
        *,
        in_order: bool = False,
        asked: frozenset[tuple[bytes, int]] | None = None,
        much: bool = False,
    ) -> Reply:
        stream = self._next_stream()
        reply = self.expect(stream)
        with self._lock:
            if asked is not None:
                self._wants_data.add(stream)
                self._wanted[stream] = asked
            if much:
                self._asked_for_much.add(stream)
        send = self._wire.in_order if in_order else self._wire.control
        try:
            send(kind, stream, payload)
        except Closed:
            self.check()
            raise LinkLost(f"the agent on {self._remote.name} is gone") from None
        return reply

    def _next_stream(self) -> int:
        with self._lock:
            self._streams += 2
            return self._streams

    def _give_credit(self, size: int) -> None:
        try:
            self._wire.control(Type.CREDIT, 0, struct.pack(">Q", size))
        except Closed:
            pass

    # Threads

    def _read(self) -> None:
        parser = Parser(skip_noise=True, most=self._most)
        try:
            while True:
                data = self._process.recv(CHUNK)
                if not data:
                    self._ended(parser.noise)
                    return
                self._heard = time.monotonic()
                for frame in parser.feed(data):
                    self._take(frame)
        except OSError as exc:
            self._lose(exc)
        except Exception as exc:  # noqa: BLE001
            self._fail(exc)

    def _take(self, frame: Frame) -> None:
        kind, stream = frame.type, frame.stream
        if not self._hello.is_there and kind not in (Type.HELLO, Type.ACK, Type.PING):
            raise Malformed(f"a {kind.name} before it introduces itself")
        if kind in (Type.PUT, Type.DATA, Type.DEFLATED, Type.COPY):
            self._arrive(frame)
        elif kind in (Type.SNAP, Type.DIRTY):
            self._told(kind, stream, frame.payload)
        elif kind is Type.ACK:
            with self._lock:
                behind = stream in self._wants_data or not stream % 2
            if behind and stream:
                self._arrive(frame)
            else:
                self._acknowledge(frame)
        elif kind is Type.CREDIT:
            self._wire.more_credit(_number(frame.payload))
        elif kind is Type.LOOKING:
            self.looking = _number(frame.payload)
        elif kind is Type.HELLO and not self._hello.is_there:
            self._hello.set(protocol.unpack_json(frame.payload))
            self._send_ping()
        elif kind is Type.PING:
            took, self._disk_silent_s = _pong(frame.payload)
            self._round_trip = min(self._round_trip, took)
            self._wire.deflates = self._is_far
            self._probes += 1
            if self._is_far and self._probes < PROBES:
                self._send_ping()
        else:
            raise Malformed(f"a {kind.name} from the agent")

    def _told(self, kind: Type, stream: int, payload: bytes) -> None:
        """Part of a listing; it is kept as it came until somebody takes it."""
        with self._lock:
            self._untaken += len(payload)
            asked = stream in self._replies
        if self._untaken > UNTAKEN_LIMIT:
            raise TooMuch(f"more than {UNTAKEN_LIMIT >> 20} MB of changes at once")
        if kind is Type.SNAP and not asked:
            raise Malformed("a listing that nobody asked for")
        last = is_last(payload)
        self._listings.put(payload)
        if kind is Type.DIRTY:
            self._wake()
        elif last:
            self._answer(stream, {})

    def _arrive(self, frame: Frame) -> None:
        """Contents wait here until they are written; more than we gave credit for is too much."""
        with self._lock:
            self._arriving += len(frame.payload)
        if self._arriving > ARRIVING_LIMIT:
            raise TooMuch("more than it was given credit for")
        self._arrivals.put(frame)

    def _most(self, kind: int, stream: int) -> int:
        """How long a message may be. Only who asked for a history gets a long one."""
        if kind in (Type.SNAP, Type.DIRTY, Type.PUT):
            return LISTING_LIMIT
        if stream in self._asked_for_much:
            return protocol.MESSAGE_LIMIT
        return protocol.FRAME_LIMIT if stream in self._replies else 0

    def _acknowledge(self, frame: Frame) -> None:
        answer = protocol.unpack_json(frame.payload)
        if "error" not in answer:
            self._answer(frame.stream, answer)
            return
        message = f"on {self._remote.name}: {answer.get('message', answer['error'])}"
        error = SyncError(message) if frame.stream else ProtocolError(message)
        if not frame.stream:
            self._stop(error)
            return
        with self._lock:
            reply = self._replies.pop(frame.stream, None)
            self._wanted.pop(frame.stream, None)
        if reply is not None:
            reply.fail(error)

    def _answer(self, stream: int, answer: dict[str, Any]) -> None:
        with self._lock:
            reply = self._replies.pop(stream, None)
            self._wants_data.discard(stream)
            self._wanted.pop(stream, None)
            self._asked_for_much.discard(stream)
        if reply is not None:
            reply.set(answer)

    def _run_arrivals(self) -> None:
        assert self._intake is not None
        try:
            while True:
                frame = self._arrivals.get()
                if frame is None:
                    return
                with self._lock:
                    self._arriving -= len(frame.payload)
                if frame.type is Type.PUT:
                    self._check_asked_for(frame.payload)
                    self._arrived(self._intake.put(frame.stream, frame.payload))
                elif frame.type is Type.DATA:
                    self._arrived(self._intake.data(frame.stream, frame.payload))
                elif frame.type is Type.DEFLATED:
                    self._arrived(self._intake.deflated(frame.stream, frame.payload))
                elif frame.type is Type.COPY:
                    self._arrived(self._intake.copy(frame.stream, frame.payload))
                elif frame.type is Type.ACK and frame.stream % 2:
                    self._acknowledge(frame)
                else:
                    self._intake.abandon(frame.stream)
        except Exception as exc:  # noqa: BLE001
            self._fail(exc)
        finally:
            self._intake.close()

    def _check_asked_for(self, payload: bytes) -> None:
        """Raises Malformed: contents that nobody wants would only fill the disk."""
        contents = protocol.unpack_contents(payload)
        with self._lock:
            wanted = frozenset[tuple[bytes, int]]().union(*self._wanted.values())
        if any((content.digest, content.size) not in wanted for content in contents):
            raise Malformed("contents that nobody asked for")

    def _arrived(self, arrived: Arrived | None) -> None:
        for digest, why in (arrived.results if arrived else {}).items():
            if why:
                self.not_taken[digest] = why
            else:
                self.not_taken.pop(digest, None)

    def _read_errors(self) -> None:
        """Keep the last of what is said on stderr, for messages."""
        try:
            while data := self._process.recv_stderr(CHUNK):
                self._errors += data
                del self._errors[:-ERRORS_KEPT]
        except (LinkLost, OSError):
            pass

    def _ping(self) -> None:
        """A half-open link says nothing, for hours, unless somebody asks."""
        while not self._stopped.wait(PING_S):
            silent = time.monotonic() - self._heard
            if silent > SILENCE_S and self._hello.is_there:  # a start may take longer
                self._stop(LinkLost(f"{self._remote.name} has not answered for {silent:.0f} s"))
                return
            try:
                self._send_ping()
            except Closed:
                return

    def _send_ping(self) -> None:
        self._wire.control(Type.PING, 0, b"\0" + struct.pack(">d", time.monotonic()))

    # Ending

    def _did_not_start(self) -> bool:
        """Whether it is worth uploading: Python is there, and ended without a word of the agent."""
        try:
            self._hello.wait(START_S)
            return False
        except TimeoutError:
            return False
        except RemotedlError:
            pass
        try:
            return self._process.wait(5) not in (NO_PYTHON, TOO_OLD)
        except (LinkLost, TimeoutError):
            return False

    def _ended(self, noise: bytes) -> None:
        """The agent's output is at its end."""
        if self._closing:
            self._stop(LinkLost("the session was closed"))
            return
        try:
            code = self._process.wait(5)
        except (LinkLost, TimeoutError, OSError):
            code = -1
        self._errors += b"" if self._hello.is_there else noise[-ERRORS_KEPT:]
        self._stop(self._why_ended(code))

    def _why_ended(self, code: int) -> RemotedlError:
        name = self._remote.name
        if code == NO_PYTHON:
            hint = f"ssh {name} sudo apt-get install python3"
            return FolderUnusable(f"{name} has no python3, which the sync needs there", hint=hint)
        if code == TOO_OLD:
            return FolderUnusable(f"python3 on {name} is older than 3.8{self._said()}")
        if self._hello.is_there:
            return LinkLost(f"the agent on {name} ended (status {code}){self._said()}")
        return ProtocolError(f"the agent on {name} did not start (status {code}){self._said()}")

    def _said(self) -> str:
        text = self._errors.decode("utf-8", "replace").strip()
        return f": {text}" if text else ""

    def _lose(self, exc: BaseException) -> None:
        if isinstance(exc, RemotedlError):
            self._stop(exc)
        else:
            self._stop(LinkLost(f"the link to {self._remote.name} is gone: {exc}"))

    def _fail(self, exc: Exception) -> None:
        """A thread of ours met something that it cannot go on with."""
        if isinstance(exc, RemotedlError):
            self._stop(exc)
        elif isinstance(exc, TooMuch):
            hint = "leave folders out of the sync in .remotedlignore, or set another workdir"
            message = f"the agent on {self._remote.name} sends too much: {exc}"
            self._stop(ProtocolError(message, hint=hint))
        else:
            self._stop(ProtocolError(f"the agent on {self._remote.name} speaks nonsense: {exc}"))

    def _stop(self, error: RemotedlError) -> None:
        """The session is over: whoever waits is told why."""
        with self._lock:
            if self._lost is not None:
                return
            self._lost = error
            replies = list(self._replies.values())
            self._replies.clear()
        self._stopped.set()
        self._wire.close()
        self._arrivals.put(None)
        for reply in (*replies, self._hello):
            if not reply.is_there:
                reply.fail(error)
        try:
            self._process.close()
        except (RemotedlError, OSError):
            pass
        self._wake()


def refusal(answer: Mapping[str, Any], host: str, root: str) -> RemotedlError:
    """The error that an agent's HELLO stands for."""
    kind, said = str(answer["error"]), str(answer.get("message", ""))
    where = f"{root} on {host}"
    if kind == "busy":
        holder = answer.get("holder") or {}
        who = str(holder["name"]) if isinstance(holder, dict) and "name" in holder else "another"
        return RootInUse(
            f"{where} is being synced by {who}",
            hint="end it there (remotedl down), or take the folder over: "
            "remotedl sync --once --allow root-in-use",
        )
    hint = "set workdir in hosts.toml to a folder that is yours and has room"
    if answer.get("path"):
        said += f" ({answer['path']})"
    return FolderUnusable(f"{where} cannot be synced: {said}", hint=hint)


def _pong(payload: bytes) -> tuple[float, float]:
    """How long ago this ping was sent, and for how long the host's disk has been silent."""
    if len(payload) != 17:
        raise Malformed("a ping that is none")
    sent, silent = struct.unpack(">dd", payload[1:])
    if not 0 <= silent < float("inf"):
        raise Malformed("a ping that is none")
    return max(0.0, time.monotonic() - float(sent)), float(silent)


def _number(payload: bytes) -> int:
    if len(payload) != 8:
        raise Malformed("a number that is none")
    return int.from_bytes(payload, "big")
