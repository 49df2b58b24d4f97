"""The commands that a hint names, completed so that they can be typed where the user stands.

The rooms below say `remotedl provision`, or call the host by its address: they know neither by
which name the user called it nor what `ssh` needs to get there. Both are put right here, at the
edge, for every hint in one place; nothing else of a hint is changed.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remotedl.config.models import HostConfig

COMMAND = re.compile(r"\bremotedl ([a-z]+)(?: ([a-z]+))?(?![a-z./-])")
PHRASE = re.compile(r"[^;,()`]*?(?=$|[;,()`]| or | and )")
ASKS_FOR_HELP = re.compile(r"(^|\s)(--help|-h)\b")


@dataclass(frozen=True, slots=True)
class Named:
    """The host of the command that runs."""

    name: str
    """As hosts.toml or the user calls it."""
    address: str = ""
    """As the rooms below call it."""
    typed: bool = True
    """The user named it, so that the next command does not find it without its name."""
    ssh: str = ""
    """What follows `ssh` on the command line to get there."""
    others: frozenset[str] = frozenset()
    """Hosts that a hint may mean instead."""


NAMED: ContextVar[Named | None] = ContextVar("NAMED", default=None)


def name_host(
    name: str, host: HostConfig, *, typed: bool, others: frozenset[str] = frozenset()
) -> None:
    """From now on, hints are about this host, but where they name one of the `others`."""
    NAMED.set(Named(name, host.address, typed, ssh_words(host), others - {name}))


def ssh_words(host: HostConfig) -> str:
    """What `ssh` needs of hosts.toml; an alias of ~/.ssh/config is enough by itself."""
    from remotedl.ssh.quoting import quote

    words = []
    if host.port is not None:
        words += ["-p", str(host.port)]
    if host.identity_file is not None:
        words += ["-i", host.identity_file]
    if host.known_hosts is not None:
        words += ["-o", f"UserKnownHostsFile={host.known_hosts}"]
    if host.jump is not None:
        words += ["-J", host.jump]
    words.append(f"{host.user}@{host.address}" if host.user else host.address)
    return " ".join(
        word if re.fullmatch(r"[\w@%+=:,./~-]+", word) else quote(word) for word in words
    )


def completed(hint: str, named: Named | None = None) -> str:
    """`hint` with the host in every command that takes one; by default the host of this run."""
    named = named or NAMED.get()
    if named is None or not hint:
        return hint
    parts, at = [], 0
    for found in COMMAND.finditer(hint):
        words = (found[1], found[2]) if (found[1], found[2]) in ways() else (found[1],)
        if words not in ways() or found.start() < at:
            continue
        end = found.end(1) if len(words) == 1 else found.end()
        rest = PHRASE.match(hint, end)
        phrase = rest.group() if rest is not None else ""
        parts += [hint[at:end], _with_host(phrase, ways()[words], named)]
        at = end + len(phrase)
    return _with_ssh("".join([*parts, hint[at:]]), named)


def _with_host(phrase: str, way: str, named: Named) -> str:
    """What follows the words of one command."""
    if ASKS_FOR_HELP.search(phrase):
        return phrase
    option = re.search(r"(--host|-H) (\S+)", phrase)
    if option is not None:
        return phrase[: option.start(2)] + named.name + phrase[option.end(2) :]
    first = re.match(r" (\S+)", phrase)
    if first is not None and first[1] in named.others:
        return phrase
    known = (named.name, named.address, "HOST")
    if way == "argument" and first is not None and first[1] in known:
        return f" {named.name}{phrase[first.end() :]}"
    if not named.typed:
        return phrase
    return f" {named.name}{phrase}" if way == "argument" else f" --host {named.name}{phrase}"


def _with_ssh(hint: str, named: Named) -> str:
    if not named.ssh:
        return hint
    names = "|".join(re.escape(name) for name in {named.name, named.address} if name)
    there = re.compile(rf"\bssh (-t )?(?:{names})(?=$|[\s,;)'])( '?sudo)?")

    def way(found: re.Match[str]) -> str:
        sudo = found[2] or ""  # which may ask, and asks nobody without a terminal
        return f"ssh {'-t ' if sudo or found[1] else ''}{named.ssh}{sudo}"

    return there.sub(way, hint)


@cache
def ways() -> dict[tuple[str, ...], str]:
    """Every command that takes a host, and how: "argument" where it comes first, or "option"."""
    import typer.main

    from remotedl.cli.app import app

    table: dict[tuple[str, ...], str] = {("run",): "argument", ("shell",): "argument"}

    def walk(command: object, words: tuple[str, ...]) -> None:
        params = getattr(command, "params", [])
        arguments = [p.name for p in params if p.param_type_name == "argument"]
        options = [p for p in params if "--host" in p.opts]
        if arguments[:1] == ["host"]:
            table[words] = "argument"
        elif options:
            table[words] = "option"
        for name, sub in getattr(command, "commands", {}).items():
            walk(sub, (*words, name))

    walk(typer.main.get_command(app), ())
    return table
