"""KEY=VALUE lines of `env_file`: secrets that travel in a file, never in settings or argv."""

from __future__ import annotations

import re

from remotedl.config.places import Places
from remotedl.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_env_file(places: Places, name: str | None) -> dict[str, str]:
    """The variables of `name`, relative to the project. Raises ConfigError naming the line."""
    if name is None:
        return {}
    path = places.find("project.env_file", name)
    try:
        text = places.read("project.env_file", name).decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = (exc.strerror or "").lower() if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"env_file {path} cannot be read: {why}",
            hint="make it, or take env_file out of hosts.toml",
        ) from exc
    return parse_env(text, str(path))


def parse_env(text: str, where: str) -> dict[str, str]:
    """`export` in front and quotes around a value are taken off, as shells do. Pure."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.strip().removeprefix("export ")
        if not plain or plain.startswith("#"):
            continue
        key, equals, value = plain.partition("=")
        if not equals or not _NAME.fullmatch(key.strip()):
            # The line itself may hold a secret: it is not repeated.
            raise ConfigError(f"{where}:{number}: expected KEY=VALUE", hint=f"edit {where}")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[key.strip()] = value
    return found
