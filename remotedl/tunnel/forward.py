"""What a user writes after -L, -R and -D, taken apart. Pure: opens nothing, resolves nothing.

The grammar is ssh's, with two liberties: the target's host may be left out (then it is the other
side's own loopback), and a lone PORT stands for the same port on both sides.

    PORT                            8888           = 8888:8888
    [BIND:]PORT:PORT                8888:80, 0.0.0.0:8888:80
    [BIND:]PORT:HOST:PORT           8888:db:5432, [::1]:8888:[fd00::2]:80
    PATH in place of [BIND:]PORT or HOST:PORT, where it starts with / ./ or ~/
                                    /tmp/x.sock:80, 2375:/run/docker.sock
"""

from __future__ import annotations

from dataclasses import dataclass

from remotedl.errors import UsageError

LOOPBACK = "127.0.0.1"
EXAMPLES = {"-L": "-L 8080:80", "-R": "-R 8080:3000", "-D": "-D 1080"}


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """A TCP port at a host. As a listener, `host` None is "not told": loopback."""

    host: str | None
    port: int

    def __str__(self) -> str:
        host = self.host or LOOPBACK
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """A unix socket at a path, not yet expanded."""

    path: str

    def __str__(self) -> str:
        return self.path


Place = TcpPlace | UnixPlace


@dataclass(frozen=True, slots=True)
class Forward:
    """Connections to `listen` come out at `target`, each on its own side of the link."""

    listen: Place
    target: Place

    def __str__(self) -> str:
        return f"{self.listen} -> {self.target}"


def parse_forward(text: str, option: str = "-L") -> Forward:
    """`[BIND:]PORT:[HOST:]PORT` with unix paths on either side. Raises UsageError.

    Serves -R as well: there the listener is the host's and the target the laptop's.
    """
    fields = _fields(text, option)
    if len(fields) == 1 and not _is_path(fields[0]):
        port = _port(fields[0], text, option)
        return Forward(TcpPlace(None, port), TcpPlace(LOOPBACK, port))
    listen, rest = _listener(fields, text, option)
    return Forward(listen, _target(rest, text, option))


def parse_dynamic(text: str) -> TcpPlace:
    """`[BIND:]PORT` of a SOCKS listener. Raises UsageError."""
    fields = _fields(text, "-D")
    if len(fields) > 2:
        raise _wrong(text, "-D", "takes [BIND:]PORT and no target")
    bind = _host(fields[0], text, "-D") if len(fields) == 2 else None
    return TcpPlace(bind, _port(fields[-1], text, "-D"))


def _fields(text: str, option: str) -> list[str]:
    """Split at colons; a [bracketed] IPv6 address is one field, its brackets kept."""
    fields, depth = [""], 0
    for char in text.strip():
        if char == ":" and depth == 0:
            fields.append("")
            continue
        depth += {"[": 1, "]": -1}.get(char, 0)
        if depth not in (0, 1):
            raise _wrong(text, option, "has brackets that do not match")
        fields[-1] += char
    if depth:
        raise _wrong(text, option, "has brackets that do not match")
    if fields[0] == "" and len(fields) > 1:
        fields[0] = "*"  # ssh: an empty BIND means every address
    if not text.strip():
        raise _wrong(text, option, "is empty")
    if "" in fields:
        ipv6 = " (IPv6 addresses go in [brackets])" if "::" in text else ""
        raise _wrong(text, option, f"has an empty field{ipv6}")
    return fields


def _listener(fields: list[str], text: str, option: str) -> tuple[Place, list[str]]:
    if _is_path(fields[0]):
        return UnixPlace(fields[0]), fields[1:]
    if _is_number(fields[0]):
        return TcpPlace(None, _port(fields[0], text, option)), fields[1:]
    bind = _host(fields[0], text, option)
    return TcpPlace(bind, _port(fields[1], text, option)), fields[2:]


def _target(fields: list[str], text: str, option: str) -> Place:
    if not fields:
        raise _wrong(text, option, "says where to listen and not where to go")
    if len(fields) > 2:
        raise _wrong(text, option, "has too many fields (IPv6 addresses go in [brackets])")
    if len(fields) == 1:
        if _is_path(fields[0]):
            return UnixPlace(fields[0])
        return TcpPlace(LOOPBACK, _port(fields[0], text, option))
    if _is_path(fields[0]):
        raise _wrong(text, option, "has a port after a unix path")
    return TcpPlace(_host(fields[0], text, option), _port(fields[1], text, option))


def _host(field: str, text: str, option: str) -> str:
    if field.startswith("[") != field.endswith("]"):
        raise _wrong(text, option, "has brackets that do not match")
    if _is_path(field):
        raise _wrong(text, option, "has a unix path where a host is expected")
    if _is_number(field):
        raise _wrong(text, option, f'has "{field}" where a host is expected')
    return field.strip("[]")


def _port(field: str, text: str, option: str) -> int:
    if not _is_number(field):
        raise _wrong(text, option, f'has "{field}" where a port is expected')
    port = int(field)
    if not 1 <= port <= 65535:
        raise _wrong(text, option, f"has port {field}; ports go from 1 to 65535")
    return port


def _is_number(field: str) -> bool:
    return field.isascii() and field.isdigit()


def _is_path(field: str) -> bool:
    return field.startswith(("/", "./", "~/"))


def _wrong(text: str, option: str, why: str) -> UsageError:
    return UsageError(f'{option} "{text}" {why}', hint=f"remotedl tunnel {EXAMPLES[option]}")
