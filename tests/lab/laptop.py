"""A laptop: a home, a project folder, and the real `remotedl` command run in them.

Each has its own HOME and state, so that nothing of whoever runs the tests is read or written.
"""

from __future__ import annotations

import codecs
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

from tests.lab.login import Login

CHECKOUT = Path(__file__).parents[2]
EVERYWHERE = ("0.0.0.0/0", "::/0")
PLAIN = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Laptop:
    """Where the commands are typed. `folder` is the project."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.folder = root / "project"
        self.home.mkdir(parents=True)
        self.folder.mkdir()
        self._started: list[Command] = []

    def know(self, name: str, login: Login, **settings: object) -> None:
        """Write the host into hosts.toml and its key into ~/.ssh/known_hosts.

        `settings` are further keys of the host's table; dicts become tables of their own.
        """
        folder = self.home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        with (folder / "known_hosts").open("a", encoding="ascii") as known:
            known.write(login.known_hosts.read_text(encoding="ascii"))
        own = self.home / ".config" / "remotedl" / "hosts.toml"
        own.parent.mkdir(parents=True, exist_ok=True)
        # Keys lie beside the hosts, and package mirrors in networks of this machine.
        allowed = f'allow_files = ["/"]\nallow_lan = {list(EVERYWHERE)}\n'
        own.write_text(allowed, encoding="utf-8")
        table: dict[str, object] = {
            "address": login.address,
            "port": login.port,
            "user": login.user,
            "identity_file": str(login.key),
            **settings,
        }
        path = self.folder / "hosts.toml"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(f"{_table(f'hosts.{name}', table)}\n{before}", encoding="utf-8")

    def settings(self, **tables: dict[str, object]) -> None:
        """Add tables to hosts.toml: `settings(project={"image": "base"})`."""
        with (self.folder / "hosts.toml").open("a", encoding="utf-8") as file:
            for name, table in tables.items():
                file.write("\n" + _table(name, table))

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("REMOTEDL_", "XDG_", "SSH_")) or name == "REMOTEDL_LAB_CACHE"
        }
        ours = {"HOME": str(self.home), "PYTHONPATH": str(CHECKOUT)}
        return {**kept, **ours, "BROWSER": "true", "COLUMNS": "160"}

    def start(
        self, *argv: str, env: dict[str, str] | None = None, terminal: bool = False
    ) -> Command:
        """`remotedl ARGV…` in the project folder, running; on a terminal of its own if asked."""
        world = {**self.environment, **(env or {})}
        command = Command(argv, self.folder, world, terminal=terminal)
        self._started.append(command)
        return command

    def run(self, *argv: str, timeout_s: float = 60, check: bool = True) -> Command:
        """`remotedl ARGV…` to its end. With `check`, a status other than 0 fails the test."""
        command = self.start(*argv)
        code = command.wait(timeout_s)
        said = f"remotedl {' '.join(argv)} ended with {code}:\n{command.text}"
        assert code == 0 or not check, said
        return command

    def close(self) -> None:
        """End what still runs, sessions in the background included."""
        for command in self._started:
            command.kill()


class Command:
    """One run of the command; both outputs are gathered as they come."""

    def __init__(
        self, argv: tuple[str, ...], folder: Path, env: dict[str, str], *, terminal: bool = False
    ) -> None:
        """On a terminal, stdout and stderr are one and come as `stdout`."""
        self.argv = argv
        self._out: list[str] = []
        self._err: list[str] = []
        self._changed = threading.Condition()
        self._terminal, inner = os.openpty() if terminal else (-1, -1)
        if terminal:
            termios.tcsetwinsize(self._terminal, (40, 160))
            env = {**env, "TERM": "xterm-256color"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "remotedl", *argv],
            cwd=folder,
            env=env,
            stdin=inner if terminal else subprocess.DEVNULL,
            stdout=inner if terminal else subprocess.PIPE,
            stderr=inner if terminal else subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self._process.pid
        if terminal:
            os.close(inner)
            pairs = [(self._terminal, self._out)]
        else:
            assert self._process.stdout is not None and self._process.stderr is not None
            pairs = [(self._process.stdout.fileno(), self._out)]
            pairs.append((self._process.stderr.fileno(), self._err))
        self._threads = [
            threading.Thread(target=self._gather, args=pair, daemon=True) for pair in pairs
        ]
        for thread in self._threads:
            thread.start()

    @property
    def stdout(self) -> str:
        return PLAIN.sub("", "".join(self._out))

    @property
    def stderr(self) -> str:
        return PLAIN.sub("", "".join(self._err))

    @property
    def text(self) -> str:
        """Everything it said."""
        return self.stdout + self.stderr

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def wait_for(self, pattern: str, timeout_s: float = 60) -> re.Match[str]:
        """The first match in what it says. Fails when it ends or the time is up without one."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (match := re.search(pattern, self.text)) is None:
                left = deadline - time.monotonic()
                ended = self.code is not None and not any(t.is_alive() for t in self._threads)
                assert left > 0 and not ended, (
                    f"remotedl {' '.join(self.argv)} never said {pattern!r} "
                    f"(status {self.code}):\n{self.text}"
                )
                self._changed.wait(min(left, 0.5))
        return match

    def wait(self, timeout_s: float = 60) -> int:
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            raise AssertionError(
                f"remotedl {' '.join(self.argv)} still runs after {timeout_s} s:\n{self.text}"
            ) from exc
        for thread in self._threads:
            thread.join(5)
        return code

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def freeze(self) -> None:
        """As a sleeping laptop: it does nothing, and nothing reaches it, until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, for it and what it started in its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(10)

    def type(self, text: str) -> None:
        """Type into its terminal."""
        os.write(self._terminal, text.encode())

    def _gather(self, descriptor: int, into: list[str]) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:  # EIO: nobody is on the terminal any more
                data = b""
            with self._changed:
                into.append(decode(data))
                self._changed.notify_all()
            if not data:
                return


def _table(name: str, values: dict[str, object]) -> str:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in plain.items()), ""]
    for key, value in values.items():
        if isinstance(value, dict):
            lines.append(_table(f"{name}.{key}", value))
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
