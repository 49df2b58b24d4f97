"""LocalRemote: the double of a `Remote`, over subprocesses on this machine.

It passes the same contract suite as `ssh/connection.py`. What it cannot show: anything about
the link (delays, windows, rekeys, login shells, quoting), since there is none.
"""

from __future__ import annotations

import getpass
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from remotedl.errors import LinkLost, RemoteCommandFailed, SudoRefused, TunnelError
from remotedl.ssh.remote import Chunk, Pty, Result

CHUNK = 64 * 1024
LOST = "the link to the local double was cut by the test"


class LocalRemote:
    """This machine as a host. `home` takes the place of the home directory where given."""

    def __init__(self, home: Path | None = None, *, name: str = "local") -> None:
        self._home = home or Path.home()
        self._name = name
        self._lost = threading.Event()
        self._closed = False
        self._streams: set[LocalProcess | LocalStream] = set()

    @property
    def name(self) -> str:
        return self._name

    @property
    def user(self) -> str:
        return getpass.getuser()

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
        process = self.start(argv, env=env, cwd=cwd)
        try:
            return _finish(process, argv, stdin, timeout_s, check, on_stdout, on_stderr)
        finally:
            process.close()

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
        self._need_root()
        return self.run(
            argv,
            stdin=stdin,
            env=env,
            cwd=cwd,
            timeout_s=timeout_s,
            check=check,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
        )

    def start(
        self,
        argv: Sequence[str],
        *,
        sudo: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> LocalProcess:
        self._need_link()
        if sudo:
            self._need_root()
        world = {**os.environ, "HOME": str(self._home), **(env or {})}
        process = LocalProcess(argv, world, cwd or str(self._home), pty, self._streams.discard)
        self._streams.add(process)
        return process

    def dial(self, address: str, port: int) -> LocalStream:
        self._need_link()
        try:
            return self._stream(socket.create_connection((address, port), timeout=10))
        except OSError as exc:
            raise TunnelError(f"{self.name}: {address}:{port} refused: {exc.strerror}") from exc

    def dial_unix(self, path: str) -> LocalStream:
        self._need_link()
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(path)
        except OSError as exc:
            end.close()
            raise TunnelError(f"{self.name}: {path} refused: {exc.strerror}") from exc
        return self._stream(end)

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        self._need_link()
        target = self._home / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
        temporary.write_bytes(data)
        temporary.chmod(mode)
        temporary.replace(target)

    def ping(self, deadline_s: float) -> float:
        self._need_link()
        return 0.0

    @property
    def alive(self) -> bool:
        return not self._closed and not self._lost.is_set()

    @property
    def stranded(self) -> bool:
        return False

    def close(self) -> None:
        self._closed = True
        for stream in list(self._streams):
            stream.close()

    def lose_link(self) -> None:
        """What a test does to it: every stream breaks, and every later call raises LinkLost."""
        self._lost.set()
        for stream in list(self._streams):
            stream.lose()

    def _stream(self, end: socket.socket) -> LocalStream:
        end.settimeout(None)
        stream = LocalStream(end, self._streams.discard)
        self._streams.add(stream)
        return stream

    def _need_link(self) -> None:
        if not self.alive:
            raise LinkLost(LOST)

    def _need_root(self) -> None:
        if os.name != "posix" or os.geteuid() != 0:
            raise SudoRefused("the local double has no sudo: run the tests as root for this")


class LocalStream:
    """A socket as a Stream."""

    def __init__(self, end: socket.socket, on_close: Callable[[LocalStream], None]) -> None:
        self._end = end
        self._on_close = on_close
        self._lost = False
        self._closed = False

    def recv(self, size: int) -> bytes:
        try:
            data = self._end.recv(size)
        except OSError as exc:
            if self._closed and not self._lost:
                return b""
            raise LinkLost(LOST) from exc
        if not data and self._lost:
            raise LinkLost(LOST)
        return data

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._end.sendall(data)
        except OSError as exc:
            raise LinkLost(LOST) from exc

    def shutdown_write(self) -> None:
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._closed = True
        self._on_close(self)
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._end.close()

    def lose(self) -> None:
        self._lost = True
        self.close()


class LocalProcess:
    """A subprocess as a Process, in a process group of its own, on a pty where one is asked."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        pty: Pty | None,
        on_close: Callable[[LocalProcess], None],
    ) -> None:
        self._on_close = on_close
        self._lost = False
        self._terminal: int | None = None
        inner: int | None = None
        if pty is not None:
            self._terminal, inner = os.openpty()
            env = {**env, "TERM": pty.term}
            self.resize(pty.columns, pty.rows)
        pipe = subprocess.PIPE if inner is None else inner
        try:
            self._child = subprocess.Popen(
                ["setsid", "--ctty", "--wait", *argv] if inner is not None else list(argv),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=dict(env),
                cwd=cwd,
                bufsize=0,
                start_new_session=inner is None,
            )
        except OSError as exc:
            # As a shell on a host would say it: 127 not found, 126 found and not runnable.
            code = 127 if isinstance(exc, FileNotFoundError) else 126
            complaint = 'printf "%s\\n" "$2" >&2; exit "$1"'
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", complaint, "sh", str(code), f"{argv[0]}: {exc.strerror}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        finally:
            if inner is not None:
                os.close(inner)

    def recv(self, size: int) -> bytes:
        if self._terminal is not None:
            return self._check(_read_terminal(self._terminal, size))
        return self._check(_read(self._child.stdout, size))

    def recv_stderr(self, size: int) -> bytes:
        return self._check(_read(self._child.stderr, size))

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                if self._terminal is not None:
                    view = view[os.write(self._terminal, view) :]
                else:
                    assert self._child.stdin is not None
                    view = view[self._child.stdin.write(view) or 0 :]
        except (OSError, ValueError) as exc:
            raise LinkLost(LOST if self._lost else "the process reads no more") from exc

    def shutdown_write(self) -> None:
        if self._child.stdin is not None:
            try:
                self._child.stdin.close()
            except OSError:
                pass

    def wait(self, timeout_s: float | None = None) -> int:
        try:
            code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise TimeoutError(f"still running after {timeout_s:g} s") from exc
        if self._lost:
            raise LinkLost(LOST)
        return 128 - code if code < 0 else code

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None:
            import termios

            termios.tcsetwinsize(self._terminal, (rows, columns))

    def close(self) -> None:
        """As a host does when the channel closes: hang up, and kill what stays."""
        self._on_close(self)
        if self._child.poll() is None:
            self._signal(signal.SIGHUP)
            try:
                self._child.wait(1)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._child.wait()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def lose(self) -> None:
        self._lost = True
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._child.pid, number)
        except (ProcessLookupError, PermissionError):
            self._child.send_signal(number)

    def _check(self, data: bytes) -> bytes:
        if not data and self._lost:
            raise LinkLost(LOST)
        return data


def _finish(
    process: LocalProcess,
    argv: Sequence[str],
    stdin: bytes,
    timeout_s: float | None,
    check: bool,
    on_stdout: Chunk | None,
    on_stderr: Chunk | None,
) -> Result:
    """Feed stdin, gather both outputs, wait. Raises TimeoutError, RemoteCommandFailed."""
    out, err = bytearray(), bytearray()
    threads = [
        threading.Thread(target=_gather, args=(process.recv, out, on_stdout), daemon=True),
        threading.Thread(target=_gather, args=(process.recv_stderr, err, on_stderr), daemon=True),
        threading.Thread(target=_feed, args=(process, stdin), daemon=True),
    ]
    for thread in threads:
        thread.start()
    code = process.wait(timeout_s)
    for thread in threads[:2]:
        thread.join(5)
    result = Result(tuple(argv), code, bytes(out), bytes(err))
    if check and not result.ok:
        said = result.error_text.strip() or result.text.strip()
        raise RemoteCommandFailed(f"{argv[0]} ended with status {code}: {said}")
    return result


def _gather(recv: Callable[[int], bytes], into: bytearray, told: Chunk | None) -> None:
    try:
        while data := recv(CHUNK):
            into += data
            if told is not None:
                told(data)
    except LinkLost:
        pass


def _feed(process: LocalProcess, stdin: bytes) -> None:
    try:
        process.sendall(stdin)
    except LinkLost:
        pass
    process.shutdown_write()


def _read(pipe: object, size: int) -> bytes:
    try:
        return pipe.read(size) or b""  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return b""


def _read_terminal(terminal: int, size: int) -> bytes:
    try:
        select.select([terminal], [], [])
        return os.read(terminal, size)
    except (OSError, ValueError):  # EIO: the last process on the terminal has gone
        return b""
