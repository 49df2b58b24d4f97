"""`remotedl init`: a hosts.toml and a .remotedlignore to start from. Never overwrites."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from remotedl.config.load import FILE_NAME
from remotedl.config.ssh_aliases import ssh_aliases
from remotedl.errors import FolderUnusable

IGNORE_NAME = ".remotedlignore"

IGNORE_TEXT = """\
# What stays on its own side; the syntax of .gitignore. These are always left out already:
# .git, .venv/ venv/ node_modules/ __pycache__/ *.egg-info .ipynb_checkpoints/ .DS_Store .~*, the
# caches of pytest, mypy, ruff, tox and nox, and editors' swap files.
# Data sets belong in the host's data folder (/data in the container), not in here:
#data/
#*.ckpt
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What `init` did: files made, files that were there already, hosts it put in."""

    made: tuple[Path, ...]
    kept: tuple[Path, ...]
    hosts: tuple[str, ...]


def write_initial(folder: Path) -> Written:
    """Write both files into `folder`. Raises FolderUnusable."""
    aliases = tuple(ssh_aliases())
    made: list[Path] = []
    kept: list[Path] = []
    for name, text in ((FILE_NAME, hosts_text(aliases)), (IGNORE_NAME, IGNORE_TEXT)):
        path = folder / name
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            kept.append(path)
        except OSError as exc:
            raise FolderUnusable(f"{path} cannot be written: {exc.strerror}") from exc
        else:
            made.append(path)
    return Written(tuple(made), tuple(kept), aliases)


def hosts_text(aliases: tuple[str, ...]) -> str:
    """A hosts.toml with a table for each alias, or with a placeholder to fill in. Pure."""
    lines = ["# See hosts.example.toml for every key.", ""]
    if len(aliases) > 1:
        lines[1:1] = [f"# default_host = {_quoted(aliases[0])}"]
    for alias in aliases:
        lines += [f"[hosts.{_quoted(alias)}]", f"address = {_quoted(alias)}  # ~/.ssh/config", ""]
    if not aliases:
        lines += [
            "[hosts.mybox]",
            'address = "192.0.2.10"  # the name or IP address of your GPU host',
            '# user = "ada"',
            "",
        ]
    return "\n".join([*lines, "[project]", 'image = "base"', ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
