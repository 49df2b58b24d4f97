"""Commands as one line of text: the only place where they are quoted.

sshd hands a command to the user's login shell, whichever that is. `command_line` gives text that
sh, bash, zsh, dash, fish and tcsh read as the same `exec sh -c SCRIPT`; the script then changes
the folder, sets variables and becomes the command itself. Nothing here runs anything.

Two decisions hold it together:
- Quotes: single quotes protect everything in all of these shells but `'` (closes them), `\\`
  (an escape in fish), `!` (history in tcsh) and newlines (an error in tcsh). Those four are written
  outside the quotes, in a form that all agree on; a newline is made by the inner sh.
- Marks: a .bashrc or .tcshrc may print whatever it likes before the command runs. So the script
  first prints a mark (on stdout and stderr) that `marks.py` looks for. The text of the command
  does not contain the mark, so that a shell that echoes its commands cannot fake it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NEWLINE = 'remotedl_nl=$(printf "\\nx"); remotedl_nl=${remotedl_nl%x}; '
OUTSIDE_QUOTES = {"'": '"\'"', "\\": "\\\\", "!": "\\!", "\n": '"$remotedl_nl"'}
LONGEST_LINE = 128 * 1024 - 1  # MAX_ARG_STRLEN of Linux
RECORD_SEPARATOR = "\\036"
START_MARK = f'"{RECORD_SEPARATOR}remotedl:$$ {RECORD_SEPARATOR}"'
PROMPT_MARK = f'"{RECORD_SEPARATOR}remotedl? {RECORD_SEPARATOR}"'


def command_line(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    sudo: bool = False,
    terminal: bool = False,
) -> bytes:
    """What an SSH exec request carries to run `argv`. Raises ValueError for what no shell can say.

    With `terminal`, stdout and stderr are one, so the mark is printed once, and sudo asks on the
    terminal rather than reading stdin. The values of `env` can be seen in the host's process
    list, for a moment or, with `sudo`, as long as the command runs: secrets go over stdin.
    """
    script = shell_script(argv, env=env, cwd=cwd, terminal=terminal)
    if sudo:
        stdin = "" if terminal else "-S "
        script = f'exec sudo {stdin}-p "$(printf {PROMPT_MARK})" -- sh -c {quote(script)}'
        script = _defining_newline(script)
    line = f"exec sh -c {quote(script)}".encode("utf-8", "surrogateescape")
    if len(line) > LONGEST_LINE:
        raise ValueError(f"a command of {len(line)} bytes is too long: pass data over stdin")
    return line


def shell_script(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    terminal: bool = False,
) -> str:
    """One line of POSIX sh: print the marks, go to `cwd`, become `argv`."""
    if not argv:
        raise ValueError("an empty command")
    parts = [f"printf {START_MARK}"]
    if not terminal:
        parts.append(f"printf {START_MARK} >&2")
    if cwd is not None:
        parts.append(f"cd -- {quote(cwd)} || exit 1")
    parts.append("exec " + join([*_env_argv(env or {}), *argv]))
    return _defining_newline("; ".join(parts))


def join(argv: Sequence[str]) -> str:
    """Words as text that sh reads back as the same words (newlines need `remotedl_nl`)."""
    return " ".join(quote(word) for word in argv)


def quote(word: str) -> str:
    """One word in single quotes, the four characters that they do not protect outside."""
    if "\0" in word:
        raise ValueError("a command cannot hold a NUL character")
    pieces: list[str] = []
    for plain, special in re.findall(r"([^'\\!\n]+)|(['\\!\n])", word):
        pieces.append(f"'{plain}'" if plain else OUTSIDE_QUOTES[special])
    return "".join(pieces) or "''"


def _env_argv(env: Mapping[str, str]) -> list[str]:
    for name in env:
        if not NAME.fullmatch(name):
            raise ValueError(f'"{name}" is no name for an environment variable')
    return ["env", *(f"{name}={value}" for name, value in sorted(env.items()))] if env else []


def _defining_newline(script: str) -> str:
    return NEWLINE + script if '"$remotedl_nl"' in script else script
