"""An SSH host inside this process, for `remotedl demo`: on loopback, for this user alone.

It speaks real SSH to the same client code that talks to real hosts: a throwaway host key, one
session key that may log in, commands (with a terminal where one is asked for), forwarded
connections. It is no general server: no passwords, no sudo, nothing but 127.0.0.1, and all of it
is gone after `stop`.
"""

from __future__ import annotations

import getpass
import hmac
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.message import Message

from remotedl.config.models import HostConfig, SudoMode
from remotedl.errors import LinkLost, SshError
from remotedl.ssh.channel import Channel, ChannelRefused
from remotedl.ssh.packets import Packetizer
from remotedl.ssh.transport import Transport

ADDRESS = "127.0.0.1"
CHUNK = 256 * 1024
CONNECT_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
CONNECT_FAILED = 2
UNKNOWN_TYPE = 3
# Makes the terminal that is stdin the controlling one of this (new) session, then runs the command.
ON_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])"""


@dataclass(frozen=True, slots=True)
class EmbeddedLogin:
    """How to get in."""

    host: HostConfig
    key: Path
    known_hosts: Path


class EmbeddedHost:
    """The host. Commands run as this user, in `home` as their home folder."""

    def __init__(self, home: Path, *, shell: str = "/bin/sh", keys: Path | None = None) -> None:
        """`keys`: where a folder for the keys is made, instead of the system's for such things."""
        self._keys = keys
        self._home = home
        self._shell = shell
        self._folder: Path | None = None
        self._listener: socket.socket | None = None
        self._listening: threading.Thread | None = None
        self._connections: set[_Served] = set()
        self._lock = threading.Lock()

    def start(self) -> EmbeddedLogin:
        """Listen on a free port of loopback. Raises SshError."""
        if os.name != "posix":
            raise SshError("the embedded host needs Linux or macOS", hint="remotedl up HOST")
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="remotedl-host-", dir=self._keys))
        host_key = _new_key(self._folder / "host_key")
        session_key = _new_key(self._folder / "session_key")
        self._listener = socket.create_server((ADDRESS, 0), backlog=64)
        port: int = self._listener.getsockname()[1]
        known_hosts = self._folder / "known_hosts"
        public = f"{host_key.get_name()} {host_key.get_base64()}"
        known_hosts.write_text(f"[{ADDRESS}]:{port} {public}\n", encoding="ascii")
        self._listening = threading.Thread(
            target=self._listen, args=(host_key, session_key), name="remotedl-host", daemon=True
        )
        self._listening.start()
        host = HostConfig(
            address=ADDRESS,
            port=port,
            user=getpass.getuser(),
            identity_file=str(self._folder / "session_key"),
            sudo=SudoMode.NONE,
        )
        return EmbeddedLogin(host, self._folder / "session_key", known_hosts)

    def stop(self) -> None:
        """End every connection and every command that still runs in one. Idempotent."""
        if self._listener is not None:
            try:
                self._listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # macOS wakes the accept by the close below
            self._listener.close()
        if self._listening is not None:
            self._listening.join(STOP_TIMEOUT_S)
        with self._lock:
            connections = list(self._connections)
        for served in connections:
            served.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> EmbeddedLogin:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _listen(self, host_key: paramiko.PKey, session_key: paramiko.PKey) -> None:
        assert self._listener is not None
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            served = _Served(sock, host_key, session_key, self._home, self._shell)
            with self._lock:
                self._connections = {one for one in self._connections if one.alive} | {served}


class _PatientPacketizer(Packetizer):
    """Leaves rekeying to the client: two that begin at once could wait for each other."""

    REKEY_BYTES = 1 << 62
    REKEY_BYTES_OVERFLOW_MAX = 1 << 62


class _Served:
    """One connection to the embedded host, and all that runs in it."""

    def __init__(
        self,
        sock: socket.socket,
        host_key: paramiko.PKey,
        session_key: paramiko.PKey,
        home: Path,
        shell: str,
    ) -> None:
        self._home = home
        self._shell = shell
        self._running: set[_Session] = set()
        self._lock = threading.Lock()
        self._transport = Transport(sock, packetizer_class=_PatientPacketizer)
        self._transport.add_server_key(host_key)
        self._transport.on_open = self._open
        self._transport.on_global = lambda kind, message: None
        self._transport.start_server(event=threading.Event(), server=_Door(session_key))

    @property
    def alive(self) -> bool:
        return self._transport.is_alive()

    def close(self) -> None:
        with self._lock:
            running = list(self._running)
        for session in running:
            session.kill()
        self._transport.close()
        for session in running:
            session.join(STOP_TIMEOUT_S)

    def _open(self, kind: str, message: Message, channel: Channel) -> Callable[[], None]:
        if kind == "session":
            session = _Session(channel, self._home, self._shell, self._forget)
            with self._lock:
                self._running.add(session)
            channel.on_request = session.on_request
            return lambda: None
        if kind == "direct-tcpip":
            end = _connect_tcp(message.get_text(), message.get_int())
        elif kind == "direct-streamlocal@openssh.com":
            end = _connect_unix(message.get_text())
        else:
            raise ChannelRefused(UNKNOWN_TYPE, f"no channels of kind {kind} here")
        return lambda: _splice(channel, end)

    def _forget(self, session: _Session) -> None:
        with self._lock:
            self._running.discard(session)


class _Door(paramiko.ServerInterface):
    """Lets in the one session key, as the one user."""

    def __init__(self, session_key: paramiko.PKey) -> None:
        self._key = session_key.asbytes()
        self._user = getpass.getuser()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        ours = hmac.compare_digest(key.asbytes(), self._key)
        if ours and username == self._user:
            return int(paramiko.common.AUTH_SUCCESSFUL)
        return int(paramiko.common.AUTH_FAILED)


class _Session:
    """A session channel: at most one command, on pipes or on a terminal."""

    def __init__(
        self, channel: Channel, home: Path, shell: str, forget: Callable[[_Session], None]
    ) -> None:
        self._channel = channel
        self._home = home
        self._shell = shell
        self._forget = forget
        self._term: str | None = None
        self._size = (80, 24)
        self._terminal: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []

    def on_request(self, channel: Channel, kind: str, message: Message) -> bool:
        """Called on the transport's thread."""
        if kind == "pty-req":
            self._term = message.get_text()
            self._size = (message.get_int(), message.get_int())
            return True
        if kind == "window-change" and self._terminal is not None:
            self._size = (message.get_int(), message.get_int())
            _resize(self._terminal, *self._size)
            return True
        if kind == "signal" and self._process is not None:
            return self._signal(message.get_text())
        if kind in ("exec", "shell") and self._process is None:
            command = message.get_string() if kind == "exec" else None
            return self._run(command)
        return False

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()

    def join(self, timeout_s: float) -> None:
        for thread in self._threads:
            thread.join(timeout_s)

    def _run(self, command: bytes | None) -> bool:
        argv = [self._shell, "-l"] if command is None else [self._shell, "-c", os.fsdecode(command)]
        try:
            ends = self._spawn(argv)
        except OSError:
            return False
        pumps = [self._thread(_pump_out, self._channel, ends[1], False)]
        if ends[2] is not None:
            pumps.append(self._thread(_pump_out, self._channel, ends[2], True))
        self._thread(_pump_in, self._channel, ends[0])
        self._thread(self._reap, pumps, ends)
        for thread in self._threads:
            thread.start()
        return True

    def _spawn(self, argv: list[str]) -> tuple[int, int, int | None]:
        """Start the process; the descriptors of its stdin, stdout, stderr (None: as stdout)."""
        environment = {**os.environ, "HOME": str(self._home), "SHELL": self._shell}
        for name in ("SSH_AUTH_SOCK", "SSH_CONNECTION", "SSH_TTY"):
            environment.pop(name, None)
        options: dict[str, Any] = {"cwd": self._home, "start_new_session": True, "bufsize": 0}
        if self._term is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, **options
            )
            process = self._process
            assert process.stdin and process.stdout and process.stderr
            ends = tuple(
                os.dup(end.fileno()) for end in (process.stdin, process.stdout, process.stderr)
            )
            for end in (process.stdin, process.stdout, process.stderr):
                end.close()
            return ends[0], ends[1], ends[2]
        self._terminal, inner = os.openpty()
        _resize(self._terminal, *self._size)
        environment["TERM"] = self._term
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", ON_TERMINAL, *argv],
                stdin=inner, stdout=inner, stderr=inner, env=environment, **options,
            )  # fmt: skip
        finally:
            os.close(inner)
        return os.dup(self._terminal), self._terminal, None

    def _reap(self, pumps: list[threading.Thread], ends: tuple[int, int, int | None]) -> None:
        """The end of the command: its status at once, the close when its output is through."""
        assert self._process is not None
        code = self._process.wait()
        try:
            if code >= 0:
                self._channel.request("exit-status", code, reply=False)
            else:
                name = signal.Signals(-code).name.removeprefix("SIG")
                self._channel.request("exit-signal", name, b"\0", "", "", reply=False)
            for pump in pumps:
                pump.join()
            self._channel.shutdown_write()
        except LinkLost:
            pass
        finally:
            self._terminal = None
            _close_quietly(self._channel)
            self._forget(self)

    def _signal(self, name: str) -> bool:
        assert self._process is not None
        number = getattr(signal, f"SIG{name}", None)
        if number is None or self._process.poll() is not None:
            return False
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _thread(self, work: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, name="remotedl-host-io", daemon=True)
        self._threads.append(thread)
        return thread


def _pump_out(channel: Channel, end: int, stderr: bool) -> None:
    """From a pipe or terminal into the channel."""
    try:
        while data := _read(end):
            channel.sendall(data, stderr=stderr)
    except LinkLost:
        pass  # the client has gone; the command meets a closed pipe
    finally:
        os.close(end)


def _pump_in(channel: Channel, end: int) -> None:
    """From the channel into a pipe or terminal. A command that reads no more is let be."""
    wanted = True
    try:
        while data := channel.recv(CHUNK):
            view = memoryview(data)
            while wanted and view:
                try:
                    view = view[os.write(end, view) :]
                except OSError:
                    wanted = False
    except LinkLost:
        pass
    finally:
        os.close(end)


def _splice(channel: Channel, end: socket.socket) -> None:
    """A connection and a channel, both ways, each half closed when the other is."""
    back = threading.Thread(target=_from_socket, args=(channel, end), daemon=True)
    back.start()
    try:
        while data := channel.recv(CHUNK):
            end.sendall(data)
        end.shutdown(socket.SHUT_WR)
    except (OSError, LinkLost):
        _shutdown_quietly(end)
    back.join()
    end.close()
    _close_quietly(channel)


def _from_socket(channel: Channel, end: socket.socket) -> None:
    try:
        while data := end.recv(CHUNK):
            channel.sendall(data)
    except OSError:
        _close_quietly(channel)
    except LinkLost:
        _shutdown_quietly(end)
    else:
        try:
            channel.shutdown_write()
        except LinkLost:
            pass


def _connect_tcp(address: str, port: int) -> socket.socket:
    try:
        end = socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_S)
    except OSError as exc:
        raise ChannelRefused(CONNECT_FAILED, exc.strerror or str(exc)) from exc
    end.settimeout(None)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return end


def _connect_unix(path: str) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.connect(path)
    except OSError as exc:
        end.close()
        raise ChannelRefused(CONNECT_FAILED, exc.strerror or str(exc)) from exc
    return end


def _new_key(path: Path) -> paramiko.PKey:
    """A fresh ed25519 key, written to `path` for its owner alone."""
    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    return paramiko.PKey.from_path(path)


def _resize(terminal: int, columns: int, rows: int) -> None:
    import fcntl
    import termios

    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    except OSError:
        pass  # the command has ended meanwhile


def _read(end: int) -> bytes:
    try:
        return os.read(end, CHUNK)
    except OSError:  # EIO: the last process on the terminal has gone
        return b""


def _close_quietly(channel: Channel) -> None:
    try:
        channel.close()
    except LinkLost:
        pass


def _shutdown_quietly(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
