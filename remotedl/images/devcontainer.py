"""What a devcontainer.json says that we can honour: image, build, forwardPorts, postCreateCommand.

Pure but for `find`. Features, lifecycle hooks other than postCreateCommand, and editors' settings
are left to editors; what is left out is listed, so that nobody waits for it in vain.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remotedl.config.models import is_image_name
from remotedl.errors import ConfigError

WORD = "devcontainer"
PLACES = (".devcontainer/devcontainer.json", ".devcontainer.json")
HONOURED = frozenset({"name", "image", "build", "dockerFile", "context", "forwardPorts"})
HONOURED |= {"postCreateCommand"}
IDLE = frozenset({"$schema", "customizations", "remoteUser", "containerUser", "workspaceFolder"})
"""Keys that mean nothing here and whose absence nobody misses."""

# Strings are kept, comments and trailing commas are dropped: JSON with comments, as VS Code has it.
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/|,(?=\s*[\]}])', re.DOTALL)
COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


@dataclass(frozen=True, slots=True)
class DevContainer:
    """A devcontainer.json, as far as it goes for us."""

    image: str = ""
    dockerfile: str = ""
    """Relative to the project's folder; "" when an image is named."""
    context: str = "."
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    forward_ports: tuple[int, ...] = ()
    post_create: str = ""
    """For a shell in the new container, in the project's folder."""
    left_out: tuple[str, ...] = ()


def is_devcontainer(image: str) -> bool:
    """Whether `image = "…"` names a devcontainer.json rather than an image."""
    return image == WORD or image.endswith("devcontainer.json")


def find(folder: Path, image: str) -> Path:
    """The file that `image` names, or the first of the usual places. Raises ConfigError."""
    places = PLACES if image == WORD else (image,)
    for place in places:
        if (folder / place).is_file():
            return folder / place
    raise ConfigError(
        f"there is no {' and no '.join(places)} in {folder}",
        hint='set image = "base" in hosts.toml, or write the file',
    )


def parse(text: str, name: str) -> DevContainer:
    """`name` is the file's, relative to the project: its folder is what paths are relative to."""
    found = _json(text, name)
    build = _table(found, "build", name)
    folder = Path(name).parent
    dockerfile = _text(build, "dockerfile", name) or _text(found, "dockerFile", name)
    context = _text(build, "context", name) or _text(found, "context", name) or "."
    image = _text(found, "image", name)
    if image and not dockerfile and not is_image_name(image):
        raise _wrong(name, f'image = "{image}" is no name of an image')
    if not dockerfile and not image:
        raise ConfigError(
            f"{name} names no image and no build.dockerfile (Docker Compose is not supported)",
            hint="set `image` in hosts.toml instead",
        )
    return DevContainer(
        image="" if dockerfile else image,
        dockerfile=_inside(folder / dockerfile, name) if dockerfile else "",
        context=_inside(folder / context, name),
        target=_text(build, "target", name),
        build_args={key: str(value) for key, value in _table(build, "args", name).items()},
        forward_ports=_ports(found.get("forwardPorts") or (), name),
        post_create=_command(found.get("postCreateCommand"), name),
        left_out=tuple(sorted(found.keys() - HONOURED - IDLE)),
    )


def _json(text: str, name: str) -> dict[str, Any]:
    plain = COMMENT.sub(lambda match: match[1] or " ", text)
    plain = TOKEN.sub(lambda match: match[0] if match[0].startswith('"') else "", plain)
    try:
        found = json.loads(plain)
    except ValueError as exc:
        raise ConfigError(f"{name} is not valid: {exc}", hint=f"mend {name}") from exc
    if not isinstance(found, dict):
        raise _wrong(name, "expected an object")
    return found


def _text(table: dict[str, Any], key: str, name: str) -> str:
    value = table.get(key) or ""
    if not isinstance(value, str):
        raise _wrong(name, f"{key} is no text")
    return value


def _table(table: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    value = table.get(key) or {}
    if not isinstance(value, dict):
        raise _wrong(name, f"{key} is no object")
    return value


def _wrong(name: str, what: str) -> ConfigError:
    return ConfigError(f"{name} is not valid: {what}", hint=f"mend {name}")


def _inside(path: Path, name: str) -> str:
    """A path with its "..", taken apart, still relative to the project. Raises ConfigError."""
    parts: list[str] = []
    for part in path.parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise _wrong(name, f"{path} is outside the project's folder")
    return "/".join(parts) or "."


def _ports(given: Any, name: str) -> tuple[int, ...]:
    ports = []
    for one in given if isinstance(given, list | tuple) else ():
        number = str(one).rpartition(":")[2]
        if not number.isdigit() or not 0 < int(number) < 65536:
            raise _wrong(name, f"{one!r} in forwardPorts is no port")
        ports.append(int(number))
    return tuple(ports)


def _command(given: Any, name: str) -> str:
    """A string is for a shell, a list is argv, an object holds several of these."""
    if given is None:
        return ""
    if isinstance(given, str):
        return given
    if isinstance(given, list):
        return shlex.join(str(word) for word in given)
    if isinstance(given, dict):
        return " && ".join(f"({_command(one, name)})" for one in given.values())
    raise _wrong(name, "postCreateCommand is neither text, a list nor an object")
