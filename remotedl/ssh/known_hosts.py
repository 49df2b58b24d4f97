"""Whether a host's key is the one we know: known_hosts files, read and added to.

OpenSSH's format in full (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): several names to a line,
wildcards, negation, hashed names, `[host]:port`, @revoked, @cert-authority. A line that cannot be
read is passed over, as OpenSSH does. No key is accepted in this file: it says what is known;
`host_key.py` decides.
"""

from __future__ import annotations

import base64
import binascii
import errno
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

MARKERS = ("", "@revoked", "@cert-authority")


class Verdict(Enum):
    """What known_hosts says about a key."""

    KNOWN = "known"
    """The very key is listed."""
    UNKNOWN = "unknown"
    """The host is not listed."""
    CHANGED = "changed"
    """The host is listed, with other keys."""
    REVOKED = "revoked"
    """The key is listed as one that must not be trusted any more."""


@dataclass(frozen=True, slots=True)
class Key:
    """A host's public key: its type as known_hosts names it, and the key itself."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As OpenSSH shows it: SHA256: and base64 without padding."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return f"SHA256:{digest.rstrip('=')}"

    @property
    def line(self) -> str:
        """As a .pub file holds it, and known_hosts behind a name."""
        return f"{self.kind} {base64.b64encode(self.blob).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a known_hosts file."""

    marker: str
    """"" or "@revoked" or "@cert-authority"."""
    patterns: tuple[str, ...]
    key: Key
    file: Path
    number: int


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """The lines of all files that count, in their order."""

    lines: tuple[Line, ...]

    def known_keys(self, name: str) -> tuple[Line, ...]:
        """The lines that vouch for the host that known_hosts calls `name`."""
        return tuple(
            line for line in self.lines if line.marker == "" and matches(line.patterns, name)
        )

    def authorities(self, name: str) -> tuple[Key, ...]:
        """The keys whose certificates vouch for the host that known_hosts calls `name`."""
        marked = (line for line in self.lines if line.marker == "@cert-authority")
        return tuple(line.key for line in marked if matches(line.patterns, name))

    def revoked(self, name: str, *keys: Key) -> bool:
        """Whether one of `keys` must not be trusted for this host any more."""
        marked = (line for line in self.lines if line.marker == "@revoked" and line.key in keys)
        names = {name, _without_port(name)}
        return any(matches(line.patterns, at) for line in marked for at in names)

    def judge(self, name: str, key: Key) -> Verdict:
        """`name` is the host's name as `known_name` gives it, or its HostKeyAlias.

        As in OpenSSH, a host that is known without its port vouches for the same key behind
        another port, but not against another key there.
        """
        if self.revoked(name, key):
            return Verdict.REVOKED
        known = self.known_keys(name)
        if any(line.key == key for line in known):
            return Verdict.KNOWN
        if known:
            return Verdict.CHANGED
        if any(line.key == key for line in self.known_keys(_without_port(name))):
            return Verdict.KNOWN
        return Verdict.UNKNOWN


def known_name(host: str, port: int) -> str:
    """A host's name as known_hosts writes it."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def read(files: Iterable[Path]) -> KnownHosts:
    """All lines of all files; a file that is missing or unreadable holds none."""
    lines: list[Line] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines += parse(text, file)
    return KnownHosts(tuple(lines))


def parse(text: str, file: Path) -> list[Line]:
    lines = enumerate(text.split("\n"), 1)
    parsed = (_parse_line(line, file, number) for number, line in lines)
    return [line for line in parsed if line is not None]


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a line's patterns name this host; a negated one that matches wins over all."""
    found = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if fnmatch.fnmatchcase(name, _glob(pattern[1:])):
                return False
        elif pattern.startswith("|1|"):
            found = found or _matches_hash(pattern, name)
        else:
            found = found or fnmatch.fnmatchcase(name, _glob(pattern))
    return found


def add(file: Path, name: str, key: Key, *, hashed: bool = False) -> None:
    """Append a line in one write, so that another program's append never cuts it in two.

    The file keeps its inode (it may be a link into a folder of dotfiles); a missing one is made,
    readable by its owner alone. Raises OSError.
    """
    if any(char.isspace() or char in ",*?!#|" for char in name):
        raise OSError(errno.EINVAL, f"known_hosts cannot hold the name {name!r}")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{_hash(name) if hashed else name} {key.line}\n"
    if not _ends_with_newline(file):
        line = "\n" + line
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode("utf-8"))
    finally:
        os.close(descriptor)


def _without_port(name: str) -> str:
    return name[1:].partition("]")[0] if name.startswith("[") else name


def _parse_line(text: str, file: Path, number: int) -> Line | None:
    fields = text.split()
    if not fields or fields[0].startswith("#"):
        return None
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if len(fields) < 3 or marker not in MARKERS:
        return None
    key = read_key(fields[1], fields[2])
    if key is None:
        return None
    patterns = tuple(
        part if part.startswith("|1|") else part.lower() for part in fields[0].split(",")
    )
    return Line(marker, patterns, key, file, number)


def read_key(kind: str, encoded: str) -> Key | None:
    """A public key as known_hosts and .pub files write it; None where it is none."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    return (
        Key(kind, blob) if blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()) else None
    )


def _glob(pattern: str) -> str:
    """known_hosts knows * and ? alone; brackets are part of a name."""
    return pattern.replace("[", "[[]")


def _matches_hash(pattern: str, name: str) -> bool:
    try:
        _, _, salt, digest = pattern.split("|")
        expected = base64.b64decode(digest, validate=True)
        actual = hmac.digest(base64.b64decode(salt, validate=True), name.encode(), "sha1")
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(expected, actual)


def _hash(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _ends_with_newline(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            if stream.seek(0, os.SEEK_END) == 0:
                return True
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"\n"
    except OSError:
        return True
