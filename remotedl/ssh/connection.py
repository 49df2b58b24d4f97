"""A connection to a host: the `Remote` that all rooms work through.

Commands, forwarded connections, small files, root, and whether the link lives; all over one SSH
connection, from any thread. It neither reconnects nor retries: that is `session`'s.
"""

from __future__ import annotations

import posixpath
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remotedl.config.models import SudoMode
from remotedl.errors import (
    ForwardingForbidden,
    LinkLost,
    RemoteCommandFailed,
    RemoteTimeout,
    SshError,
    TunnelError,
)
from remotedl.ssh import quoting
from remotedl.ssh.address import stranded
from remotedl.ssh.channel import Channel, ChannelRefused
from remotedl.ssh.limit import Limit
from remotedl.ssh.mux import UNIX_SOCKET
from remotedl.ssh.opener import Opened
from remotedl.ssh.process import RemoteProcess, RemoteStream
from remotedl.ssh.prompt import Prompt
from remotedl.ssh.remote import Chunk, Pty, Result, Stream
from remotedl.ssh.reverse import Handler, RemoteListener, ReverseDoor
from remotedl.ssh.root import Root
from remotedl.ssh.route import Hop
from remotedl.ssh.sessions import LINGER_S, WAIT_S, Sessions
from remotedl.ssh.system import FastLane, possible, raise_descriptor_limit

OPEN_TIMEOUT_S = 30.0
DIAL_TIMEOUT_S = 60.0
LONGEST_HINT = 200
MOST_OUTPUT = 32 << 20
KILL_LIMIT_S = 3.0
PROHIBITED = 1
KILL = """\
kill -s TERM -- "-$1" 2>/dev/null || kill -s TERM "$1" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 "$1" 2>/dev/null || exit 0; sleep 0.1; done
kill -s KILL -- "-$1" 2>/dev/null || kill -s KILL "$1" 2>/dev/null || :"""
WRITE_FILE = """\
set -e; umask 077
case $1 in */*) mkdir -p -- "${1%/*}" ;; esac
t=$1.tmp.$$; trap 'rm -f -- "$t"' EXIT
cat > "$t"; chmod "$2" "$t"; mv -f -- "$t" "$1"; trap - EXIT"""


class Connection:
    """An open SSH connection, with the hops that lead to it."""

    def __init__(
        self, hops: Sequence[Hop], opened: list[Opened], sudo: SudoMode, prompt: Prompt
    ) -> None:
        self._hops = hops
        self._hop = hops[-1]
        self._opened = opened
        self._transport = opened[-1].transport
        self._transport.peer = self._hop.alias
        self._sessions = Sessions(self._hop.alias)
        self._root = Root(self._hop.user, self._hop.alias, sudo, prompt)
        self._reverse = ReverseDoor(self._transport, self._hop.alias)
        self._is_root: bool | None = None
        self._closed = False
        self._lane: FastLane | None = None

    @property
    def name(self) -> str:
        return self._hop.alias

    @property
    def user(self) -> str:
        return self._hop.user

    @property
    def alive(self) -> bool:
        return not self._closed and bool(self._transport.is_active())

    @property
    def stranded(self) -> bool:
        return stranded(self._opened[0].transport.sock)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout_s: float | None = None,
        check: bool = True,
        on_stdout: Chunk | None = None,
        on_stderr: Chunk | None = None,
    ) -> Result:
        limit = Limit(timeout_s)
        process = self._start(argv, limit, sudo=False, env=env, cwd=cwd, pty=None)
        return self._finish(process, stdin, limit, check, on_stdout, on_stderr)

    def sudo(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout_s: float | None = None,
        check: bool = True,
        on_stdout: Chunk | None = None,
        on_stderr: Chunk | None = None,
    ) -> Result:
        limit = Limit(timeout_s)
        process = self._start(argv, limit, sudo=True, env=env, cwd=cwd, pty=None)
        return self._finish(process, stdin, limit, check, on_stdout, on_stderr)

    def start(
        self,
        argv: Sequence[str],
        *,
        sudo: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> RemoteProcess:
        return self._start(argv, Limit(None), sudo=sudo, env=env, cwd=cwd, pty=pty)

    def check_sessions(self, least: int) -> None:
        """Raises SshError within seconds where sshd lets fewer commands run side by side.

        Found out by opening so many, for sshd tells nobody; each costs a round trip.
        """
        held: list[Channel] = []
        try:
            for _ in range(least):
                held.append(self._admitted(Limit(None), 1.5 * LINGER_S))
        finally:
            for channel in held:
                channel.close()
                self._sessions.end()

    def hasten(self) -> None:
        """Make later dials fast: see `system.py`. Returns at once; nothing comes of it where the
        system has no ssh, or where a secret was typed to log in."""
        typed = any(opened.login.secret_typed for opened in self._opened)
        if self._lane is None and not self._closed and not typed and possible(self._hops):
            raise_descriptor_limit()
            self._lane = FastLane(
                self._hops,
                [opened.host_key for opened in self._opened],
                [opened.login.key_file for opened in self._opened],
            )

    @property
    def lane(self) -> FastLane | None:
        """The fast lane, once asked for; for doctor and tests."""
        return self._lane

    def dial(self, address: str, port: int) -> Stream:
        lane = self._lane
        if lane is not None and lane.ready:
            fast = lane.dial(address, port)
            if fast is not None:
                return fast
        where = f"{address}:{port}"
        stream = self._dial(where, "direct-tcpip", address, port, "127.0.0.1", 0)
        if lane is not None:
            lane.meet(address, port)
        return stream

    def dial_unix(self, path: str) -> Stream:
        lane = self._lane
        if lane is not None and lane.ready:
            fast = lane.dial(path, UNIX_SOCKET)
            if fast is not None:
                return fast
        stream = self._dial(path, "direct-streamlocal@openssh.com", path, "", 0)
        if lane is not None:
            lane.meet(path, UNIX_SOCKET)
        return stream

    def listen_remote(self, address: str, port: int, handler: Handler) -> RemoteListener:
        """A port on the host (0: any free one) whose connections `handler` gets, each in a thread.

        Raises TunnelError.
        """
        return self._reverse.listen(address, port, handler)

    def listen_remote_unix(self, path: str, handler: Handler) -> RemoteListener:
        """As `listen_remote`, for a unix socket on the host."""
        return self._reverse.listen_unix(path, handler)

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        argv = ["sh", "-c", WRITE_FILE, "put", _not_an_option(path), f"{mode:o}"]
        self.run(argv, stdin=data)

    def ping(self, deadline_s: float) -> float:
        began = time.monotonic()
        self._transport.ask("keepalive@openssh.com", deadline_s=deadline_s)
        return time.monotonic() - began

    def close(self) -> None:
        """Ends every stream and process of this connection, and its threads. Idempotent."""
        self._closed = True
        if self._lane is not None:
            self._lane.close()
        for hop in reversed(self._opened):
            hop.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Below: how it is done.

    def _start(
        self,
        argv: Sequence[str],
        limit: Limit,
        *,
        sudo: bool,
        env: Mapping[str, str] | None,
        cwd: str | None,
        pty: Pty | None,
    ) -> RemoteProcess:
        sudo = sudo and not self._root_already()
        if sudo:
            self._root.check_allowed()
        command = quoting.command_line(argv, env=env, cwd=cwd, sudo=sudo, terminal=pty is not None)
        try:
            process = self._exec(argv, command, pty, limit, by_root=sudo)
        except TimeoutError as exc:
            raise self._too_late(argv[0], limit) from exc
        if sudo:
            try:
                self._root.begin(process, limit)
            except BaseException:
                process.close()
                raise
        return process

    def _exec(
        self,
        argv: Sequence[str],
        command: bytes,
        pty: Pty | None,
        limit: Limit,
        *,
        by_root: bool,
    ) -> RemoteProcess:
        channel = self._open_session(limit)
        process = RemoteProcess(channel, argv, pty, by_root, _once(self._sessions.end))
        try:
            if pty is not None:
                size = (pty.columns, pty.rows, 0, 0)
                channel.request("pty-req", pty.term, *size, b"\0", reply=False)
            channel.request("exec", command)
        except BaseException:
            process.close()
            raise
        return process

    def _open_session(self, limit: Limit) -> Channel:
        """Raises TimeoutError where the limit is over, LinkLost where nothing answers at all."""
        return self._admitted(limit, limit.at_most(WAIT_S))

    def _admitted(self, limit: Limit, wait_s: float) -> Channel:
        def opening() -> Channel:
            return self._transport.open("session", timeout_s=limit.at_most(OPEN_TIMEOUT_S))

        try:
            return self._sessions.admit(opening, wait_s)
        except TimeoutError as exc:
            if limit.over:
                raise
            raise self._transport.lost(str(exc)) from exc

    def _dial(self, where: str, kind: str, *fields: str | int) -> RemoteStream:
        try:
            return RemoteStream(self._transport.open(kind, *fields, timeout_s=DIAL_TIMEOUT_S))
        except ChannelRefused as exc:
            refused = ForwardingForbidden if exc.code == PROHIBITED else TunnelError
            raise refused(f"{self.name}: {where} refused: {exc}") from exc
        except TimeoutError as exc:
            raise TunnelError(f"{self.name}: {where} does not answer") from exc

    def _root_already(self) -> bool:
        if self._is_root is None:
            self._is_root = self.run(["id", "-u"]).text.strip() == "0"
        return self._is_root

    def _finish(
        self,
        process: RemoteProcess,
        stdin: bytes,
        limit: Limit,
        check: bool,
        on_stdout: Chunk | None,
        on_stderr: Chunk | None,
    ) -> Result:
        """Feed stdin, gather both outputs, wait."""
        try:
            out = self._exchange(process, stdin, limit.deadline, on_stdout, on_stderr)
            code = process.wait(limit.left)
        except TimeoutError as exc:
            self._end(process)
            raise self._too_late(process.argv[0], limit) from exc
        finally:
            process.close()
        if not process.started:
            raise process.no_shell()
        result = Result(process.argv, code, *out)
        if check and not result.ok:
            raise _failed(self.name, result, by_root=process.by_root)
        return result

    def _too_late(self, program: str, limit: Limit) -> RemoteTimeout:
        return RemoteTimeout(f"{self.name}: {program} did not end in {limit.timeout_s:g} s")

    def _exchange(
        self,
        process: RemoteProcess,
        stdin: bytes,
        deadline: float | None,
        on_stdout: Chunk | None,
        on_stderr: Chunk | None,
    ) -> tuple[bytes, bytes]:
        """Feed stdin, and gather all of both outputs, as long as it is no more than any command of
        ours has to say.

        stdin goes out once the command runs: a start file that reads would take it away.
        """
        out, err = bytearray(), bytearray()
        fed = False
        while True:
            if not fed and (process.started or not stdin):
                fed = True
                _feed(process, stdin)
            if (came := process.recv_any(deadline)) is None:
                break
            for data, kept, told in ((came[0], out, on_stdout), (came[1], err, on_stderr)):
                kept += data
                if data and told is not None:
                    told(data)
            if len(out) + len(err) > MOST_OUTPUT:
                self._end(process)
                raise SshError(
                    f"{self.name}: {process.argv[0]} printed more than {MOST_OUTPUT >> 20} MB "
                    "and was ended"
                )
        return bytes(out), bytes(err)

    def _end(self, process: RemoteProcess) -> None:
        """TERM, and KILL a second later. By a command: sshd sends signals to few processes.

        A host that starts no more commands is not waited for.
        """
        if process.pid is None:
            return
        argv = ["sh", "-c", KILL, "kill", str(process.pid)]
        thread = threading.Thread(
            target=self._kill, args=(argv, process.by_root), name="remotedl-kill", daemon=True
        )
        thread.start()
        thread.join(KILL_LIMIT_S)

    def _kill(self, argv: Sequence[str], by_root: bool) -> None:
        try:
            killer = self._start(argv, Limit(None), sudo=by_root, env=None, cwd=None, pty=None)
            try:
                killer.wait(OPEN_TIMEOUT_S)
            finally:
                killer.close()
        except SshError:
            pass


def _feed(process: RemoteProcess, stdin: bytes) -> None:
    """What fits into sshd's window goes at once; more needs a thread, lest both sides wait."""
    if len(stdin) <= process.room:
        _write(process, stdin)
    else:
        threading.Thread(
            target=_write, args=(process, stdin), name="remotedl-stdin", daemon=True
        ).start()


def _write(process: RemoteProcess, stdin: bytes) -> None:
    """A command that stops reading, or ends first, has said all with its status."""
    try:
        process.sendall(stdin)
        process.shutdown_write()
    except LinkLost:
        pass


def _failed(host: str, result: Result, *, by_root: bool) -> RemoteCommandFailed:
    said = (result.error_text.strip() or result.text.strip()).splitlines()
    shown = " / ".join(said[-3:]) if said else "it printed nothing"
    return RemoteCommandFailed(
        f"{host}: {result.argv[0]} ended with status {result.code}: {shown}",
        hint=f"ssh {host} {_typed(result.argv, by_root=by_root)}".rstrip(),
    )


def _typed(argv: Sequence[str], *, by_root: bool) -> str:
    """A command as it is typed behind `ssh HOST`, which has it read by two shells; "" for what
    nobody would type."""
    line = shlex.join((["sudo"] if by_root else []) + list(argv))
    if "\n" in line or len(line) > LONGEST_HINT:
        return ""
    plain = line == " ".join(argv) and not by_root
    return line if plain else shlex.quote(line)


def _not_an_option(path: str) -> str:
    return path if path.startswith("/") else posixpath.join(".", path)


def _once(action: Callable[[], None]) -> Callable[[], None]:
    lock = threading.Lock()
    done: list[Any] = []

    def act() -> None:
        with lock:
            if done:
                return
            done.append(True)
        action()

    return act
