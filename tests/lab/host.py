"""A systemd host in a container: sshd, a cast of users, optionally Docker inside.

To the product it is a machine that it reaches over SSH. The tests look at it from outside
through `exec`, which goes through this machine's engine and not through SSH.
"""

from __future__ import annotations

import io
import socket
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import machine
from tests.lab.engine import docker, docker_ok, mounted_cgroup_v2
from tests.lab.images import Release, engine_image, host_image
from tests.lab.login import Login
from tests.lab.run import LabRun
from tests.lab.seeds import fill, seed_volume
from tests.lab.users import BY_NAME

BOOT_LIMIT_S = 120.0

# --privileged wants every capability the kernel knows, and not every machine has them all.
# ponytail: a machine that lacks one of these must drop it here.
CAPABILITIES = (
    "SYS_ADMIN", "NET_ADMIN", "SYS_TIME", "SYS_NICE", "SYS_BOOT", "SYS_TTY_CONFIG", "SYSLOG",
    "IPC_LOCK", "IPC_OWNER", "DAC_READ_SEARCH", "AUDIT_CONTROL", "AUDIT_READ", "MAC_ADMIN",
    "MAC_OVERRIDE", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "LINUX_IMMUTABLE", "LEASE",
    "NET_BROADCAST", "SYS_PACCT", "WAKE_ALARM", "BLOCK_SUSPEND",
)  # fmt: skip


@dataclass(frozen=True)
class HostOptions:
    """What kind of host; the default is a bare one."""

    release: Release = "bookworm"
    engine: bool = False
    """That Debian release's own Docker is installed and running."""
    standin: bool = True
    """The engine (now or once it is installed) already holds the stand-in base images."""
    seed: str = ""
    """Another seed than that one (tests/lab/seeds.py)."""
    engine_disk: str = ""
    """/var/lib/docker is a disk of this size ("600m"); it then holds no stand-in."""
    disk: str = ""
    """An existing volume to take as /var/lib/docker; the lab neither fills nor removes it."""
    config: tuple[str, ...] = ()
    """Lines put in front of sshd's own configuration."""
    mtu: int = 0
    """Its network card carries packets of this size at most (0: as the run's network), and what
    is larger is lost without a word, as behind a VPN or in a cloud's overlay network."""


class Host:
    """One host of a run. Made by the fixtures; `start` brings it up."""

    def __init__(self, run: LabRun, name: str, options: HostOptions) -> None:
        self.run = run
        self.name = name
        """Its name on the run's network: other lab hosts reach it by it."""
        self.options = options
        self.container = run.named(name)
        self.folder = run.folder / name
        self.folder.mkdir(exist_ok=True)
        self.host_key = self.folder / "host_key"
        self.known_hosts = self.folder / "known_hosts"
        self.address = ""

    @property
    def release(self) -> Release:
        return self.options.release

    @property
    def login(self) -> Login:
        """ada's: passwordless sudo, bash, nothing odd."""
        return self.login_as("ada")

    def login_as(self, user: str) -> Login:
        """One of the cast (tests/lab/users.py)."""
        password = BY_NAME[user].password
        return Login(self.address, 22, user, self.run.key, self.known_hosts, password)

    @property
    def fingerprint(self) -> str:
        """Of the host key, as OpenSSH shows it: SHA256:…"""
        argv = ["ssh-keygen", "-l", "-E", "sha256", "-f", f"{self.host_key}.pub"]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]

    def create(self) -> None:
        """Make the container and its disk and bring it up."""
        make = engine_image if self.options.engine else host_image
        docker("create", *self._create_options(), make(self.release))
        self.new_host_key()
        self.start()

    def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        user: str = "root",
        check: bool = True,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run on the host, not over SSH. Raises CalledProcessError with `check`."""
        done = subprocess.run(
            ["docker", "exec", "-i", "-u", user, self.container, *argv],
            input=stdin, capture_output=True, timeout=timeout_s,
        )  # fmt: skip
        text = subprocess.CompletedProcess(
            list(argv), done.returncode, done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )  # fmt: skip
        if check and done.returncode != 0:
            said = f"{text.stdout}\n{text.stderr}".strip()
            raise AssertionError(f"{self.name}: {list(argv)} ended with {done.returncode}: {said}")
        return text

    def sh(self, script: str, *, user: str = "root", timeout_s: float = 120) -> str:
        """The stdout of a shell script run on the host."""
        return self.exec(["sh", "-c", script], user=user, timeout_s=timeout_s).stdout

    def read(self, path: str) -> str:
        return self.exec(["cat", path]).stdout

    def write(self, path: str, text: str, *, mode: int = 0o644, owner: str = "root") -> None:
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1" && chown "$3" "$1"'
        argv = ["sh", "-c", script, "sh", path, f"{mode:o}", owner]
        self.exec(argv, stdin=text.encode())

    def start(self) -> None:
        """Power on, and wait until it has booted."""
        docker("start", self.container)
        if self.options.mtu:
            machine.shrink_card(self._pid(), self.options.mtu)
        self._learn_address()
        self.wait_booted()

    def stop(self) -> None:
        """Shut down properly."""
        docker("stop", "-t", "20", self.container)

    def kill(self) -> None:
        """Pull the plug."""
        docker("kill", self.container)

    def restart(self) -> None:
        """Reboot: shut down properly and boot; same address, same disk."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the machine: its connections stay open and say nothing."""
        docker("pause", self.container)

    def unpause(self) -> None:
        docker("unpause", self.container)

    def change_address(self) -> None:
        """Another address on the same network; connections to the old one go silent."""
        before = self.address
        docker("network", "disconnect", self.run.network, self.container)
        octet = int(before.rsplit(".", 1)[1])
        after = f"{before.rsplit('.', 1)[0]}.{octet + 100 if octet < 128 else octet - 100}"
        docker(
            "network", "connect", "--alias", self.name, "--ip", after, self.run.network,
            self.container,
        )  # fmt: skip
        self._learn_address()

    def new_host_key(self) -> None:
        """A throwaway host key; `known_hosts` is written anew for it once there is an address."""
        for path in (self.host_key, Path(f"{self.host_key}.pub")):
            path.unlink(missing_ok=True)
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f"]
        subprocess.run([*argv, str(self.host_key)], check=True)
        files = {
            "etc/ssh/ssh_host_ed25519_key": self.host_key.read_bytes(),
            "etc/ssh/ssh_host_ed25519_key.pub": Path(f"{self.host_key}.pub").read_bytes(),
            "etc/ssh/lab_authorized_keys": Path(f"{self.run.key}.pub").read_bytes(),
            "etc/ssh/sshd_config.d/00-test.conf": "\n".join(self.options.config).encode() + b"\n",
        }
        docker("cp", "-", f"{self.container}:/", stdin=_tar(files))
        if self.address:
            self.exec(["systemctl", "restart", "ssh"])
            self._learn_address()

    def wait_booted(self) -> None:
        """Until systemd says running and sshd greets. Raises RuntimeError with what failed."""
        deadline = time.monotonic() + BOOT_LIMIT_S
        state = ""
        while time.monotonic() < deadline:
            state = self.exec(["systemctl", "is-system-running"], check=False).stdout.strip()
            if state == "running" and _greets(self.address):
                return
            if state == "degraded":
                break
            time.sleep(0.1)
        failed = self.exec(["systemctl", "--failed", "--no-legend", "--plain"], check=False).stdout
        journal = self.exec(["journalctl", "-b", "-p", "warning", "-n", "30"], check=False).stdout
        raise RuntimeError(f"{self.name} did not boot ({state}): {failed}\n{journal}")

    def remove(self) -> None:
        docker("rm", "-f", "-v", self.container)
        if docker_ok("volume", "inspect", self.container):
            docker("volume", "rm", "-f", self.container)

    def _create_options(self) -> list[str]:
        options = [
            "--name", self.container, "--hostname", self.name, *self.run.labels(),
            "--network", self.run.network, "--network-alias", self.name,
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm",
            "--tmpfs", "/run", "--tmpfs", "/run/lock",
            "-v", f"{self.run.folder / 'resolv.conf'}:/etc/resolv.conf",
        ]  # fmt: skip
        for capability in CAPABILITIES:
            options += ["--cap-add", capability]
        if mounted_cgroup_v2():
            options += ["--cgroupns", "private"]
        else:
            options += ["-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]
        if wheels := machine.wheel_folder():
            options += ["-v", f"{wheels}:/srv/wheels:ro"]
        return options + self._engine_disk_options()

    def _engine_disk_options(self) -> list[str]:
        if self.options.engine_disk:
            return ["--tmpfs", f"/var/lib/docker:size={self.options.engine_disk},exec,dev,suid"]
        if self.options.disk:
            return ["-v", f"{self.options.disk}:/var/lib/docker"]
        docker("volume", "create", *self.run.labels(), self.container)
        if self.options.standin:
            fill(self.container, self.options.seed or seed_volume(self.release))
        return ["-v", f"{self.container}:/var/lib/docker"]

    def _pid(self) -> int:
        return int(docker("inspect", "-f", "{{.State.Pid}}", self.container))

    def _learn_address(self) -> None:
        template = f'{{{{(index .NetworkSettings.Networks "{self.run.network}").IPAddress}}}}'
        self.address = docker("inspect", "-f", template, self.container)
        kind, key = Path(f"{self.host_key}.pub").read_text(encoding="ascii").split()[:2]
        names = f"{self.address},{self.name}"
        self.known_hosts.write_text(f"{names} {kind} {key}\n", encoding="ascii")


def _greets(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=5) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            info.mode = 0o600 if path.endswith("_key") else 0o644  # sshd reads keys as the user
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
