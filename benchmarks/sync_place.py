"""Where the sync's benchmarks run: folders in memory, one sshd on loopback, a tree of 20,000 files.

The host is this machine, reached through OpenSSH; a slow link is the lab's own proxy before it.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.badlink import BadLink
from tests.lab.login import Login
from tests.lab.sshd import Sshd

FILES = 20_000
SLOW_DELAY_S = 0.02
SLOW_BYTES = 100e6 / 8
MEMORY = Path("/dev/shm")


@dataclass
class Place:
    """A laptop's folder, a host's home, and the ways between them."""

    base: Path
    sshd: Sshd
    slow: Login

    @property
    def laptop(self) -> Path:
        return self.base / "laptop"

    @property
    def host(self) -> Path:
        return self.sshd.home / "project"

    @property
    def state(self) -> Path:
        return self.base / "state"

    def clear_host(self) -> None:
        shutil.rmtree(self.host, ignore_errors=True)

    def forget(self) -> None:
        """As if this pair had never been synced."""
        shutil.rmtree(self.state, ignore_errors=True)
        for side in (self.laptop, self.host):
            shutil.rmtree(side / ".remotedl", ignore_errors=True)

    def rsync(self, *options: str, login: Login | None = None, file: str = "") -> float:
        """Seconds that rsync takes for the same copy."""
        shell = " ".join(self.ssh(login))
        source = str(self.laptop / file) if file else f"{self.laptop}/"
        target = f"{self.sshd.address}:{self.host}/"
        argv = ["rsync", "-a", "--exclude=.remotedl", *options, "-e", shell, source, target]
        return timed(argv)

    def ssh(self, login: Login | None = None) -> list[str]:
        """OpenSSH's client with the lab's key, without the address and the command."""
        argv = (login or self.sshd.login).ssh_argv()
        return [part for part in argv[:-1] if part]

    def once(self, login: Login | None = None, *, scan: bool = False) -> float:
        """Seconds that ours takes from a cold start, the interpreter's included."""
        return timed(self.once_argv(login))

    def once_argv(self, login: Login | None = None) -> list[str]:
        login = login or self.sshd.login
        return [
            sys.executable, "-m", "benchmarks.sync_once", login.address, str(login.port),
            login.user, str(login.key), str(login.known_hosts), str(self.laptop), str(self.state),
        ]  # fmt: skip


@contextmanager
def place() -> Iterator[Place]:
    """Everything in memory; gone afterwards."""
    with ExitStack() as stack:
        where = MEMORY if MEMORY.is_dir() else None
        base = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="remotedl-bench-", dir=where))
        )
        sshd = Sshd(base / "sshd")
        stack.callback(sshd.kill)
        sshd.start()
        link = BadLink((sshd.address, sshd.port), delay_s=SLOW_DELAY_S, bandwidth=SLOW_BYTES)
        stack.callback(link.close)
        made = Place(base, sshd, sshd.login.at(link.address, link.port))
        made.laptop.mkdir()
        made.host.mkdir()
        yield made


def make_tree(root: Path, files: int = FILES) -> int:
    """Files of source code in about one directory for twelve of them; bytes in all."""
    chance = random.Random(20_000)
    folders = [root]
    for number in range(files // 12):
        above = chance.choice(folders[-200:])
        folder = above / f"pkg{number}"
        if len(folder.relative_to(root).parts) > 8:
            folder = root / f"pkg{number}"
        folder.mkdir(parents=True, exist_ok=True)
        folders.append(folder)
    corpus = _corpus()
    total = 0
    for number in range(files):
        size = min(int(chance.lognormvariate(7.9, 1.35)), 1 << 20)
        at = chance.randrange(len(corpus) - size)
        (chance.choice(folders) / f"module{number}.py").write_bytes(corpus[at : at + size])
        total += size
    return total


def _corpus() -> bytes:
    """Real source code: Python's own library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    return b"".join(path.read_bytes() for path in sorted(library.glob("*.py")))


def timed(argv: Sequence[str]) -> float:
    began = time.perf_counter()
    # As for a user: Python may keep what it compiled.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=env)
    return time.perf_counter() - began


def has(tool: str) -> bool:
    return shutil.which(tool) is not None


def settle() -> None:
    """Let what was just written become older than what a scan distrusts."""
    os.sync()
    time.sleep(2.1)
