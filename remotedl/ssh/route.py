"""By which way a host is reached: the hops of it, each with all that is needed to log in there.

Decides from hosts.toml and ~/.ssh/config; opens nothing.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remotedl.config.models import HostConfig
from remotedl.config.values import HOP, HOP_EXPECTED
from remotedl.errors import ConfigError
from remotedl.ssh import client_config, known_hosts

HOPS_LIMIT = 16
CONNECT_TIMEOUT_S = 15.0
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True)
class Hop:
    """One SSH server on the way, the last of them the host itself."""

    alias: str
    """What the user calls it."""
    address: str
    port: int
    user: str
    key_name: str
    """Its name in known_hosts."""
    identity_files: tuple[Path, ...]
    """Keys to try, in this order."""
    identities_chosen: bool
    """Whether someone named these keys; else they are OpenSSH's default ones."""
    identities_only: bool
    """Offer no keys of the agent but those named by `identity_files`."""
    agent: str | None
    """The agent's socket where the configuration names one; "none": no agent."""
    proxy_command: str | None
    """The command whose stdin and stdout lead to the server; for a first hop only."""
    known_hosts: tuple[Path, ...]
    """Where keys are looked up; the first is the one that is added to."""
    accept_new: bool
    strict: bool
    """An unknown key is refused without a question."""
    hash_names: bool
    connect_timeout_s: float
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """All that ~/.ssh/config says, for what has no field here."""

    @property
    def shown(self) -> str:
        """user@address:port, for messages."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{address}" + ("" if self.port == 22 else f":{self.port}")


def plan_route(
    host: HostConfig, *, config_text: str, known_hosts_file: Path | None = None
) -> tuple[Hop, ...]:
    """The hops to `host`, the host last. Raises ConfigError."""
    first: dict[str, str] = {}
    if host.user is not None:
        first["User"] = host.user
    if host.port is not None:
        first["Port"] = str(host.port)
    if host.identity_file is not None:
        first["IdentityFile"] = host.identity_file
    if host.jump is not None:
        first["ProxyJump"] = host.jump
    return _route(host.address, first, config_text, known_hosts_file, ())


def _route(
    alias: str,
    first: Mapping[str, str],
    text: str,
    known_hosts_file: Path | None,
    seen: tuple[str, ...],
) -> tuple[Hop, ...]:
    if alias in seen or len(seen) > HOPS_LIMIT:
        raise ConfigError(
            f"the jump hosts run in a circle: {' -> '.join((*seen, alias))}",
            hint=f"ssh -G {alias} | grep -i proxy",
        )
    settings = client_config.lookup(text, alias, first)
    jump = settings.get("proxyjump") or "none"
    hop = _hop(alias, settings, known_hosts_file, direct=jump.lower() == "none")
    if jump.lower() == "none":
        return (hop,)
    before: tuple[Hop, ...] = ()
    for word in jump.split(","):
        there, given = _parse_hop(word.strip())
        if before:  # reached through the one before, whatever its own block says
            given["ProxyJump"] = "none"
        way = _route(there, given, text, known_hosts_file, (*seen, alias))
        before += way
    return (*before, hop)


def _parse_hop(word: str) -> tuple[str, dict[str, str]]:
    match = HOP.fullmatch(word)
    if match is None:
        raise ConfigError(f'"{word}" is no jump host: expected {HOP_EXPECTED}')
    given: dict[str, str] = {}
    if match["user"]:
        given["User"] = match["user"]
    if match["port"]:
        given["Port"] = match["port"]
    return match["v6"] or match["host"], given


def _hop(
    alias: str, settings: Mapping[str, Any], known_hosts_file: Path | None, *, direct: bool
) -> Hop:
    address = str(settings.get("hostname", alias))
    port = int(settings.get("port", 22))
    keys = tuple(Path(name).expanduser() for name in settings.get("identityfile", ()))
    command = settings.get("proxycommand")
    strict = str(settings.get("stricthostkeychecking", "ask")).lower()
    agent = settings.get("identityagent")
    return Hop(
        alias=alias,
        address=address,
        port=port,
        user=str(settings.get("user") or getpass.getuser()),
        key_name=str(settings.get("hostkeyalias") or known_hosts.known_name(address, port)),
        identity_files=keys or tuple(Path.home() / ".ssh" / name for name in DEFAULT_KEYS),
        identities_chosen=bool(keys),
        identities_only=_yes(settings, "identitiesonly"),
        agent=None if agent in (None, "SSH_AUTH_SOCK") else str(agent),
        proxy_command=str(command) if direct and command else None,
        known_hosts=(known_hosts_file,) if known_hosts_file else _known_hosts_files(settings),
        accept_new=strict in ("no", "off", "accept-new"),
        strict=strict == "yes",
        hash_names=_yes(settings, "hashknownhosts"),
        connect_timeout_s=float(settings.get("connecttimeout") or CONNECT_TIMEOUT_S),
        settings=settings,
    )


def _known_hosts_files(settings: Mapping[str, Any]) -> tuple[Path, ...]:
    user = settings.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
    system = settings.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts")
    names = [*user.split(), *system.split()]
    return tuple(Path(name).expanduser() for name in names if name.lower() != "none")


def _yes(settings: Mapping[str, Any], key: str) -> bool:
    return str(settings.get(key, "no")).lower() in ("yes", "true")
