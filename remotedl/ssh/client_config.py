"""Reading ~/.ssh/config: what the user's own ssh would use for a host.

Host, Match, Include, tokens and `${ENV}` as OpenSSH's readconf.c has them, held against `ssh -G`
by tests/unit/ssh/test_client_config.py. Settings of hosts.toml go in front, as options on ssh's
command line do: OpenSSH takes the first value it meets.

Decision: a reader of our own, not `ssh -G`. Laptops without ssh need one anyhow, `ssh -G` tells
neither where a value stands nor whether anybody chose it, and paramiko's and fabric's readers know
no Include, quotes or comments, and visit the hops of a ProxyJump in the wrong order.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from remotedl.config.ssh_lines import BLANK, Line, next_word, parse, read_file
from remotedl.errors import ConfigError
from remotedl.shown import is_hidden

SYSTEM_FILE = Path("/etc/ssh/ssh_config")
RAW = ("proxycommand", "proxyjump", "localcommand", "remotecommand", "knownhostscommand")
"""Keywords whose value is the rest of the line, quotes and # included."""
SEVERAL = ("userknownhostsfile", "globalknownhostsfile", "revokedhostkeys", "canonicaldomains")
EVERY = ("identityfile", "certificatefile")
"""Keywords of which every line counts, not the first alone."""
ONE = (
    "hostname", "user", "port", "identityagent", "hostkeyalias", "identitiesonly", "checkhostip",
    "stricthostkeychecking", "hashknownhosts", "connecttimeout", "tag", "canonicalizehostname",
    "nohostauthenticationforlocalhost", *EVERY,
)  # fmt: skip
LONGEST_EXEC_S = 60.0
VARIABLE = re.compile(r"\$\{([^}]*)\}")
TIME = re.compile(r"([0-9]+)([smhdw]?)", re.IGNORECASE)
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
TIMES_LIMIT_S = 7 * 86400.0

Config = tuple[tuple[Line, ...], ...]
"""The lines of each file, the user's first."""


def default_files() -> tuple[Path, ...]:
    return (Path.home() / ".ssh" / "config", SYSTEM_FILE)


def read(files: Sequence[Path]) -> Config:
    """Every line of all files. Missing files are empty. Raises ConfigError."""
    return tuple(read_file(file, checked=file in default_files()) for file in files)


@dataclass(slots=True)
class Settings:
    """What counts for one host; keywords in lower case, every value a list of words."""

    alias: str
    values: dict[str, list[str]] = field(default_factory=dict)

    def one(self, keyword: str) -> str | None:
        found = self.values.get(keyword)
        return found[0] if found else None

    def yes(self, keyword: str) -> bool:
        return (self.one(keyword) or "no").lower() in ("yes", "true")

    def seconds(self, keyword: str) -> float | None:
        """A time as OpenSSH writes it: 10, 10s, 1m30s. Raises ConfigError."""
        text = self.one(keyword)
        if text is None:
            return None
        pieces = TIME.findall(text)
        if not pieces or "".join(number + unit for number, unit in pieces) != text:
            raise self._wrong(keyword, text, "a time like 10 or 1m30s")
        total = sum(int(number) * SECONDS[unit.lower()] for number, unit in pieces)
        return min(float(total), TIMES_LIMIT_S)

    def port(self) -> int:
        """Raises ConfigError."""
        text = self.one("port") or "22"
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
            raise self._wrong("port", text, "a number from 1 to 65535")
        return int(text)

    @property
    def user(self) -> str:
        return self.one("user") or getpass.getuser()

    @property
    def address(self) -> str:
        """HostName, in which %h is the name that was asked for."""
        name = self.one("hostname")
        if name is None:
            return self.alias
        return re.sub("%([%h])", lambda found: "%" if found[1] == "%" else self.alias, name)

    def expanded(self, text: str) -> str:
        """Tokens and `${ENV}` put in, and a ~ in front. Raises ConfigError."""
        return self._filled(VARIABLE.sub(self._variable, os.path.expanduser(text)))

    def paths(self, keyword: str, default: str = "") -> tuple[Path, ...]:
        """The files that a keyword names; none for "none"."""
        names = self.values.get(keyword, default.split())
        return tuple(Path(self.expanded(name)) for name in names if name.lower() != "none")

    def command(self) -> str | None:
        """The ProxyCommand, tokens put in; the shell sees `${ENV}` itself."""
        text = self.one("proxycommand")
        return None if text is None or text.lower() == "none" else self._filled(text)

    def _filled(self, text: str) -> str:
        tokens = self._tokens()

        def put(found: re.Match[str]) -> str:
            if found[1] not in tokens:
                raise ConfigError(
                    f'~/.ssh/config: "{text}" for {self.alias}: there is no token %{found[1]}'
                )
            return tokens[found[1]]

        return re.sub("%(.?)", put, text, flags=re.DOTALL)

    def _tokens(self) -> dict[str, str]:
        here = socket.gethostname()
        jump = self.one("proxyjump") or "none"
        values = {
            "%": "%", "d": str(Path.home()), "h": _lowered(self.address), "n": self.alias,
            "p": self.one("port") or "22", "r": self.user, "u": getpass.getuser(), "l": here,
            "L": here.partition(".")[0],
            "i": str(os.getuid()) if hasattr(os, "getuid") else "0",
            "j": "" if jump.lower() == "none" else jump,
            "k": (self.one("hostkeyalias") or "").lower() or self.alias,
        }  # fmt: skip
        whole = "".join(values[name] for name in "lhprj")
        values["C"] = hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest()
        return values

    def _variable(self, found: re.Match[str]) -> str:
        value = os.environ.get(found[1])
        if value is None:
            raise ConfigError(
                f"~/.ssh/config for {self.alias}: the environment has no {found[1]}",
                hint=f"export {found[1]}=…",
            )
        return value

    def _wrong(self, keyword: str, value: str, expected: str) -> ConfigError:
        return ConfigError(
            f'~/.ssh/config for {self.alias}: {keyword} "{value}": expected {expected}',
            hint=f"ssh -G {self.alias}",
        )


def lookup(config: Config | str, alias: str, first: Mapping[str, str]) -> Settings:
    """The settings for `alias`; `first` wins over what the files say.

    `config` is what `read` gave, or the text of one file. Raises ConfigError.
    """
    for value in (alias, *first.values()):
        if any(is_hidden(ch) for ch in value):
            raise ConfigError(f"{value!r} is no value for ssh: it holds control characters")
    files = (parse(config, "ssh_config"),) if isinstance(config, str) else config
    settings = Settings(alias)
    for keyword, value in first.items():
        if keyword.lower() == "proxyjump" and value.lower() != "none":
            settings.values.setdefault("proxycommand", ["none"])
        settings.values[keyword.lower()] = [value]
    reading = _Reading(settings, alias)
    reading.files(files)
    canonical = (settings.one("canonicalizehostname") or "no").lower() not in ("no", "false")
    if reading.wants_final or canonical:
        name = _plain_name(settings, canonical)
        settings.values["hostname"] = [name.replace("%", "%%")]
        _Reading(settings, name, final=True).files(files)
    return settings


class _Reading:
    """One pass over the files. ssh makes a second one where a `Match final` asks for it."""

    def __init__(self, settings: Settings, host: str, *, final: bool = False) -> None:
        self.wants_final = False
        self._settings = settings
        self._host = host
        self._final = final

    def files(self, files: Config) -> None:
        for lines in files:
            self._lines(lines, active=True, never=False)

    def _lines(self, lines: Sequence[Line], *, active: bool, never: bool) -> None:
        """`never`: the file is included by a block that does not count."""
        for line in lines:
            if line.keyword == "host":
                active = not never and self._is_host(line)
            elif line.keyword == "match":
                active = self._matches(line, never=never) and not never
            elif line.keyword == "include":
                for file in line.included:
                    self._lines(file, active=active, never=not active)
            else:
                self._take(line, active=active)

    def _take(self, line: Line, *, active: bool) -> None:
        keyword, values = line.keyword, self._settings.values
        words = list(line.words)
        if keyword in RAW:
            words = [line.rest.lstrip(BLANK + "=")]
            if keyword == "proxyjump":
                words = [words[0].partition("#")[0].rstrip()]
        elif keyword in ONE and any(words[1:2]):
            raise ConfigError(f'{line.where}: {keyword} takes one value, not "{line.rest}"')
        elif keyword in (*ONE, *SEVERAL) and not all(words[:1] or [""]):
            raise ConfigError(f"{line.where}: {keyword} has no value")
        elif keyword in SEVERAL and not all(words):
            raise ConfigError(f"{line.where}: {keyword} has an empty value")
        elif keyword not in SEVERAL:
            words = words[:1]
        if not active or (keyword == "connecttimeout" and words[0].lower() == "none"):
            return
        if keyword == "proxyjump" and ("proxycommand" in values or keyword in values):
            return
        if keyword == "proxycommand" and (values.get("proxyjump") or ["none"])[0].lower() != "none":
            return
        if keyword in EVERY:
            values.setdefault(keyword, [])
            values[keyword] += [word for word in words if word not in values[keyword]]
        elif words:
            values.setdefault(keyword, words)

    def _is_host(self, line: Line) -> bool:
        found = False
        for word in line.words:
            if not fits(self._host, word.removeprefix("!")):
                continue
            if word.startswith("!"):
                return False
            found = True
        return found

    def _matches(self, line: Line, *, never: bool) -> bool:
        """One Match line; every criterion counts, but a command is run for a match only."""
        rest, result, number = line.rest, not never, 0
        while rest:
            name, rest = next_word(rest)
            if name is None or name == "" or name.startswith("#"):
                break
            negated, name = name.startswith("!"), name.removeprefix("!").lower()
            if name == "all":
                return result and not negated
            number += 1
            if name in ("canonical", "final"):
                self.wants_final = self.wants_final or name == "final"
                met = self._final
            else:
                value, rest = next_word(rest)
                if not value or value.startswith("#"):
                    raise ConfigError(f"{line.where}: Match {name} has no value")
                met = self._meets(name, value, line, result)
            result = result and met is not negated
        if not number:
            raise ConfigError(f"{line.where}: a Match without a criterion")
        return result

    def _meets(self, name: str, value: str, line: Line, result: bool) -> bool:
        settings = self._settings
        if name == "host":
            return fits_any(settings.address.lower(), value.lower())
        if name == "originalhost":
            return fits_any(settings.alias.lower(), value.lower())
        if name == "user":
            return fits_any(settings.user, value)
        if name == "localuser":
            return fits_any(getpass.getuser(), value)
        if name == "tagged":
            return fits_any(settings.one("tag") or "", value)
        if name == "exec":
            return result and _succeeds(settings._filled(value))
        raise ConfigError(
            f"{line.where}: Match {name} is not understood",
            hint="set what the block sets in hosts.toml, and give the block another criterion",
        )


def fits(name: str, pattern: str) -> bool:
    """OpenSSH's patterns know * and ? alone."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def fits_any(name: str, patterns: str) -> bool:
    """A list with commas; a negated pattern that fits wins over all."""
    found = False
    for pattern in patterns.split(","):
        if fits(name, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _lowered(name: str) -> str:
    """Names of hosts are told in lower case; an IPv6 address stays as it is written."""
    return name if ":" in name else name.lower()


def _plain_name(settings: Settings, canonical: bool) -> str:
    """The name of the second pass: HostName, in a domain of CanonicalDomains where one has it."""
    name = _lowered(settings.address)
    dots = int(settings.one("canonicalizemaxdots") or 1)
    ways = (settings.one("proxyjump"), settings.one("proxycommand"))
    proxied = any(way is not None and way.lower() != "none" for way in ways)
    always = (settings.one("canonicalizehostname") or "").lower() == "always"
    if not canonical or name.count(".") > dots or (proxied and not always):
        return name
    for domain in settings.values.get("canonicaldomains", []):
        full = f"{name.rstrip('.')}.{domain}"
        try:
            socket.getaddrinfo(full, settings.port())
        except OSError:
            continue
        return full.lower()
    if (settings.one("canonicalizefallbacklocal") or "yes").lower() in ("no", "false"):
        raise ConfigError(
            f"~/.ssh/config: no domain of CanonicalDomains has a host {name}",
            hint=f"ssh -G {settings.alias}",
        )
    return name


def _succeeds(command: str) -> bool:
    """A Match exec: the user's own command, in the user's shell, as ssh runs it."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    argv = [shell, "-c", command] if os.name == "posix" else [os.environ["COMSPEC"], "/c", command]
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(argv, stdin=quiet, stdout=quiet, timeout=LONGEST_EXEC_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
