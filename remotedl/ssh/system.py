"""The system's own ssh, where there is one, for forwarded connections: the fast lane.

Measured over OpenSSH on loopback, Python's SSH takes twice the time of `ssh -L` for an echo and
three times for a new connection, most of it threads that wake each other; see
benchmarks/tunnel_throughput.py. So a second login is made by OpenSSH's client, for nothing but
forwarding, with what the first one has shown to work: the same way, the same key, and known_hosts
that hold the very keys that the first login checked, and no others. It asks nobody anything: where
a password or a passphrase was typed, or anything else is not as it should be, there is no fast
lane, and the connection does without. POSIX only; ssh on Windows cannot multiplex.
"""

from __future__ import annotations

import base64
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from remotedl.errors import LinkLost
from remotedl.ssh.known_hosts import Key
from remotedl.ssh.mux import Master, NoForward, SocketStream
from remotedl.ssh.route import Hop

START_LIMIT_S = 30.0
LOOK_MS = 20
DESCRIPTORS = 16384
"""A connection takes two of ours and one of ssh's; 1024 in all would be few."""
RSA = "ssh-rsa"
RSA_SIGNATURES = "rsa-sha2-512,rsa-sha2-256"
# ssh ends when this shell's stdin does, so also when we are killed.
WATCHED = '"$@" & p=$!; exec 2>&-; read -r _; kill "$p" 2>/dev/null; wait "$p"'


class FastLane:
    """One run of the system's ssh. Starts by itself in the background; `dial` when `ready`."""

    def __init__(
        self, hops: Sequence[Hop], keys: Sequence[Key], key_files: Sequence[Path | None]
    ) -> None:
        """`keys` are the hosts' as the first login met them, `key_files` those that let us in."""
        self.trouble = ""
        """Why there is no fast lane (any more)."""
        self._master: Master | None = None
        self._met: set[tuple[str, int]] = set()
        self._wake, self._waker = socket.socketpair()
        self._hops, self._keys, self._key_files = hops, keys, key_files
        self._thread = threading.Thread(target=self._run, name="remotedl-fast-lane", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        return self._master is not None and self._master.alive

    def dial(self, address: str, port: int) -> SocketStream | None:
        """None where it cannot be done here, or it is not known yet that the target answers.

        ssh does not say why a target refuses. So the first dial to each goes the slow way, which
        does, and only targets that were `met` are dialled here.
        """
        master = self._master
        if master is None or (address, port) not in self._met:
            return None
        try:
            return master.dial(address, port)
        except (NoForward, LinkLost):
            return None

    def meet(self, address: str, port: int) -> None:
        """The target has accepted a connection that went the slow way."""
        self._met.add((address, port))

    def close(self) -> None:
        """End ssh and every connection over it. Idempotent."""
        self._waker.close()
        self._thread.join(10)

    def _run(self) -> None:
        """The lane's whole life, in a thread of its own."""
        try:
            with tempfile.TemporaryDirectory(prefix="rdl-", ignore_cleanup_errors=True) as name:
                self._live(Path(name))
        except (OSError, ValueError) as exc:
            self.trouble = str(exc)
        finally:
            self._wake.close()

    def _live(self, folder: Path) -> None:
        control = folder / "c"
        argv = write_configuration(folder, control, self._hops, self._keys, self._key_files)
        ssh = subprocess.Popen(
            ["sh", "-c", WATCHED, "sh", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # our terminal's Ctrl-C is not for it
        )
        try:
            self._await_end(ssh, control)
        finally:
            master, self._master = self._master, None
            assert ssh.stdin is not None and ssh.stderr is not None
            ssh.stdin.close()
            try:
                ssh.wait(5)
            except subprocess.TimeoutExpired:
                ssh.kill()
                ssh.wait()
            ssh.stderr.close()
            if master is not None:
                master.close()

    def _await_end(self, ssh: subprocess.Popen[bytes], control: Path) -> None:
        """Until ssh ends, or we are closed, or it does not come up in time."""
        assert ssh.stderr is not None
        said = b""
        deadline = time.monotonic() + START_LIMIT_S
        os.set_blocking(ssh.stderr.fileno(), False)
        events = select.poll()
        for source in (ssh.stderr, self._wake):
            events.register(source, select.POLLIN)
        while self._meet(control) or time.monotonic() < deadline:
            ready = [fd for fd, _ in events.poll(LOOK_MS if self._master is None else None)]
            if self._wake.fileno() in ready:
                return
            if ready:
                part = ssh.stderr.read()
                if not part:
                    self.trouble = said.decode("utf-8", "replace").strip() or "ssh has ended"
                    return
                said = (said + part)[-4096:]
        self.trouble = "ssh did not log in in time"

    def _meet(self, control: Path) -> bool:
        if self._master is None and control.exists():
            try:
                self._master = Master(control)
            except OSError:
                pass  # it is just about to listen
        return self._master is not None


def possible(hops: Sequence[Hop]) -> bool:
    """Whether this laptop has an ssh that can do it, and the route needs nothing special."""
    return sys.platform != "win32" and shutil.which("ssh") is not None and bool(hops)


def raise_descriptor_limit() -> None:
    """Hundreds of connections need thousands of descriptors; the soft limit is ours to raise."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass


def write_configuration(
    folder: Path,
    control: Path,
    hops: Sequence[Hop],
    keys: Sequence[Key],
    key_files: Sequence[Path | None],
) -> list[str]:
    """An ssh_config and a known_hosts of the lane's own; the argv that uses them.

    Raises OSError; ValueError for a value that ssh_config cannot hold.
    """
    known = folder / "known_hosts"
    lines = []
    blocks = []
    for number, (hop, key, file) in enumerate(zip(hops, keys, key_files, strict=True)):
        lines.append(f"hop{number} {key.kind} {base64.b64encode(key.blob).decode('ascii')}\n")
        blocks.append(_block(number, hop, key, file, known))
    known.write_text("".join(lines), encoding="ascii")
    config = folder / "config"
    config.write_text("\n".join(blocks), encoding="utf-8")
    last = f"hop{len(hops) - 1}"
    return ["ssh", "-F", str(config), "-M", "-S", str(control).replace("%", "%%"), "-N", last]


def _block(number: int, hop: Hop, key: Key, file: Path | None, known: Path) -> str:
    settings = {
        "HostName": hop.address,
        "Port": str(hop.port),
        "User": hop.user,
        "HostKeyAlias": f"hop{number}",
        "UserKnownHostsFile": _path(known),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlgorithms": RSA_SIGNATURES if key.kind == RSA else key.kind,
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "IdentitiesOnly": "yes" if file is not None or hop.identities_only else "no",
        "ConnectTimeout": str(max(1, int(hop.connect_timeout_s))),
        "Ciphers": "^aes128-gcm@openssh.com,aes256-gcm@openssh.com",
        "Compression": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "ServerAliveInterval": "2",
        "ServerAliveCountMax": "3",
        "LogLevel": "ERROR",
    }
    files = (file,) if file is not None else hop.identity_files
    pairs = [*settings.items(), *(("IdentityFile", _path(one)) for one in files)]
    if hop.agent is not None:
        pairs.append(("IdentityAgent", hop.agent))
    if number:
        pairs.append(("ProxyJump", f"hop{number - 1}"))
    elif hop.proxy_command is not None:
        pairs.append(("ProxyCommand", hop.proxy_command.replace("%", "%%")))
    return f"Host hop{number}\n" + "".join(f"  {key} {_value(key, v)}\n" for key, v in pairs)


def _path(path: Path) -> str:
    return str(path).replace("%", "%%")


def _value(key: str, value: str) -> str:
    if "\n" in value or ('"' in value and key != "ProxyCommand"):
        raise ValueError(f"{key} cannot be written into an ssh_config")
    return value if key == "ProxyCommand" or " " not in value else f'"{value}"'
