"""One run of the lab: its id, folder and network; what it started it stops, whatever happens.

Every container, volume and network carries the run's id and the process that owns it, so that
what a killed run left behind is found by the next one, and two runs never touch each other.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil

from tests.lab import machine
from tests.lab.engine import DockerFailed, alive, docker, docker_ok, ensure_dockerd, identity

LABEL = "remotedl.lab"
OWNER_LABEL = "remotedl.lab.owner"
KEPT = "kept"
"""The owner of what `python -m tests.lab start` made: stays until `stop`."""
MTU = 1500
"""Of the run's own network, whatever this machine's card has: as the bridges of the engines inside
the hosts, whose containers would otherwise send what never arrives. A link that carries less is
what `make_host(mtu=…)` is for."""


class LabRun:
    """The owner of a network and of everything on it. `close` removes all of it."""

    def __init__(self, *, name: str | None = None, kept: bool = False) -> None:
        """`name`: a fixed id (the command's runs); `kept`: outlives this process."""
        self.id = name or secrets.token_hex(3)
        self.kept = kept
        self.owner = KEPT if kept else identity(psutil.Process())
        root = Path(tempfile.gettempdir())
        self.folder = root / f"remotedl-lab-{self.id}"
        self.folder.mkdir(mode=0o700, exist_ok=kept)
        self.key = self.folder / "id_ed25519"
        if not self.key.exists():
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(self.key)]
            subprocess.run(argv, check=True)
        (self.folder / "owner").write_text(self.owner)
        (self.folder / "resolv.conf").write_text(_resolv_conf())
        ensure_dockerd()
        self.network = f"remotedl-lab-{self.id}"
        self.gateway = self._make_network()
        self._names = 0

    def labels(self) -> list[str]:
        """Options of `docker run`/`create` that mark a thing as this run's."""
        return ["--label", f"{LABEL}={self.id}", "--label", f"{OWNER_LABEL}={self.owner}"]

    def named(self, name: str) -> str:
        return f"remotedl-lab-{self.id}-{name}"

    def fresh_name(self, stem: str) -> str:
        """h1, h2, …: a host's name that this run has not used."""
        self._names += 1
        return f"{stem}{self._names}"

    def close(self) -> None:
        remove_run(self.id)

    def _make_network(self) -> str:
        """The address of this machine on the run's own network."""
        if not docker_ok("network", "inspect", self.network):
            self._create_network()
        template = "{{(index .IPAM.Config 0).Gateway}}"
        return docker("network", "inspect", "-f", template, self.network)

    def _create_network(self) -> None:
        # A subnet of our own, so that addresses can be fixed; the next one if it is in use.
        start = int(hashlib.sha256(self.id.encode()).hexdigest(), 16) % 250
        for step in range(250):
            prefix = f"10.213.{(start + step) % 250}"
            options = ["--subnet", f"{prefix}.0/24", "--gateway", f"{prefix}.1"]
            options += ["--opt", f"com.docker.network.driver.mtu={MTU}", *self.labels()]
            try:
                docker("network", "create", *options, self.network)
                return
            except DockerFailed as exc:
                if "overlaps" not in str(exc):
                    raise
        raise RuntimeError("no free subnet for the lab's network below 10.213.0.0/16")


def remove_run(run_id: str) -> None:
    """Remove every container, volume, network and file of a run."""
    label = f"label={LABEL}={run_id}"
    for listing, removal in (
        (("ps", "-aq"), ("rm", "-f", "-v")),
        (("volume", "ls", "-q"), ("volume", "rm", "-f")),
        (("network", "ls", "-q"), ("network", "rm")),
    ):
        if found := docker(*listing, "--filter", label).split():
            try:
                docker(*removal, *found)
            except DockerFailed as exc:
                if "No such" not in str(exc):
                    raise
    shutil.rmtree(Path(tempfile.gettempdir()) / f"remotedl-lab-{run_id}", ignore_errors=True)


def reap() -> list[str]:
    """Remove what runs left whose process is gone; returns their ids."""
    ensure_dockerd()
    dead = sorted(run for run, owner in running().items() if owner != KEPT and not alive(owner))
    for run in dead:
        remove_run(run)
    return dead


def running() -> dict[str, str]:
    """Run id -> owner, for all runs that left a trace on this machine."""
    found: dict[str, str] = {}
    template = f'{{{{.Label "{LABEL}"}}}} {{{{.Label "{OWNER_LABEL}"}}}}'
    for listing in (("ps", "-a"), ("volume", "ls"), ("network", "ls")):
        for line in docker(*listing, "--filter", f"label={LABEL}", "--format", template).split(
            "\n"
        ):
            run, _, owner = line.strip().partition(" ")
            if run:
                found[run] = owner
    for record in Path(tempfile.gettempdir()).glob("remotedl-lab-*/owner"):
        found.setdefault(record.parent.name.removeprefix("remotedl-lab-"), record.read_text())
    return found


def _resolv_conf() -> str:
    # 127.0.0.11 knows the lab's hosts by name. Engines inside the hosts drop loopback servers
    # when they write their containers' resolv.conf, and are left with the machine's own.
    servers = ["127.0.0.11", *machine.name_servers()]
    return "".join(f"nameserver {server}\n" for server in servers) + f"# lab, pid {os.getpid()}\n"
