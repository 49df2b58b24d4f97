"""Commands in a running container: attached (`start`, `run`) or on their own (`detach`).

An attached one is a hijacked connection: it ends when the link does, while the command itself
goes on in the container. Work that must be found again is detached (container/jobs.py).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self, TypeVar

from remotedl.engine.client import DialledClient, quoted, translated
from remotedl.engine.types import NOTHING, ExecResult, ExecState, Output
from remotedl.engine.wire import Hijacked
from remotedl.errors import EngineError

T = TypeVar("T")

CHUNK = 64 * 1024
SETTLE_S = 5.0
"""How long the engine may take to write down that a command has begun, or ended."""
STREAMS = {1: Output.STDOUT, 2: Output.STDERR}
MOST_OUTPUT = 32 * 1024 * 1024


class Execs:
    """`engine.execs`."""

    def __init__(self, connected: Callable[[], DialledClient]) -> None:
        self._connected = connected

    def run(
        self,
        container: str,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        user: str = "",
        env: Mapping[str, str] = NOTHING,
        workdir: str = "",
    ) -> ExecResult:
        """Run to the end. `input` is written before the output is read: keep it short."""
        stream = self.start(container, argv, stdin=bool(input), user=user, env=env, workdir=workdir)
        with stream:
            if input:
                stream.sendall(input)
                stream.end_input()
            output = {Output.STDOUT: bytearray(), Output.STDERR: bytearray()}
            for which, data in stream:
                output[which] += data
                if sum(map(len, output.values())) > MOST_OUTPUT:
                    raise EngineError(f"{argv[0]} printed more than {MOST_OUTPUT >> 20} MB")
        stdout, stderr = bytes(output[Output.STDOUT]), bytes(output[Output.STDERR])
        return ExecResult(stream.exit_code(), stdout, stderr)

    def start(
        self,
        container: str,
        argv: Sequence[str],
        *,
        stdin: bool = False,
        tty: tuple[int, int] | None = None,
        user: str = "",
        env: Mapping[str, str] = NOTHING,
        workdir: str = "",
    ) -> ExecStream:
        """Start a command and talk to it. `tty` is its terminal's (columns, rows)."""
        what = f"running {argv[0]} in container {container}"
        with translated(what):
            client = self._connected()
            exec_id = _create(
                client,
                container,
                {
                    "Cmd": list(argv),
                    "AttachStdin": stdin,
                    "AttachStdout": True,
                    "AttachStderr": True,
                    "Tty": tty is not None,
                }
                | _place(user, env, workdir),
            )
            connection = client.hijack(
                f"/exec/{exec_id}/start", {"Detach": False, "Tty": tty is not None}
            )
        stream = ExecStream(client, exec_id, connection, tty=tty is not None, what=what)
        if tty is not None:
            _until_settled(lambda: _resized(stream, *tty))
        return stream

    def detach(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str = "",
        env: Mapping[str, str] = NOTHING,
        workdir: str = "",
    ) -> str:
        """Start a command that nobody listens to; its exec id."""
        with translated(f"starting {argv[0]} in container {container}"):
            client = self._connected()
            exec_id = _create(client, container, {"Cmd": list(argv)} | _place(user, env, workdir))
            client.exec_start(exec_id, detach=True)
            return exec_id

    def state(self, exec_id: str) -> ExecState:
        """How an exec stands. The engine forgets it when its container ends: EngineError."""
        with translated("asking how a command stands"):
            return _state(self._connected(), exec_id)


class ExecStream:
    """A command that runs in a container, attached. Iterate over its output; close it."""

    def __init__(
        self, client: DialledClient, exec_id: str, connection: Hijacked, *, tty: bool, what: str
    ) -> None:
        self.id = exec_id
        self._client = client
        self._connection = connection
        self._tty = tty
        self._what = what
        self._left = 0
        self._which = Output.STDOUT

    def read(self) -> tuple[Output, bytes] | None:
        """The next piece of output, as soon as there is one; None at the end. Raises LinkLost."""
        with translated(self._what):
            if not self._tty and self._left == 0 and not self._next_frame():
                return None
            data = self._connection.recv(min(self._left, CHUNK) if not self._tty else CHUNK)
            if not data:
                return None
            self._left -= len(data) if not self._tty else 0
            return self._which, data

    def __iter__(self) -> Iterator[tuple[Output, bytes]]:
        while (piece := self.read()) is not None:
            yield piece

    def sendall(self, data: bytes) -> None:
        """To the command's stdin. Raises LinkLost; nothing is raised when the command has ended."""
        with translated(self._what):
            try:
                self._connection.sendall(data)
            except BrokenPipeError:
                pass  # its end is told by read() and exit_code()

    def end_input(self) -> None:
        with translated(self._what):
            self._connection.shutdown_write()

    def resize(self, columns: int, rows: int) -> None:
        """Of the terminal; nothing happens without one."""
        if self._tty:
            with translated(self._what):
                self._client.exec_resize(self.id, height=rows, width=columns)

    def exit_code(self) -> int:
        """After the output's end. Raises EngineError when the command still runs."""
        # Its connection first: as many commands as there are connections would else wait for each
        # other's, to ask this.
        self._connection.close()
        # The engine ends the stream a moment before it has written the code down.
        with translated(self._what):
            code = _until_settled(lambda: _state(self._client, self.id).code)
        if code is None:
            raise EngineError(f"{self._what}: it has closed its output, but has not ended")
        return code

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_frame(self) -> bool:
        while self._left == 0:
            header = self._connection.recv_exactly(8)
            if len(header) < 8:
                return False
            which, self._left = struct.unpack(">BxxxL", header)
            self._which = STREAMS.get(which, Output.STDOUT)
        return True


def _create(client: DialledClient, container: str, config: dict[str, object]) -> str:
    answer = client.call("POST", f"/containers/{quoted(container)}/exec", body=config)
    return str(answer.json()["Id"])


def _place(user: str, env: Mapping[str, str], workdir: str) -> dict[str, object]:
    """As whom, with what and where a command runs."""
    place: dict[str, object] = {"Env": [f"{name}={value}" for name, value in env.items()]}
    if user:
        place["User"] = user
    if workdir:
        place["WorkingDir"] = workdir
    return place


def _state(client: DialledClient, exec_id: str) -> ExecState:
    found = client.exec_inspect(exec_id)
    running = bool(found["Running"])
    return ExecState(
        running=running,
        code=None if running else found.get("ExitCode"),
        pid=int(found.get("Pid") or 0),
    )


def _resized(stream: ExecStream, columns: int, rows: int) -> bool | None:
    """None while the terminal is not there yet."""
    try:
        stream.resize(columns, rows)
    except EngineError:
        return None
    return True


def _until_settled(look: Callable[[], T | None]) -> T | None:
    """What `look` sees once it is there; None when it has not come in SETTLE_S seconds."""
    deadline = time.monotonic() + SETTLE_S
    while (seen := look()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return seen
