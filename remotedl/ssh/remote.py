"""What every room may ask of a host: the one door, seen from inside the house.

`Remote` is the contract; `ssh/connection.py` fulfils it over SSH and the tests' `LocalRemote`
over subprocesses, and both pass tests/contract/test_remote.py. Commands are argv lists and are
quoted in one place (`ssh/quoting.py`), for whatever login shell the user has (sh, fish, tcsh).
No policy lives here: this file holds types only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from remotedl.errors import SshError

Chunk = Callable[[bytes], None]
LONGEST_LINE = 64 << 10


@dataclass(frozen=True, slots=True)
class Result:
    """How a command on the host ended. `code` is its exit status, 128 + n for signal n."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def text(self) -> str:
        """stdout as UTF-8; what cannot be decoded is replaced, never raised."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def error_text(self) -> str:
        return self.stderr.decode("utf-8", "replace")


class Stream(Protocol):
    """Bytes both ways: a forwarded connection, or a process's stdin and stdout."""

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; b"" at the end. Raises LinkLost."""
        ...

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """All of `data`; blocks while the other side's window is full. Raises LinkLost."""
        ...

    def shutdown_write(self) -> None:
        """Send end-of-file; reading goes on."""
        ...

    def close(self) -> None:
        """Idempotent; a blocked `recv` or `sendall` in another thread ends."""
        ...


class Process(Stream, Protocol):
    """A command that runs on the host; `recv` is its stdout, `sendall` its stdin."""

    def recv_stderr(self, size: int) -> bytes: ...

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit status (128 + n for signal n). Raises RemoteTimeout, LinkLost."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """Tell a pty its new size; nothing happens without one."""
        ...


@dataclass(frozen=True, slots=True)
class Pty:
    """A terminal for a process: its TERM and its size in characters."""

    term: str
    columns: int
    rows: int


class Remote(Protocol):
    """A host that commands can be run on. Every call may raise LinkLost."""

    @property
    def name(self) -> str:
        """What the user calls the host; for messages."""
        ...

    @property
    def user(self) -> str:
        """The login name on the host."""
        ...

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
        """Run to the end. With `check`, a status other than 0 raises RemoteCommandFailed.

        `on_stdout`/`on_stderr` get chunks as they come (the Result holds all of it as well).
        Raises RemoteTimeout after `timeout_s`, the process then being ended.
        """
        ...

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
        """As `run`, as root. The password is asked for once and passed on stdin only.

        As root already, no sudo is needed and none is called. Raises SudoRefused.
        """
        ...

    def start(
        self,
        argv: Sequence[str],
        *,
        sudo: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> Process:
        """Start a command and talk to it."""
        ...

    def dial(self, address: str, port: int) -> Stream:
        """Connect to a TCP port as seen from the host. Raises TunnelError when refused."""
        ...

    def dial_unix(self, path: str) -> Stream:
        """Connect to a unix socket on the host. Raises TunnelError when refused."""
        ...

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        """Write a file: to a temporary name beside it, then renamed. Parents are made (0700)."""
        ...

    def ping(self, deadline_s: float) -> float:
        """Round trip of the link in seconds. Raises LinkLost past the deadline."""
        ...

    @property
    def alive(self) -> bool: ...

    @property
    def stranded(self) -> bool:
        """Whether the laptop lost the address that the link goes out from."""
        ...

    def close(self) -> None: ...


def read_line(stream: Stream) -> bytes:
    """What a command says up to a newline, or to its end; nothing behind that is taken."""
    said = b""
    while not said.endswith(b"\n"):
        chunk = stream.recv(1)
        if not chunk:
            break
        said += chunk
        if len(said) > LONGEST_LINE:
            raise SshError("the host says a line without an end")
    return said
