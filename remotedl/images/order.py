"""What a builder is asked for: `Order` says what the image is, `Sources` where packages are from.

Values only. An order decides the recipe's hash; sources leave no trace in the image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from remotedl import __version__
from remotedl.engine.explain import engine_error
from remotedl.errors import BuildFailed, EngineError, ImageNotFound
from remotedl.images.recipe import ContextFile

RECIPE_LABEL = "remotedl.recipe"
VERSION_LABEL = "remotedl.version"
LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Order:
    """One image to be built."""

    title: str
    """What the user calls it: "base", "Dockerfile"."""
    tag: str
    recipe: str
    """The hash of all that it is made of."""
    context: tuple[ContextFile, ...] = ()
    replaced: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the context that were written just now."""
    dockerfile: str = "Dockerfile"
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    """Bytes that it may take; 0: not known."""
    mend: str = ""
    """What the user mends when a step fails; "": the Dockerfile, which is the user's own."""

    @property
    def all_labels(self) -> dict[str, str]:
        return {**self.labels, RECIPE_LABEL: self.recipe, VERSION_LABEL: __version__}

    def dockerfile_text(self) -> bytes:
        """Raises BuildFailed when the context holds no such file."""
        if self.dockerfile in self.replaced:
            return self.replaced[self.dockerfile]
        for one in self.context:
            if one.name == self.dockerfile:
                return one.open().read()
        raise BuildFailed(
            f"there is no {self.dockerfile} in the context of {self.title}",
            hint="check `image` in hosts.toml: dockerfile is relative to context",
        )


@dataclass(frozen=True, slots=True)
class Sources:
    """Where packages come from during a build."""

    pip_index: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)

    @property
    def proxy_args(self) -> dict[str, str]:
        """Build arguments that both builders know undeclared and keep out of the history."""
        if not self.proxy:
            return {}
        names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
        return dict.fromkeys(names, self.proxy)

    @property
    def host_network(self) -> bool:
        """A proxy on the host's own loopback is reached from nowhere but the host's network."""
        return urlsplit(self.proxy).hostname in ("127.0.0.1", "localhost", "::1")


FROM = re.compile(r"^\s*FROM\s+(?:--platform=\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?", re.I | re.M)
ARG = re.compile(r"^\s*ARG\s+(\w+)=(\S+)", re.I | re.M)
DECLARED = re.compile(r"^\s*ARG\s+(\w+)", re.I | re.M)
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")


def base_images(dockerfile: str, build_args: Mapping[str, str]) -> dict[str, int]:
    """The images that a Dockerfile starts from, its stages left out, and the lines they are on."""
    given = {name: value.strip("\"'") for name, value in ARG.findall(dockerfile)} | dict(build_args)

    def value(match: re.Match[str]) -> str:
        return given.get(match[1] or match[3]) or match[2] or ""

    stages: set[str] = set()
    found: dict[str, int] = {}
    for match in FROM.finditer(dockerfile):
        reference, stage = match.groups()
        image = VARIABLE.sub(value, reference)
        if image and image != "scratch" and image not in stages:
            found.setdefault(image, dockerfile.count("\n", 0, match.start(1)) + 1)
        if stage:
            stages.add(stage)
    return found


def declared_arguments(dockerfile: str) -> frozenset[str]:
    """The build arguments that a Dockerfile knows."""
    return frozenset(DECLARED.findall(dockerfile))


def instruction_lines(dockerfile: str) -> tuple[int, ...]:
    """The line (from 1) that each instruction begins on; a comment is none, nor what continues."""
    found: list[int] = []
    continued = False
    for number, line in enumerate(dockerfile.splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not continued:
            found.append(number)
        continued = text.endswith("\\")
    return tuple(found)


BAD_LINE = re.compile(r"dockerfile parse error (?:on )?line (\d+): ([^;]+)", re.IGNORECASE)


def unbuilt(order: Order, why: str) -> BuildFailed:
    """No step was begun: the Dockerfile cannot be read, or the builder would not have it."""
    match = BAD_LINE.search(why)
    if match is None:
        hint = f"mend {order.dockerfile}, then: remotedl up"
        return BuildFailed(f"building {order.title} failed: {why}", hint=hint)
    return BuildFailed(
        f"building {order.title} failed at {order.dockerfile}:{match[1]}: {match[2].strip()}",
        hint="mend that line, then: remotedl up",
    )


def no_base(order: Order, step: str, reason: str) -> EngineError:
    """An image that the Dockerfile starts from is not to be had; `step` ends with its name.

    It is named as the Dockerfile has it, with its line; BuildKit says docker.io/library/debian:x.
    """
    text = order.dockerfile_text().decode("utf-8", "replace")
    bases = base_images(text, order.build_args)
    last = VARIABLE.sub(lambda match: order.build_args.get(match[1] or match[3], ""), step)
    known = [name for name in bases if last.endswith((name, f"{name}:latest"))]
    name = max(known, key=len, default=last.split()[-1])
    where = f"{order.dockerfile}:{bases[name]}, " if name in bases else ""
    error = engine_error(f"building {order.title} failed at {where}FROM {name}", reason)
    error.hint = error.hint.replace("IMAGE", name)
    if isinstance(error, ImageNotFound) and "docker login" not in error.hint:
        error.hint = "mend that line, then: remotedl up"
    return error


NO_WAY_OUT = re.compile(
    r"Temporary failure (?:in name resolution|resolving)|Could not resolve host"
    r"|Network is unreachable|Failed to establish a new connection|NewConnectionError",
    re.IGNORECASE,
)


def failure(order: Order, step: str, line: int, reason: str, said: list[str]) -> BuildFailed:
    """The failing line of the Dockerfile, the reason, and what it printed last."""
    own = not order.mend
    where = f"{order.dockerfile}:{line}, {step}" if line and own else " ".join(step.split())
    output = "".join(f"\n    {text}" for text in said[-LAST_LINES:])
    hint = f"mend {order.mend or 'that line'}, then: remotedl up"
    if any(NO_WAY_OUT.search(text) for text in said):
        hint = (
            "the host reaches no packages: remotedl image build --via-laptop, or set proxy or "
            "mirrors.pip of this host in hosts.toml"
        )
    return BuildFailed(
        f"building {order.title} failed at {where}: {reason.strip()}{output}", hint=hint
    )
