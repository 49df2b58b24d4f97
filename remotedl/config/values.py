"""What a value of hosts.toml may hold, so that it stays a value wherever it is used. Pure.

Values reach ssh's configuration, argv of ssh and git, unit files, headers and files of ours: a
newline there is another line, a dash in front another option, and `$(` in a host's name is run by
a ProxyCommand that holds %h. Which characters a host and a user may have is what OpenSSH itself
accepts from its command line (`valid_hostname`, `valid_ruser` in its ssh.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from remotedl.shown import is_hidden

HOST_EXPECTED = "a name or an address: not empty, no spaces, no quotes, none of $ ` ; & | < > ( )"
USER_EXPECTED = "the name of a user: no quotes, none of ` ; & | < > ( ), no - in front"
IN_HOST = re.compile(r"""[^-\s'"`$\\;&<>|(){}@][^\s'"`$\\;&<>|(){}@]*""")
IN_USER = re.compile(r"""(?!-)(?:[^'"`;&<>|(){}\s\\]|\\(?!$)|[ ](?![-\s]|$))+""")
HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<v6>[^\]@]+)\]|(?P<host>[^:\[\]@]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
HOP_EXPECTED = "[user@]host[:port], or several with commas"


class AtKey(ValueError):
    """A ValueError about one entry of a table, whose other entries are not to be shown."""

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(expected)
        self.key = key


def all_seen(value: object) -> None:
    """Raises ValueError where a text in it has a character that cannot be seen."""
    if any(is_hidden(ch) for text in _texts(value) for ch in text):
        raise ValueError("text in one line, without control characters")


def all_seen_in_lines(table: Mapping[str, object]) -> None:
    """As `all_seen`, for a table whose values may have several lines. Raises AtKey."""
    for key, value in table.items():
        all_seen(key)
        if any(is_hidden(ch) and ch not in "\n\t" for text in _texts(value) for ch in text):
            raise AtKey(key, "text without control characters")


def host_name(value: str) -> str:
    """What ssh takes as a host. Raises ValueError."""
    if IN_HOST.fullmatch(value) is None:
        raise ValueError(HOST_EXPECTED + _dashed(value))
    return value


def user_name(value: str) -> str:
    """What ssh takes as a user. Raises ValueError."""
    if IN_USER.fullmatch(value) is None:
        raise ValueError(USER_EXPECTED)
    return value


def jump_hosts(value: str) -> str:
    """ProxyJump's value, each hop of which is a user and a host. Raises ValueError."""
    if value.lower() == "none":
        return value
    for word in value.split(","):
        match = HOP.fullmatch(word.strip())
        if match is None:
            raise ValueError(HOP_EXPECTED)
        if match["user"] is not None:
            user_name(match["user"])
        host_name(match["v6"] or match["host"])
    return value


def argument(value: str) -> str:
    """A word that must not be taken for an option. Raises ValueError."""
    if not value.strip() or value.startswith("-"):
        raise ValueError("a value that is not empty and has no - in front")
    return value


def web_address(value: str) -> str:
    """A URL of a proxy. Raises ValueError."""
    return _url(value, ("http", "https"))


def repository(value: str) -> str:
    """A URL of packages, which may lie on the host's own disk. Raises ValueError."""
    return _url(value, ("http", "https", "file"))


def _url(value: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in schemes and (parts.scheme == "file" or bool(parts.hostname))
        valid = valid and parts.port != 0
    except ValueError:
        valid = False
    if not valid or re.search(r"[\s'\"`\\<>]", value):
        raise ValueError("an address that begins with https:// or http://, without spaces")
    return value


def _dashed(value: str) -> str:
    return ", no - in front" if value.startswith("-") else ""


def _texts(value: object) -> Iterator[str]:
    """Every text in a value as TOML gives it: keys and values of tables, items of lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
