"""Reading ~/.ssh/config: what the user's own ssh would use for a host.

paramiko's parser does Host, Match and tokens; it knows no Include, so files are spliced in here
before it sees them. Settings of hosts.toml go in front, as options on ssh's command line do:
OpenSSH takes the first value it meets. fabric's reader is not used: it knows no Include either,
and visits the hops of a ProxyJump in the wrong order.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remotedl.config.values import is_hidden
from remotedl.errors import ConfigError

SYSTEM_FILE = Path("/etc/ssh/ssh_config")
DEPTH_LIMIT = 16
BLOCK = re.compile(r"\s*(?:host|match)[\s=]", re.IGNORECASE)
INCLUDE = re.compile(r"\s*include(?:\s*=\s*|\s+)(.+)", re.IGNORECASE)


def default_files() -> tuple[Path, ...]:
    return (Path.home() / ".ssh" / "config", SYSTEM_FILE)


def read(files: Sequence[Path]) -> str:
    """The text of all files, each Include replaced by what it names. Missing files are empty."""
    return "".join(_spliced(file, _folder_of(file), "Host *", 0) + "Host *\n" for file in files)


def lookup(text: str, alias: str, first: Mapping[str, str]) -> dict[str, Any]:
    """The settings for `alias`, keys in lower case; `first` wins over what the files say.

    `identityfile` is a list. Raises ConfigError where the text cannot be read.
    """
    import paramiko
    from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

    for value in (alias, *first.values()):
        if any(is_hidden(ch) for ch in value):
            raise ConfigError(f"{value!r} is no value for ssh: it holds control characters")
    given = "".join(f"{key} {value}\n" for key, value in first.items())
    try:
        return dict(paramiko.SSHConfig.from_text(given + text).lookup(alias))
    except (ConfigParseError, CouldNotCanonicalize, ValueError, KeyError) as exc:
        raise ConfigError(
            f"~/.ssh/config cannot be read for {alias}: {exc}", hint=f"ssh -G {alias}"
        ) from exc


def _spliced(file: Path, folder: Path, block: str, depth: int) -> str:
    """One file's text. After an Include the block that it stands in is opened again."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    out: list[str] = []
    for line in lines:
        include = INCLUDE.fullmatch(line)
        if include is None:
            block = line if BLOCK.match(line) else block
            out.append(line)
        elif depth < DEPTH_LIMIT:
            for found in _included(include[1], folder):
                out += [_spliced(found, folder, block, depth + 1), block]
    return "\n".join(out) + "\n"


def _included(value: str, folder: Path) -> list[Path]:
    found: list[Path] = []
    for word in re.findall(r'"([^"]*)"|(\S+)', value):
        pattern = Path(word[0] or word[1]).expanduser()
        found += [Path(name) for name in sorted(glob.glob(str(folder / pattern)))]
    return found


def _folder_of(file: Path) -> Path:
    """Where relative Includes are looked up: ~/.ssh or /etc/ssh, as the file is the one or not."""
    return SYSTEM_FILE.parent if file == SYSTEM_FILE else file.parent
