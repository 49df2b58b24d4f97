"""A real OpenSSH sshd on 127.0.0.1, as the current user, with nothing but throwaway keys.

For everything that is about the link and needs no Docker. Logins land in a home of their own
(a temporary folder), so that nothing is written into the home of whoever runs the tests.
It never touches the machine's own sshd, its keys or its configuration.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.lab.login import Login

ADDRESS = "127.0.0.1"
START_LIMIT_S = 10.0

# sshd starts in the passwd home; this puts the login where HOME says, in the shell asked for.
# `internal-sftp` cannot be exec'd, so sftp runs the server program in its place.
LOGIN_SCRIPT = """\
#!/bin/sh
cd "$HOME" || exit 1
{noise}
case "$SSH_ORIGINAL_COMMAND" in
  "") exec {shell} -l ;;
  internal-sftp | */sftp-server) exec {sftp_server} ;;
  *) exec {shell} -c "$SSH_ORIGINAL_COMMAND" ;;
esac
"""
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server")

MakeSshd = Callable[..., "Sshd"]


class Sshd:
    """One sshd with its folder; `start` and `stop` may be called again and again."""

    def __init__(
        self,
        folder: Path,
        *,
        config: Sequence[str] = (),
        shell: str = "/bin/bash",
        noise: str = "",
        real_home: bool = False,
    ) -> None:
        """`config`: lines put before ours (sshd takes the first). `shell`: what runs commands.

        `noise`: text that every session prints on stdout first, as an echo in .bashrc does.
        `real_home`: no login script at all; commands run in the passwd home and shell.
        """
        self.folder = folder
        self.address = ADDRESS
        self.user = getpass.getuser()
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.key = _new_key(folder / "id_ed25519")
        self.host_key = _new_key(folder / "host_key")
        self.known_hosts = folder / "known_hosts"
        self.log = folder / "sshd.log"
        self._extra = tuple(config)
        if not real_home:
            self._extra += self._write_login_script(shell, noise)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def login(self) -> Login:
        return Login(self.address, self.port, self.user, self.key, self.known_hosts)

    @property
    def fingerprint(self) -> str:
        """Of the host key, as OpenSSH shows it: SHA256:…"""
        public = f"{self.host_key}.pub"
        return _output(["ssh-keygen", "-l", "-E", "sha256", "-f", public]).split()[1]

    def start(self) -> None:
        """Listen on the same port as before. Raises RuntimeError with sshd's log."""
        if self._process is not None:
            return
        config = self.folder / "sshd_config"
        config.write_text("\n".join(self._config_lines()) + "\n", encoding="utf-8")
        public = (self.folder / "host_key.pub").read_text(encoding="ascii")
        kind, key = public.split()[:2]
        self.known_hosts.write_text(f"{self.login.known_name} {kind} {key}\n", encoding="ascii")
        argv = [_sshd_program(), "-D", "-f", str(config), "-E", str(self.log)]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        self._wait_listening(self._process)

    def stop(self) -> None:
        """End the listener; open connections live on, as with a service restart."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill_connections(self) -> None:
        """kill -9 for every open connection and what runs in it; the listener lives on."""
        for process in self.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(self.processes(), timeout=5)

    def kill(self) -> None:
        """The host is gone: every connection and the listener die without a word."""
        processes = self.processes()
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(processes, timeout=5)

    def restart(self) -> None:
        self.kill()
        self.start()

    def new_host_key(self) -> None:
        """Restart under another key; `known_hosts` knows the new one, old copies do not."""
        self.kill()
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink()
        _new_key(self.host_key)
        self.start()

    def processes(self) -> list[psutil.Process]:
        """Everything that this sshd started and that still runs: connections, shells, commands."""
        if self._process is None:
            return []
        return psutil.Process(self._process.pid).children(recursive=True)

    def connections(self) -> int:
        """How many connections are open."""
        if self._process is None:
            return 0
        return len(psutil.Process(self._process.pid).children())

    def _config_lines(self) -> list[str]:
        return [
            *self._extra,
            f"ListenAddress {self.address}",
            f"Port {self.port}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.key}.pub",
            f"PidFile {self.folder / 'sshd.pid'}",
            "PermitRootLogin yes",
            "PubkeyAuthentication yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "PrintMotd no",
            "MaxStartups 100",
            "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp",
        ]

    def _write_login_script(self, shell: str, noise: str) -> tuple[str, ...]:
        script = self.folder / "login.sh"
        if noise:
            (self.folder / "noise").write_text(noise, encoding="utf-8")
            noise = f"cat '{self.folder / 'noise'}'"
        sftp_server = next((path for path in SFTP_SERVERS if Path(path).exists()), "false")
        text = LOGIN_SCRIPT.format(shell=shell, noise=noise, sftp_server=sftp_server)
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)
        return (f"ForceCommand {script}", f"SetEnv HOME={self.home} SHELL={shell}")

    def _wait_listening(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection((self.address, self.port), timeout=5) as probe:
                    if probe.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.02)
        log = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        process.kill()
        process.wait()
        self._process = None
        raise RuntimeError(f"sshd did not come up on {self.address}:{self.port}\n{log}")


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """The sshd that tests share. Don't stop or kill it: take `make_sshd` for that."""
    with _folder() as name:
        server = Sshd(Path(name))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def make_sshd() -> Iterator[MakeSshd]:
    """`make_sshd(config=["AllowTcpForwarding no"], shell="/usr/bin/fish", noise="hi\\n")`."""
    with _folder() as name:
        started: list[Sshd] = []

        def make(**options: object) -> Sshd:
            server = Sshd(Path(name) / str(len(started)), **options)  # type: ignore[arg-type]
            started.append(server)
            server.start()
            return server

        yield make
        for server in started:
            server.kill()


def _folder() -> tempfile.TemporaryDirectory[str]:
    # pytest's tmp_path is too long for a unix socket below it.
    return tempfile.TemporaryDirectory(prefix="remotedl-sshd-", ignore_cleanup_errors=True)


def _sshd_program() -> str:
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip("OpenSSH's sshd is not installed (openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation folder
    return found


def _new_key(path: Path) -> Path:
    _output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "remotedl-lab", "-f", str(path)])
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
