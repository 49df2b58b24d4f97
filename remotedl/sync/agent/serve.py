"""The agent: serves one replica to one laptop over stdin and stdout, until that goes away.

Threads: the reader takes frames apart, the keeper alone touches the replica, the intake writes
contents to the staging area, two senders read files, the wire writes frames. The agent trusts
nobody: every path and size is checked, and nothing outside the root is touched. It decides
nothing about what to sync.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import struct
import sys
import threading
import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional

from remotedl.sync.agent import protocol
from remotedl.sync.agent.compiled import keep_compiled
from remotedl.sync.agent.disk import Disk, this_disk, write_all
from remotedl.sync.agent.heartbeat import Heartbeat
from remotedl.sync.agent.keeper import Keeper, Refused
from remotedl.sync.agent.listing import Version
from remotedl.sync.agent.opened import open_documents
from remotedl.sync.agent.protocol import Content, Frame, Malformed, Parser, Type
from remotedl.sync.agent.transfer import SMALL, Arrived, Intake, Outflow, unpack_get
from remotedl.sync.agent.trash import entry_from_json
from remotedl.sync.agent.tree import Change
from remotedl.sync.agent.wire import Closed, Wire

SILENCE_S = 90.0
"""A laptop that says nothing for so long has gone; its lock must not outlive it."""
DOUBTED_S = 15.0
"""The same where another one waits for the folder; a laptop that is there pings every 10 s."""
CHUNK = 1 << 18
PIPE = 1 << 20
_F_SETPIPE_SZ = 1031
PROBE_LIMIT = 1 << 20
"""Bytes of an answer that only measures the link."""

NONSENSE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError)
"""What a request that makes no sense leads to, where its values are used."""

Sending = "queue.Queue[Optional[Tuple[int, List[Wanted]]]]"


class Bye(Exception):
    """The laptop ends the session."""


class Agent:
    """One session. `run` returns when the laptop has gone."""

    def __init__(
        self,
        receive: Callable[[int], bytes],
        send: Callable[[Any], None],
        *,
        disk: Optional[Disk] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receive = receive
        self._clock = clock
        self._heard = clock()
        self._patience = SILENCE_S
        self.doubted = threading.Event()
        self._wire = Wire(send, lambda _: None)
        self._heartbeat = Heartbeat(clock)
        watched = self._heartbeat.watch(this_disk() if disk is None else disk)
        self._keeper = Keeper(self._wire, watched, clock, self._heartbeat)
        self._arrivals: queue.Queue[Optional[Callable[[], None]]] = queue.Queue()
        self._small: Any = queue.Queue()
        self._big: Any = queue.Queue()
        self._intake: Optional[Intake] = None
        self._failed: Dict[bytes, str] = {}
        """Contents that could not be taken in, and why."""
        self._streams = 0
        self._streams_lock = threading.Lock()
        self._opened = False
        self._threads: List[threading.Thread] = []

    def run(self) -> None:
        """Until end-of-file, BYE or a frame that makes no sense."""
        parser = Parser()
        self._start("keeper", self._keeper.run)
        try:
            while True:
                data = self._receive(CHUNK)
                if not data:
                    return
                self._heard = self._clock()
                for frame in parser.feed(data):
                    self._take(frame)
        except (Bye, Closed):
            return
        except (Malformed, KeyError, TypeError, ValueError, struct.error) as exc:
            self._complain(0, "malformed", str(exc))
        finally:
            self._end()

    @property
    def is_forsaken(self) -> bool:
        """The laptop has said nothing for too long."""
        return self._clock() - self._heard > self._patience

    def doubt(self) -> None:
        """Another run of the laptop waits for the folder: is this one's still there?"""
        self._patience = DOUBTED_S
        self.doubted.set()

    def _take(self, frame: Frame) -> None:
        """Raises Bye, Malformed and whatever a request without sense leads to."""
        kind = frame.type
        if kind is Type.PING:
            silent = struct.pack(">d", self._heartbeat.silent_for())
            self._wire.control(Type.PING, frame.stream, b"\1" + frame.payload[1:9] + silent)
        elif kind is Type.CREDIT:
            self._wire.more_credit(struct.unpack(">Q", frame.payload)[0])
        elif kind is Type.BYE:
            raise Bye
        elif kind is Type.HELLO and not self._opened:
            self._opened = True
            request = protocol.unpack_json(frame.payload)
            self._keeper.post(lambda: self._open(request))
        elif not self._opened:
            raise Malformed("a request before HELLO")
        elif kind in (Type.PUT, Type.DATA, Type.DEFLATED, Type.COPY, Type.PREPARE, Type.ACK):
            self._arrivals.put(lambda: self._arrive(frame))
        elif kind is Type.GET:
            self._get(frame)
        else:
            self._request(frame)

    def _request(self, frame: Frame) -> None:
        stream = frame.stream
        if frame.type is Type.COMMIT:
            self._commit(frame)
            return
        asked = protocol.unpack_json(frame.payload)
        if frame.type is Type.SNAP:
            since = None if asked.get("since") is None else _version(asked["since"])
            scan = bool(asked.get("scan"))
            self._keeper.post(lambda: self._keeper.tell(stream, since, scan))
        elif frame.type is Type.FLUSH:
            cookie = _word(asked["cookie"])
            self._keeper.post(lambda: self._keeper.flush(stream, cookie))
        elif frame.type is Type.OPS:
            self._keeper.post(lambda: self._ops(stream, asked))
        else:
            raise Malformed(f"a {frame.type.name} from the laptop")

    # In the keeper's thread

    def _open(self, request: Dict[str, Any]) -> None:
        try:
            self._answer_hello(request)
        except NONSENSE as exc:
            raise Malformed(f"a HELLO that makes no sense: {exc!r}") from exc

    def _answer_hello(self, request: Dict[str, Any]) -> None:
        try:
            answer = self._keeper.open(request)
        except Refused as exc:
            answer = {"error": exc.kind, "message": str(exc), **exc.more}
            self._keeper.refuse()
        else:
            self._start_transfers()
        answer.update(version=protocol.VERSION, python=sys.version.split()[0], pid=os.getpid())
        self._wire.control(Type.HELLO, 0, protocol.pack_json(answer))

    def _ops(self, stream: int, asked: Dict[str, Any]) -> None:
        try:
            answer = self._do(asked)
        except OSError as exc:
            self._complain(stream, "refused", exc.strerror or str(exc))
        except NONSENSE as exc:
            raise Malformed(f"a request that makes no sense: {exc!r}") from exc
        else:
            self._wire.control(Type.ACK, stream, protocol.pack_json(answer))

    def _do(self, asked: Dict[str, Any]) -> Dict[str, Any]:
        """Raises OSError, and KeyError and the like for a request without sense."""
        op = asked["op"]
        if op == "marker":
            self._keeper.set_marker(_word(asked["marker"]))
        elif op == "digests":
            self._keeper.read_for_sure([protocol.check_path(str(one)) for one in asked["keys"]])
        elif op == "rules":
            self._keeper.set_rules(asked["rules"])
        elif op == "offsets":
            staging = self._keeper.replica.staging
            contents = [Content(bytes.fromhex(one), int(size)) for one, size in asked["contents"]]
            return {"offsets": [staging.resumes_at(content) for content in contents]}
        elif op == "open":
            return {"keys": sorted(open_documents(self._keeper.replica.folder))}
        elif op == "trash":
            return self._keeper.list_trash()
        elif op == "undo":
            only = [protocol.check_path(str(path)) for path in asked["paths"]]
            made = [
                Change(protocol.check_path(str(path)), None, entry_from_json(new))
                for path, new in asked["made"]
            ]
            return self._keeper.undo(_word(asked["step"]), only, _word(asked["new_step"]), made)
        elif op == "probe":
            return {"data": "0" * min(len(str(asked["data"])), PROBE_LIMIT)}
        elif op == "sync":
            self._keeper.replica.sync()
        elif op == "prune":
            trash = self._keeper.replica.trash
            return {"freed": trash.prune(float(asked["days"]), int(asked["size"]))}
        else:
            raise Malformed(f"an unknown request: {op}")
        return {}

    def _commit(self, frame: Frame) -> None:
        step, reasons, changes = protocol.unpack_commit(frame.payload)
        arrived = threading.Event()
        self._arrivals.put(arrived.set)  # contents sent before are taken in before

        def run() -> None:
            arrived.wait()
            self._keeper.commit(frame.stream, changes, _word(step), reasons, self._failed)

        self._keeper.post_commit(run)

    # Transfers

    def _start_transfers(self) -> None:
        replica = self._keeper.replica
        self._intake = Intake(replica, self._give_credit)
        self._start("intake", self._run_arrivals)
        for waiting in (self._small, self._big):
            outflow = Outflow(replica, self._wire, self._next_stream)
            self._start("sender", partial(self._run_sending, waiting, outflow))

    def _arrive(self, frame: Frame) -> None:
        assert self._intake is not None
        arrived: Optional[Arrived] = None
        if frame.type is Type.PUT:
            arrived = self._intake.put(frame.stream, frame.payload)
        elif frame.type is Type.DATA:
            arrived = self._intake.data(frame.stream, frame.payload)
        elif frame.type is Type.DEFLATED:
            arrived = self._intake.deflated(frame.stream, frame.payload)
        elif frame.type is Type.COPY:
            arrived = self._intake.copy(frame.stream, frame.payload)
        elif frame.type is Type.PREPARE:
            self._intake.prepare(frame.payload)
        else:
            self._intake.abandon(frame.stream)
        if arrived is None:
            return
        failed = {digest: why for digest, why in arrived.results.items() if why}
        self._failed.update(failed)
        for digest in arrived.results.keys() - failed.keys():
            self._failed.pop(digest, None)
        answer = {"failed": {digest.hex(): why for digest, why in failed.items()}}
        self._wire.control(Type.ACK, arrived.stream, protocol.pack_json(answer))

    def _run_arrivals(self) -> None:
        assert self._intake is not None
        try:
            while True:
                task = self._arrivals.get()
                if task is None:
                    return
                with self._heartbeat.working():
                    task()
        except Malformed as exc:
            self._complain(0, "malformed", str(exc))
        except Closed:
            pass
        finally:
            self._intake.close()

    def _get(self, frame: Frame) -> None:
        wanted, self._wire.deflates = unpack_get(frame.payload)
        big = any(one.entry.size > SMALL for one in wanted)
        (self._big if big else self._small).put((frame.stream, wanted))

    def _run_sending(self, waiting: Any, outflow: Outflow) -> None:
        try:
            while True:
                request = waiting.get()
                if request is None:
                    return
                stream, wanted = request
                failed = outflow.send(wanted)
                answer = {"failed": {digest.hex(): why for digest, why in failed.items()}}
                self._wire.in_order(Type.ACK, stream, protocol.pack_json(answer))
        except Closed:
            pass

    def _give_credit(self, size: int) -> None:
        self._wire.control(Type.CREDIT, 0, struct.pack(">Q", size))

    def _next_stream(self) -> int:
        with self._streams_lock:
            self._streams += 2
            return self._streams

    # Beginning and ending

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guard(run), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guard(self, run: Callable[[], None]) -> Callable[[], None]:
        """A thread that dies takes the session with it, saying why."""

        def guarded() -> None:
            try:
                run()
            except Closed:
                pass
            except Malformed as exc:
                self._complain(0, "malformed", str(exc))
            except BaseException as exc:  # noqa: BLE001
                import traceback

                self._complain(0, "failed", f"{exc}\n{traceback.format_exc()}")

        return guarded

    def _complain(self, stream: int, kind: str, message: str) -> None:
        answer = {"error": kind, "message": message[:8000]}
        try:
            self._wire.control(Type.ACK, stream, protocol.pack_json(answer))
        except Closed:
            pass

    def _end(self) -> None:
        for waiting in (self._arrivals, self._small, self._big):
            waiting.put(None)
        self._keeper.post(None)
        self._wire.drain(2)
        self._wire.close()
        for thread in self._threads:
            thread.join(10)


def main() -> None:
    """Speak on stdin and stdout; nothing else may print there."""
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    for name in ("SIGHUP", "SIGINT"):  # end-of-file says the same, in order
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _raise_limits()
    _widen(incoming)
    # Pictures are many small objects in no cycles: looking for cycles takes a third of a start.
    gc.set_threshold(200_000, 50, 100)
    disk = this_disk()
    agent = Agent(
        lambda size: os.read(incoming, size), lambda data: write_all(disk, outgoing, data)
    )
    write_all(disk, outgoing, protocol.MAGIC)
    signal.signal(signal.SIGUSR1, lambda *_: agent.doubt())
    threading.Thread(target=_end_when_silent, args=(agent,), daemon=True).start()
    agent.run()
    os.close(outgoing)  # the laptop waits for this end, not for what follows
    try:
        keep_compiled(sys.argv[0])
    except OSError:
        pass  # it only saves work
    os._exit(0)  # taking a picture of 100,000 files apart takes longer than making it


def _end_when_silent(agent: Agent) -> None:
    while not agent.is_forsaken:
        if agent.doubted.wait(SILENCE_S / 6):
            time.sleep(1)
    os._exit(75)


def _raise_limits() -> None:
    """Deep trees and many transfers need descriptors."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(hard, 16384)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _widen(pipe: int) -> None:
    """Let sshd hand over more at once than the 64 KiB that a pipe holds at first."""
    import fcntl

    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE)
    except OSError:
        pass  # no pipe, or more than this user may have


def _version(value: Any) -> Version:
    epoch, number = value
    return Version(str(epoch), int(number))


def _word(value: Any) -> str:
    """A short name that may become part of a file's name. Raises Malformed."""
    word = str(value)
    if not 0 < len(word) <= 100 or not all(ch.isalnum() or ch in "-_" for ch in word):
        raise Malformed("a name that is none")
    return word
