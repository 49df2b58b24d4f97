"""A command on the host and a forwarded connection: the Process and Stream of `remote.py`.

Both are thin: the channel does the work. The process also finds where the command's own output
begins (`marks.py`) and what its end means.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from remotedl.errors import LinkLost, RemoteTimeout, SshError
from remotedl.ssh.channel import Channel
from remotedl.ssh.marks import StartFinder
from remotedl.ssh.remote import Pty

CHUNK = 256 * 1024
LOOK_S = 2.0
START_LIMIT_S = 20.0
"""How long a login shell may take until it runs what it was asked for."""
ASKING_LIMIT_S = 300.0
SHOWN_NOISE = 300
SIGNALS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
    "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "XCPU": 24, "XFSZ": 25,
}  # fmt: skip


class RemoteStream:
    """A channel as a Stream."""

    def __init__(self, channel: Channel, on_close: Callable[[], None] = lambda: None) -> None:
        self._channel = channel
        self._on_close = on_close

    @property
    def room(self) -> int:
        """How much can be sent without waiting for the other side."""
        return self._channel.room

    def recv(self, size: int) -> bytes:
        return self._channel.recv(size)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        self._channel.sendall(data)

    def shutdown_write(self) -> None:
        self._channel.shutdown_write()

    def close(self) -> None:
        try:
            self._channel.close()
        except LinkLost:
            pass
        self._on_close()

    def __del__(self) -> None:
        self.close()


class RemoteProcess(RemoteStream):
    """A channel on which a command runs."""

    def __init__(
        self,
        channel: Channel,
        argv: Sequence[str],
        pty: Pty | None,
        by_root: bool,
        on_close: Callable[[], None],
    ) -> None:
        super().__init__(channel, on_close)
        self.argv = tuple(argv)
        self.by_root = by_root
        """Whether it runs under sudo."""
        self._pty = pty
        self._out = StartFinder()
        self._err = StartFinder()
        self._ahead = b""
        self._begin_by = None if by_root else time.monotonic() + START_LIMIT_S
        self._reading = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process id on the host, once some output has been read."""
        return self._out.pid or self._err.pid

    @property
    def started(self) -> bool:
        return self._out.started or self._err.started

    @property
    def prompts(self) -> int:
        """How often sudo has asked for a password."""
        return self._out.prompts + self._err.prompts

    @property
    def noise(self) -> str:
        """What the host said before the command began: a banner, or why it did not begin."""
        said = self._err.noise + b"\n" + self._out.noise
        return said.decode("utf-8", "replace").strip()

    def recv(self, size: int) -> bytes:
        if self._out.started and not self._ahead:
            return self._channel.recv(size)
        with self._reading:
            while not self._ahead:
                try:
                    want = size if self._out.started else CHUNK
                    data = self._channel.recv(want, self._start_deadline())
                except TimeoutError:
                    raise self.no_shell() from None
                if not data:
                    return b""
                self._ahead = self._fed(self._out, data)
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data

    def recv_stderr(self, size: int) -> bytes:
        while data := self._channel.recv_stderr(size):
            if own := self._fed(self._err, data):
                return own
        return b""

    def recv_any(self, deadline: float | None) -> tuple[bytes, bytes] | None:
        """Output as it comes, stdout and stderr; None at the end. Raises TimeoutError, LinkLost."""
        ahead, self._ahead = self._ahead, b""
        if ahead:
            return ahead, b""
        begin_by = self._start_deadline()
        first = deadline if begin_by is None else min(begin_by, deadline or begin_by)
        try:
            out, err = self._channel.recv_any(CHUNK, first)
        except TimeoutError:
            if first == deadline:
                raise
            raise self.no_shell() from None
        if not out and not err:
            return None
        return self._fed(self._out, out), self._fed(self._err, err)

    def wait_start(self, on_prompt: Callable[[int], str | None], limit_s: float) -> bool:
        """Until the command proper begins, answering sudo; False when it never does.

        `on_prompt` gets the number of the question (from 1) and gives a password, or None. Raises
        TimeoutError when neither the command nor a question comes for `limit_s`.
        """
        answered = 0
        silent_s = 0.0
        asked = time.monotonic()
        while not self.started:
            if time.monotonic() - asked > ASKING_LIMIT_S:
                raise TimeoutError
            try:
                out, err = self._channel.recv_any(CHUNK, time.monotonic() + LOOK_S)
            except TimeoutError:
                silent_s += LOOK_S
                if silent_s >= limit_s:
                    raise
                self._err.take_for_prompt()
            else:
                if not out and not err:
                    return False
                silent_s = 0.0
                self._ahead += self._fed(self._out, out)
                self._fed(self._err, err)
            if self.prompts > answered and not self.started:
                answered = self.prompts
                password = on_prompt(answered)
                if password is None:
                    return False
                self._channel.sendall(password.encode("utf-8") + b"\n")
                asked = time.monotonic()
        return True

    def wait(self, timeout_s: float | None = None) -> int:
        try:
            self._channel.wait_end(None if timeout_s is None else time.monotonic() + timeout_s)
        except TimeoutError as exc:
            raise RemoteTimeout(f"{self.argv[0]} still runs after {timeout_s:g} s") from exc
        if self._channel.exit_signal is not None:
            return 128 + SIGNALS.get(self._channel.exit_signal.split("@")[0], 127)
        if self._channel.exit_status is not None:
            return self._channel.exit_status
        if self._channel.request_refused:
            raise SshError(f"the host refuses to run a command ({self.argv[0]})")
        raise self._channel.lost_while(self.argv[0])

    def resize(self, columns: int, rows: int) -> None:
        if self._pty is not None:
            self._channel.request("window-change", columns, rows, 0, 0, reply=False)

    def no_shell(self, why: str = "") -> SshError:
        """The error for a login shell that does not run what it is asked for."""
        if not why and self._begin_by is not None and time.monotonic() >= self._begin_by:
            why = f"has not begun to run {self.argv[0]} after {START_LIMIT_S:g} s"
        said = self.noise[-SHOWN_NOISE:] or "nothing"
        host = self._channel.peer
        return SshError(
            f"{host}: the login shell {why or 'runs no commands'}; it says: {said}",
            hint=f"ssh {host} true; mend what its start files (.bashrc, .profile) do there",
        )

    def _start_deadline(self) -> float | None:
        return None if self.started else self._begin_by

    def _fed(self, finder: StartFinder, data: bytes) -> bytes:
        own = finder.feed(data)
        if finder.endless:
            raise self.no_shell("prints without end")
        return own
