"""Which files of the laptop a build reads. Pure but for `files_read`, which looks at the folder.

Only to know what to ask about: where a Dockerfile cannot be told apart (variables, heredocs, mounts
of the context), all of the context counts.
"""

from __future__ import annotations

import fnmatch
import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from remotedl.config.models import LocalImage
from remotedl.errors import ConfigError
from remotedl.images import devcontainer
from remotedl.images.order import instruction_lines
from remotedl.images.orders import context_of
from remotedl.images.wish import ImageWish

COPIES = re.compile(r"\s*(?:ONBUILD\s+)?(?:COPY|ADD)\s+(.*)", re.IGNORECASE | re.DOTALL)
MOUNT = re.compile(r"--mount=(\S+)", re.IGNORECASE)
ESCAPE = re.compile(r"^#\s*escape\s*=\s*`", re.IGNORECASE | re.MULTILINE)
"""Lines that go on by another sign."""
EVERYTHING = "."


def files_read(wish: ImageWish) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Files that say what is built, and files that are copied into it; whether there or not.

    Raises ConfigError.
    """
    recipes: list[Path] = []
    copied: list[Path] = []
    if wish.requirements:
        recipes.append(wish.places.find("project.requirements", wish.requirements))
    image = wish.image
    if not isinstance(image, LocalImage) and devcontainer.is_devcontainer(image):
        path = devcontainer.find(wish.folder, image)
        recipes.append(path)
        found = devcontainer.parse(
            path.read_text("utf-8", "replace"), path.relative_to(wish.folder).as_posix()
        )
        if found.dockerfile:
            image = LocalImage(dockerfile=found.dockerfile, context=found.context)
    if isinstance(image, LocalImage):
        said, files = _of_dockerfile(wish.folder, image)
        recipes += said
        copied += files
    return tuple(dict.fromkeys(recipes)), tuple(dict.fromkeys(copied))


def _of_dockerfile(folder: Path, image: LocalImage) -> tuple[list[Path], list[Path]]:
    root, path, context = context_of(folder, image.dockerfile, image.context)
    try:
        patterns = copied_by(path.read_text("utf-8", "replace"))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}", hint=f"ls -l '{path}'") from exc
    ignores = [path.with_name(f"{path.name}.dockerignore"), root / ".dockerignore"]
    files = [one.path for one in context if not one.name.endswith("/")]
    names = [path.relative_to(root).as_posix() for path in files]
    return [path, *ignores], [root / name for name in chosen(names, patterns)]


def copied_by(dockerfile: str) -> frozenset[str]:
    """What of the context a Dockerfile names, as patterns; "." is all of it. Pure."""
    found: set[str] = set()
    if ESCAPE.search(dockerfile):
        return frozenset([EVERYTHING])
    for text in _instructions(dockerfile):
        if any(map(_binds_context, MOUNT.findall(text))):
            return frozenset([EVERYTHING])
        match = COPIES.match(text)
        if match is not None:
            found |= set(_sources(match[1]))
    return frozenset([EVERYTHING]) if EVERYTHING in found else frozenset(found)


def chosen(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that a pattern means, or a folder above them. Pure."""
    known = list(patterns)
    if EVERYTHING in known:
        return list(names)
    return [name for name in names if any(_means(pattern, name) for pattern in known)]


def _means(pattern: str, name: str) -> bool:
    """As Go's path.Match: a star goes no further than its folder."""
    parts, words = name.split("/"), pattern.split("/")
    return len(words) <= len(parts) and all(
        fnmatch.fnmatchcase(part, word) for part, word in zip(parts, words, strict=False)
    )


def _binds_context(mount: str) -> bool:
    """A RUN that sees the context; `bind` is what a mount is where it names no type."""
    words = dict(word.partition("=")[::2] for word in mount.lower().split(","))
    return words.get("type", "bind") == "bind" and "from" not in words


def _instructions(dockerfile: str) -> Iterator[str]:
    lines = dockerfile.splitlines()
    starts = [number - 1 for number in instruction_lines(dockerfile)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        kept = [one for one in lines[start:end] if not one.lstrip().startswith("#")]
        yield " ".join(line.rstrip().removesuffix("\\") for line in kept)


def _sources(rest: str) -> Iterator[str]:
    """The sources of one COPY or ADD."""
    rest = rest.strip()
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        rest = rest.strip()
        if flag.lower().startswith("--from="):
            return
    if "<<" in rest or "$" in rest:
        yield EVERYTHING
        return
    try:
        words = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
    except ValueError:
        words = [EVERYTHING, ""]
    for word in words[:-1]:
        if not str(word).startswith(("http://", "https://", "git@")):
            yield posixpath.normpath(f"/{word}").lstrip("/") or EVERYTHING
