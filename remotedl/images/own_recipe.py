"""A catalogue image as a recipe of the project's own, to be changed there: `image recipe NAME`.

The catalogue builds an image on its parent, which is on a host only once it was built there. What
is written here stands alone: one Dockerfile with a stage for each image of the lineage, and the
files that they copy, each image's in a folder of its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from remotedl.errors import UsageError
from remotedl.images import catalogue
from remotedl.images.choose import Variant

COPY = re.compile(r"^COPY (?P<flags>(?:--\S+ )*)(?P<words>.*)$", re.MULTILINE)
ARGUMENT = re.compile(r"^ARG (\w+)(?:=.*)?$", re.MULTILINE)
README = "README.md"
LIST = "remotedl image list"


def recipe_files(word: str) -> dict[str, bytes]:
    """NAME or NAME:VARIANT (default: cpu) → path → content. Raises UsageError."""
    found = catalogue.find(word)
    if found is None:
        names = ", ".join(catalogue.names())
        raise UsageError(f"no image {word} is in the catalogue: {names}", hint=LIST)
    recipe, wanted = found
    chosen = next((one for one in recipe.variants if one.name == (wanted or "cpu")), None)
    if chosen is None:
        known = ", ".join(one.name for one in recipe.variants)
        raise UsageError(f"{recipe.name} has no variant {wanted}: {known}", hint=LIST)
    files: dict[str, bytes] = {}
    stages = [f"ARG BASE_IMAGE={chosen.base_image}\n"]
    parent = "${BASE_IMAGE}"
    for one in catalogue.lineage(recipe):
        folder = catalogue.folder(one.name)
        text = (folder / "Dockerfile").read_text("utf-8")
        stages.append(_stage(text, one.name, parent, _arguments(one, chosen)))
        files |= _copied(folder, one.name)
        parent = one.name
    return {"Dockerfile": "\n".join(stages).encode(), **files}


def write_recipe(project: Path, word: str) -> tuple[Path, str]:
    """Written into the project; its folder, and the lines for hosts.toml. Raises UsageError."""
    files = recipe_files(word)
    relative = f"docker/{word.partition(':')[0]}"
    folder = project / relative
    if folder.exists():
        raise UsageError(f"{folder} is there already", hint=f"mv {relative} {relative}.old")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    image = f'{{ dockerfile = "{relative}/Dockerfile", context = "{relative}" }}'
    return folder, f"[project]\nimage = {image}"


def _arguments(recipe: catalogue.Recipe, chosen: Variant) -> Mapping[str, str]:
    own = next((one for one in recipe.variants if one.name == chosen.name), None)
    return dict(own.build_args if own is not None else ())


def _stage(text: str, name: str, parent: str, arguments: Mapping[str, str]) -> str:
    """One image's Dockerfile as a stage of a bigger one. Pure."""

    def copied(match: re.Match[str]) -> str:
        *sources, target = match["words"].split()
        moved = [f"{name}/{source}" for source in sources]
        return " ".join(["COPY", *match["flags"].split(), *moved, target])

    def argument(match: re.Match[str]) -> str:
        value = arguments.get(match[1])
        return match[0] if value is None else f"ARG {match[1]}={value}"

    head, _, body = text.partition("FROM ${BASE_IMAGE}\n")
    comments = "".join(line for line in head.splitlines(True) if line.startswith("#"))
    return f"{comments}FROM {parent} AS {name}\n" + COPY.sub(copied, ARGUMENT.sub(argument, body))


def _copied(folder: Path, name: str) -> dict[str, bytes]:
    """What its COPY lines may take: all but the Dockerfile and what describes it."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("Dockerfile", README)
    }
