"""How to log in on a test host: address, user, key, known_hosts, and all the forms tests want.

A value: it opens no connection and starts no process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remotedl.config.models import HostConfig


@dataclass(frozen=True)
class Login:
    """A user of a test host and what proves that it is them."""

    address: str
    port: int
    user: str
    key: Path
    """The private key (ed25519, no passphrase)."""
    known_hosts: Path
    """Holds the host's key under this address and port."""
    password: str | None = None
    """The user's password where they have one; for sudo and password logins."""

    @property
    def known_name(self) -> str:
        """The host's name as known_hosts writes it."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

    def at(self, address: str, port: int) -> Login:
        """The same login over another way (a bad link, a new address), known under that name."""
        known_hosts = self.known_hosts.with_name(f"known_hosts-{address}-{port}")
        there = replace(self, address=address, port=port, known_hosts=known_hosts)
        entries = [line.split(" ", 1) for line in self.known_hosts.read_text("ascii").splitlines()]
        keys = [key for names, key in entries if self.known_name in names.split(",")]
        known_hosts.write_text(
            "".join(f"{there.known_name} {key}\n" for key in keys), encoding="ascii"
        )
        return there

    def host_config(self, **more: Any) -> HostConfig:
        """A `[hosts.NAME]` table for this login; `more` are further keys of it."""
        from remotedl.config.models import HostConfig  # here: pure tests load this file as well

        given: dict[str, Any] = {
            "address": self.address,
            "port": self.port,
            "user": self.user,
            "identity_file": str(self.key),
        }
        return HostConfig(**{**given, **more})

    def ssh_config(self, alias: str) -> str:
        """A `Host` block of ~/.ssh/config."""
        return (
            f"Host {alias}\n"
            f"  HostName {self.address}\n"
            f"  Port {self.port}\n"
            f"  User {self.user}\n"
            f"  IdentityFile {self.key}\n"
            f"  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known_hosts}\n"
        )

    def write_home(self, home: Path, alias: str) -> Path:
        """Put ~/.ssh/config and ~/.ssh/known_hosts into a laptop's home; adds to what is there."""
        folder = home / ".ssh"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        block = "\n".join(
            line for line in self.ssh_config(alias).splitlines() if "UserKnownHostsFile" not in line
        )
        with (folder / "config").open("a", encoding="utf-8") as config:
            config.write(block + "\n")
        with (folder / "known_hosts").open("a", encoding="ascii") as known:
            known.write(self.known_hosts.read_text(encoding="ascii"))
        return home

    def ssh_argv(self, *argv: str) -> list[str]:
        """OpenSSH's own client running `argv` there; for looking at a host from outside."""
        return [
            "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
            "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=yes",
            "-i", str(self.key), "-p", str(self.port), f"{self.user}@{self.address}", *argv,
        ]  # fmt: skip
