"""By which way a host is reached: the hops of it, each with all that is needed to log in there.

Decides from hosts.toml and ~/.ssh/config; opens nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from remotedl.config.models import HostConfig
from remotedl.config.values import HOP, HOP_EXPECTED, host_name, user_name
from remotedl.errors import ConfigError
from remotedl.ssh import client_config, known_hosts

HOPS_LIMIT = 16
CONNECT_TIMEOUT_S = 15.0
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
USER_FILES = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
SYSTEM_FILES = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"


@dataclass(frozen=True, slots=True)
class Trust:
    """How the key of one hop is judged: what ~/.ssh/config says about host keys."""

    alias: str | None
    """HostKeyAlias: it stands in place of name and port."""
    user_files: tuple[Path, ...]
    """Where keys are looked up; the first is the one that is added to."""
    system_files: tuple[Path, ...]
    revoked_files: tuple[Path, ...]
    """RevokedHostKeys: lists of public keys, or KRLs; one that cannot be read refuses all."""
    accept_new: bool
    strict: bool
    """An unknown key is refused without a question."""
    hash_names: bool
    check_ip: bool
    """The key is looked up by the address as well."""
    trust_loopback: bool
    """NoHostAuthenticationForLocalhost."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One SSH server on the way, the last of them the host itself."""

    alias: str
    """What the user calls it."""
    address: str
    port: int
    user: str
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
    trust: Trust
    """What its key is held against."""
    connect_timeout_s: float

    @property
    def shown(self) -> str:
        """user@address:port, for messages."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{address}" + ("" if self.port == 22 else f":{self.port}")

    @property
    def typed(self) -> str:
        """What follows `ssh` on the command line to get there, key and port included."""
        words = [] if self.port == 22 else ["-p", str(self.port)]
        if self.identities_chosen and self.identity_files:
            words += ["-i", str(self.identity_files[0])]
        return shlex.join([*words, f"{self.user}@{self.address}"])

    @property
    def key_name(self) -> str:
        """Its name in known_hosts."""
        return self.trust.alias or known_hosts.known_name(self.address, self.port)


def plan_route(
    host: HostConfig,
    *,
    config_text: client_config.Config | str,
    known_hosts_file: Path | None = None,
) -> tuple[Hop, ...]:
    """The hops to `host`, the host last. `config_text`: as `client_config.read` gives it, or the
    text of one file. Raises ConfigError."""
    first: dict[str, str] = {}
    if host.user is not None:
        first["User"] = host.user
    if host.port is not None:
        first["Port"] = str(host.port)
    if host.identity_file is not None:
        first["IdentityFile"] = host.identity_file.replace("%", "%%")
    if host.jump is not None:
        first["ProxyJump"] = host.jump
    return _route(host.address, first, config_text, known_hosts_file, ())


def _route(
    alias: str,
    first: Mapping[str, str],
    config: client_config.Config | str,
    known_hosts_file: Path | None,
    seen: tuple[str, ...],
) -> tuple[Hop, ...]:
    if alias in seen or len(seen) > HOPS_LIMIT:
        raise ConfigError(
            f"the jump hosts run in a circle: {' -> '.join((*seen, alias))}",
            hint=f"ssh -G {alias} | grep -i proxy",
        )
    _check_names(alias, first.get("User", ""))
    settings = client_config.lookup(config, alias, first)
    jump = settings.one("proxyjump") or "none"
    hop = _hop(alias, settings, known_hosts_file, direct=jump.lower() == "none")
    if jump.lower() == "none":
        return (hop,)
    before: tuple[Hop, ...] = ()
    for word in jump.split(","):
        there, given = _parse_hop(word.strip())
        if before:  # reached through the one before, whatever its own block says
            given["ProxyJump"] = "none"
        way = _route(there, given, config, known_hosts_file, (*seen, alias))
        before += way
    return (*before, hop)


def _parse_hop(word: str) -> tuple[str, dict[str, str]]:
    match = HOP.fullmatch(word)
    if match is None:
        raise ConfigError(f'"{word}" is no jump host: expected {HOP_EXPECTED}')
    given: dict[str, str] = {}
    if match["user"]:
        user = match["user"]
        given["User"] = unquote(user) if word.startswith("ssh://") else user
    if match["port"]:
        given["Port"] = match["port"]
    return match["v6"] or match["host"], given


def _check_names(host: str, user: str) -> None:
    """Both may come to stand in a command of the user's. Raises ConfigError."""
    try:
        host_name(host)
        if user:
            user_name(user)
    except ValueError as exc:
        raise ConfigError(f"{user or 'ssh'} at {host!r}: expected {exc}") from exc


def _hop(
    alias: str, settings: client_config.Settings, known_hosts_file: Path | None, *, direct: bool
) -> Hop:
    address = settings.address if ":" in settings.address else settings.address.lower()
    _check_names(address, settings.user)
    keys = settings.paths("identityfile")
    chosen = "identityfile" in settings.values
    timeout_s = settings.seconds("connecttimeout")
    return Hop(
        alias=alias,
        address=address,
        port=settings.port(),
        user=settings.user,
        identity_files=keys if chosen else _default_keys(),
        identities_chosen=chosen,
        identities_only=settings.yes("identitiesonly"),
        agent=_agent(settings),
        proxy_command=settings.command() if direct else None,
        trust=_trust(settings, known_hosts_file),
        connect_timeout_s=CONNECT_TIMEOUT_S if timeout_s is None else max(1.0, timeout_s),
    )


def _trust(settings: client_config.Settings, known_hosts_file: Path | None) -> Trust:
    strict = (settings.one("stricthostkeychecking") or "ask").lower()
    alias = settings.one("hostkeyalias")
    user_files = settings.paths("userknownhostsfile", USER_FILES)
    system_files = settings.paths("globalknownhostsfile", SYSTEM_FILES)
    return Trust(
        alias=alias.lower() if alias else None,
        user_files=(known_hosts_file,) if known_hosts_file else user_files,
        system_files=() if known_hosts_file else system_files,
        revoked_files=settings.paths("revokedhostkeys"),
        accept_new=strict in ("no", "off", "false", "accept-new"),
        strict=strict in ("yes", "true"),
        hash_names=settings.yes("hashknownhosts"),
        check_ip=settings.yes("checkhostip"),
        trust_loopback=settings.yes("nohostauthenticationforlocalhost"),
    )


def _agent(settings: client_config.Settings) -> str | None:
    """The agent's socket as IdentityAgent names it: a path, $NAME, SSH_AUTH_SOCK or none."""
    named = settings.one("identityagent")
    if named is None or named == "SSH_AUTH_SOCK":
        return None
    if named.lower() == "none":
        return "none"
    if named.startswith("$") and not named.startswith("${"):
        return os.environ.get(named[1:]) or "none"
    return settings.expanded(named)


def _default_keys() -> tuple[Path, ...]:
    return tuple(Path.home() / ".ssh" / name for name in DEFAULT_KEYS)
