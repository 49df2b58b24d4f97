"""The laptop's own credentials for a registry, as docker on the laptop would find them.

They are asked for when an image of that registry is to be pulled, travel in a header of that one
request, and are never written to the host.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from remotedl.engine import RegistryAuth
from remotedl.errors import ConfigError

HUB = "docker.io"
HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
TOKEN_USER = "<token>"  # noqa: S105 - the name by which a helper says "this is no password"
HELPER_TIMEOUT_S = 30


def registry_of(reference: str) -> str:
    """The registry that a reference names; docker.io where it names none.

    >>> registry_of("localhost:5000/a"), registry_of("pytorch/pytorch:2")
    ('localhost:5000', 'docker.io')
    """
    first, slash, _ = reference.partition("/")
    names_one = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return first if names_one else HUB


def auth_for(reference: str, config_folder: Path | None = None) -> RegistryAuth:
    """Credentials for `reference`'s registry; empty ones when the laptop has none.

    Raises ConfigError when the laptop's docker configuration is damaged.
    """
    folder = config_folder or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    config = _config(folder / "config.json")
    registry = registry_of(reference)
    keys = HUB_KEYS if registry == HUB else (registry, f"https://{registry}", f"http://{registry}")
    helpers = config.get("credHelpers") or {}
    for key in keys:
        helper = helpers.get(key) or config.get("credsStore")
        if helper and (auth := _from_helper(str(helper), key)):
            return auth
        if entry := (config.get("auths") or {}).get(key):
            return _from_entry(entry, key)
    return RegistryAuth()


def _config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", hint="docker login REGISTRY") from exc
    return found if isinstance(found, dict) else {}


def _from_helper(helper: str, server: str) -> RegistryAuth | None:
    """None when the helper has nothing, or is not installed: others may know."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
        )
        found = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    user, secret = str(found.get("Username", "")), str(found.get("Secret", ""))
    if not secret:
        return None
    if user == TOKEN_USER:
        return RegistryAuth(server=server, identity_token=secret)
    return RegistryAuth(username=user, password=secret, server=server)


def _from_entry(entry: dict[str, Any], server: str) -> RegistryAuth:
    if token := entry.get("identitytoken"):
        return RegistryAuth(server=server, identity_token=str(token))
    if packed := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(packed)).decode().partition(":")
        except ValueError as exc:
            raise ConfigError(
                f"the laptop's docker credentials for {server} are damaged",
                hint=f"docker login {server}",
            ) from exc
        return RegistryAuth(username=user, password=password.rstrip("\0"), server=server)
    if entry.get("username"):
        return RegistryAuth(str(entry["username"]), str(entry.get("password", "")), server)
    return RegistryAuth()
