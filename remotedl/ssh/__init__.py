"""The one door to the host. paramiko and fabric are imported in this room alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from remotedl.errors import ConfigError
from remotedl.report import SILENT, Report

if TYPE_CHECKING:
    from remotedl.config.models import HostConfig
    from remotedl.ssh.connection import Connection
    from remotedl.ssh.prompt import Prompt

__all__ = ["connect"]


def connect(
    host: HostConfig,
    *,
    prompt: Prompt,
    accept_new: bool = False,
    known_hosts: Path | None = None,
    ssh_config: Path | None = None,
    report: Report = SILENT,
) -> Connection:
    """Log in on `host`, by way of its jump hosts, every host key checked.

    An unknown key is accepted with `accept_new`, or when `prompt` says yes, and remembered.
    `known_hosts` (else the host's own setting) and `ssh_config` take the place of the user's and
    the system's files.
    Raises HostUnreachable, HostKeyUnknown, HostKeyChanged, AuthFailed, ConfigError.
    """
    # paramiko and fabric take 0.2 s to import; `remotedl --help` must not pay that.
    from remotedl.ssh import client_config, opener, route
    from remotedl.ssh.connection import Connection

    if known_hosts is None and host.known_hosts is not None:
        known_hosts = Path(host.known_hosts).expanduser()
    if host.identity_file is not None:
        _check_key(host.identity_file)
    files = (ssh_config,) if ssh_config is not None else client_config.default_files()
    text = client_config.read(files)
    hops = route.plan_route(host, config_text=text, known_hosts_file=known_hosts)
    opened = opener.open_route(hops, prompt, accept_new=accept_new, report=report)
    return Connection(hops, opened, host.sudo, prompt)


def _check_key(name: str) -> None:
    """A key of hosts.toml must be there; beside an agent its .pub file is enough."""
    path = Path(name).expanduser()
    if not path.is_file() and not Path(f"{path}.pub").is_file():
        raise ConfigError(
            f"identity_file {name}: there is no such file",
            hint="mend identity_file in hosts.toml; a new key: ssh-keygen -t ed25519",
        )
