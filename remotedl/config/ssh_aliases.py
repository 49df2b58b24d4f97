"""The names that ~/.ssh/config gives to hosts. Reads names only; ssh/ reads the rest."""

from __future__ import annotations

from pathlib import Path

from remotedl.config.ssh_lines import flat, read_file
from remotedl.errors import ConfigError


def ssh_aliases(path: Path | None = None) -> list[str]:
    """Every `Host` without a wildcard, sorted; [] where there is no such file, or a broken one."""
    try:
        lines = read_file(path or Path.home() / ".ssh" / "config")
    except ConfigError:
        return []
    words = (word for line in flat(lines) if line.keyword == "host" for word in line.words)
    return sorted({word for word in words if word and not set(word) & set("*?!")})
