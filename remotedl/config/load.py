"""Finds hosts.toml, parses and validates it. An error names file, line, key and the way on."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from remotedl.config.models import Config, HostConfig, LocalImage
from remotedl.config.paths import config_dir
from remotedl.config.ssh_aliases import ssh_aliases
from remotedl.config.values import AtKey
from remotedl.errors import ConfigError, ConfigNotFound

FILE_NAME = "hosts.toml"
SECRET = frozenset(["env", "build_args", "proxy", "mirrors"])
"""Tables and keys whose values are not repeated in an error."""

_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_PART = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_KEY = re.compile(rf"^\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+|[\w-]+(?:\.[\w-]+)+|[0-9a-fA-F:]*:[0-9a-fA-F:]+")


def find_config(folder: Path, explicit: Path | None = None) -> Path | None:
    """The hosts.toml that counts in `folder`: `explicit`, here or above, the user's own."""
    if explicit is not None:
        if not explicit.is_file():
            raise ConfigNotFound(f"{explicit}: there is no such file", hint="remotedl init")
        return explicit
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).exists():
            return candidate / FILE_NAME
    own = config_dir() / FILE_NAME
    return own if own.is_file() else None


def load_config(path: Path) -> Config:
    """Parse and validate. Raises ConfigError naming file, line and key."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin with a mark
        data = tomllib.loads(text)
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be read: {exc.strerror}", hint=f"ls -ld '{path}'"
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not UTF-8 at byte {exc.start}", hint=_edit(path)) from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: not TOML: {exc}", hint=_edit(path)) from exc
    try:
        config = Config.model_validate(data)
    except ValidationError as exc:
        raise ConfigError(_explain(path, text, exc), hint=_edit(path)) from exc
    if config.default_host is not None and config.default_host not in config.hosts:
        line = line_of(text, ("default_host",))
        raise ConfigError(
            f'{path}:{line}: default_host = "{config.default_host}" names no host; '
            f"there are: {_listed(config.hosts)}",
            hint=_edit(path),
        )
    return config


def choose_host(config: Config, name: str | None) -> tuple[str, HostConfig]:
    """The host that is meant: named, the default, or the only one. Raises ConfigNotFound.

    A name that hosts.toml does not hold is taken as it stands where it is an alias of
    ~/.ssh/config or looks like an address (`user@box`, `10.0.0.5`, `box.example.org`).
    """
    if name is None:
        if config.default_host is not None:
            return config.default_host, config.hosts[config.default_host]
        if len(config.hosts) == 1:
            return next(iter(config.hosts.items()))
        if not config.hosts:
            raise ConfigNotFound("no host is named and hosts.toml holds none", hint="remotedl init")
        raise ConfigNotFound(
            f"which host? hosts.toml holds {_listed(config.hosts)} and names no default_host",
            hint=f'name it, or set default_host = "{min(config.hosts)}" in hosts.toml',
        )
    if name in config.hosts:
        return name, config.hosts[name]
    if name in ssh_aliases() or _ADDRESS.fullmatch(name):
        return name, _host_named(name)
    known = list(dict.fromkeys([*config.hosts, *ssh_aliases()]))
    near = _nearest(name, known)
    hint = f"give its address under [hosts.{name}] in hosts.toml"
    if near or not config.hosts:
        hint = f"remotedl up {near}" if near else "remotedl init"
    raise ConfigNotFound(
        f'no host "{name}" in hosts.toml or ~/.ssh/config'
        + (f"; did you mean {near}?" if near else f"; there are: {_listed(known)}"),
        hint=hint,
    )


def _host_named(name: str) -> HostConfig:
    """The host that `user@address` or an alias means. Raises ConfigNotFound."""
    user, _, address = name.rpartition("@")
    try:
        return HostConfig(address=address, user=user or None)
    except ValidationError as exc:
        said = exc.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigNotFound(
            f"{name!r} is no host: expected {said}", hint="remotedl up --help"
        ) from exc


def line_of(text: str, keys: tuple[str, ...]) -> int:
    """The line (from 1) on which the dotted path `keys` is set; its table's line, or 1."""
    table: tuple[str, ...] = ()
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        key = _KEY.match(line) if header is None else None
        if header:
            table = _split(header[1])
            here = table
        elif key:
            here = table + _split(key[1])
        else:
            continue
        shared = len(here) if keys[: len(here)] == here else 0
        if shared > depth:
            best, depth = number, shared
    return best


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _explain(path: Path, text: str, error: ValidationError) -> str:
    first = max(error.errors(), key=lambda one: (len(one["loc"]), one["type"] == "extra_forbidden"))
    keys = _config_keys(first["loc"])
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, AtKey):
        keys = (*keys, inner.key)
    where = f"{path}:{line_of(text, keys)}: {'.'.join(keys)}"
    if first["type"] == "extra_forbidden":
        near = _nearest(keys[-1], _valid_keys(keys[:-1]))
        return f"{where}: unknown key" + (f"; the nearest valid one is {near}" if near else "")
    if first["type"] == "missing":
        return f"{where}: is missing"
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{where}{_shown(first['input'], keys)}: expected {said.removeprefix('expected ')}"


def _shown(value: Any, keys: tuple[str, ...]) -> str:
    """What stands there; nothing of tables and of what may hold a password."""
    if SECRET.intersection(keys) or not isinstance(value, str | int | float):
        return ""
    return f" = {value!r}"


def _config_keys(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys as hosts.toml has them: pydantic names the branch of a union as well."""
    here: Any = Config
    keys: list[str] = []
    for part in loc:
        if isinstance(part, int):
            break
        if part in (LocalImage.__name__, str.__name__):
            continue
        fields = _fields(here)
        if fields is None and _value_type(here) is None:
            break
        keys.append(part)
        here = _value_type(here) if fields is None else fields.get(part)
    return tuple(keys)


def _fields(annotation: Any) -> dict[str, Any] | None:
    """The keys of a table and what each holds; None where no table can stand."""
    for model in (annotation, *get_args(annotation)):
        if isinstance(model, type) and issubclass(model, BaseModel) and not _value_type(annotation):
            return {name: info.annotation for name, info in model.model_fields.items()}
    return None


def _value_type(annotation: Any) -> Any:
    """What a dict holds; None for everything else."""
    return get_args(annotation)[1] if get_origin(annotation) is dict else None


def _valid_keys(table: tuple[str, ...]) -> list[str]:
    model: Any = Config
    for part in table:
        fields = _fields(model)
        model = _value_type(model) if fields is None else fields.get(part)
    fields = _fields(model)
    return list(fields) if fields is not None else []


def _nearest(word: str, words: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, sorted(words), 1, 0.5)), None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _edit(path: Path) -> str:
    return f"edit {path}; hosts.example.toml shows every key"
