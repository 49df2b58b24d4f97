"""The orders that an image is made of: from the catalogue, a project's Dockerfile, the thin layer
under foreign images, and a project's own packages. Reads files of the laptop; builds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from remotedl.config.below import read_plain
from remotedl.errors import ConfigError
from remotedl.images import catalogue
from remotedl.images.choose import Variant
from remotedl.images.dockerignore import left_out_by
from remotedl.images.order import Order, declared_arguments
from remotedl.images.recipe import ContextFile, context_files, recipe_hash
from remotedl.images.requirements import read as read_requirements
from remotedl.images.wish import ImageRef

REPOSITORY = "remotedl"
TAG_LENGTH = 12
README = "README.md"
"""Not part of a recipe: a word changed in it must not rebuild every image."""
OWN_FOLDER = ".remotedl"
MANY = 2_000_000_000
"""Bytes of a context that make one wonder whether the data set was meant to be in it."""

REQUIREMENTS_DOCKERFILE = b"""\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
USER 0
ARG PIP_INDEX_URL
COPY requirements.txt install.sh /opt/remotedl/recipe/project/
RUN --mount=type=cache,target=/root/.cache/pip,id=remotedl-pip \\
    --mount=type=secret,id=pip,target=/etc/pip.conf \\
    sh /opt/remotedl/recipe/project/install.sh
"""
REQUIREMENTS_INSTALL = b"""\
# Installs the project's packages into the Python that is the kernel: the image's own, or Jupyter's.
set -eu
umask 0
ours=/opt/remotedl/bin/python
kernel=/opt/remotedl/share/jupyter/kernels/python3/kernel.json
python=$("$ours" -c 'import json, sys; print(json.load(open(sys.argv[1]))["argv"][0])' "$kernel")
case $python in
/opt/remotedl/* | python*) python=$ours ;;
esac
# What a distribution has against pip is about a system that people log in to.
export PIP_BREAK_SYSTEM_PACKAGES=1
if "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m pip install -r /opt/remotedl/recipe/project/requirements.txt
else
    "$ours" -m pip --python "$python" install -r /opt/remotedl/recipe/project/requirements.txt
fi
"""


def catalogue_order(
    recipe: catalogue.Recipe, variant: Variant, parent: str, given: Mapping[str, str]
) -> Order:
    """One image of the catalogue, on top of `parent`; `given` are the user's own arguments."""
    context = _plain(catalogue.folder(recipe.name), lambda name: name == README)
    (own,) = (one for one in recipe.variants if one.name == variant.name)
    dockerfile = (catalogue.folder(recipe.name) / "Dockerfile").read_text("utf-8")
    # Only what it declares: what another image of the lineage is for must not make this one anew.
    known = declared_arguments(dockerfile)
    asked = {**dict(own.build_args), **given}
    arguments = {"BASE_IMAGE": parent} | {n: v for n, v in asked.items() if n in known}
    if recipe.parent:
        # The user's base image is under the lowest of the lineage; this one stands on its parent.
        arguments["BASE_IMAGE"] = parent
    order = _order(recipe.name, context, arguments)
    return replace(
        order,
        labels={"remotedl.variant": variant.name},
        mend="what it says",
        size=recipe.size(bool(variant.cuda)),
    )


def thin_order(reference: str, image_id: str) -> Order:
    """Jupyter on top of a foreign image; another image under the same name is another recipe."""
    folder = catalogue.folder("thin")
    base = catalogue.folder("base")
    context = _plain(folder, lambda name: name in (README, "Dockerfile"))
    jupyter = _plain(base, lambda name: not name.startswith("jupyter/"))
    moved = tuple(replace(one, name=f"recipe/{one.name}") for one in (*context, *jupyter))
    dockerfile = _plain(folder, lambda name: name != "Dockerfile")
    name = reference.rpartition("/")[2].partition("@")[0].replace(":", "-").lower()
    order = _order(
        f"jupyter-on-{name}", (*dockerfile, *moved), {"BASE_IMAGE": reference}, parent=image_id
    )
    title = f"Jupyter on {reference}"
    return replace(order, title=title, mend="what it says", size=catalogue.THIN_SIZE)


def local_order(
    folder: Path, dockerfile: str, context: str, target: str, arguments: Mapping[str, str]
) -> Order:
    """A Dockerfile of the project's own; both paths are relative to the project's `folder`.

    As docker has it, the Dockerfile may lie outside its context. Raises ConfigError.
    """
    root, path, files = context_of(folder, dockerfile, context)
    size = sum(one.size for one in files)
    if size > MANY:
        raise ConfigError(
            f"the build context {root} holds {size / 1e9:.1f} GB, all of which would be sent",
            hint=f"list what the build does not need in {root / '.dockerignore'}",
        )
    inside = path.resolve().is_relative_to(root.resolve())
    name = (
        path.resolve().relative_to(root.resolve()).as_posix() if inside else "Dockerfile.remotedl"
    )
    written = {}
    if not inside or not any(one.name == name for one in files):
        # .dockerignore may leave out the Dockerfile itself
        written = {name: read_plain(path, folder)}
    order = _order(folder.resolve().name, files, arguments, dockerfile=name, written=written)
    return replace(order, title=dockerfile, target=target)


def context_of(
    folder: Path, dockerfile: str, context: str
) -> tuple[Path, Path, tuple[ContextFile, ...]]:
    """The context, the Dockerfile, and what of the context is sent. Raises ConfigError."""
    root, path = folder / context, folder / dockerfile
    if not root.is_dir():
        raise ConfigError(
            f"the build context {root} is no folder", hint="check `image` in hosts.toml"
        )
    if not path.is_file() and not (root / dockerfile).is_file():
        raise ConfigError(f"there is no {path}", hint="check `image` in hosts.toml")
    path = path if path.is_file() else root / dockerfile
    return root, path, context_files(root, left_out=_ignored(root, path))


def requirements_order(
    ref: ImageRef, name: str, text: str | bytes
) -> tuple[Order, tuple[str, ...]]:
    """A project's packages on top of `ref`, and what could not be asked of pip."""
    found = read_requirements(name, text)
    written = {
        "Dockerfile": REQUIREMENTS_DOCKERFILE,
        "install.sh": REQUIREMENTS_INSTALL,
        "requirements.txt": found.text,
    }
    arguments = {"BASE_IMAGE": ref.reference}
    order = _order("project", (), arguments, parent=ref.recipe or ref.id, written=written)
    return replace(order, title=name, mend=name), found.left_out


def _order(
    name: str,
    context: tuple[ContextFile, ...],
    arguments: Mapping[str, str],
    *,
    parent: str = "",
    dockerfile: str = "Dockerfile",
    written: Mapping[str, bytes] | None = None,
) -> Order:
    hashed = recipe_hash(
        context, dockerfile, arguments, parent or arguments.get("BASE_IMAGE", ""), written or {}
    )
    return Order(
        title=name,
        tag=f"{REPOSITORY}/{_image_name(name)}:{hashed[:TAG_LENGTH]}",
        recipe=hashed,
        context=context,
        replaced=written or {},
        dockerfile=dockerfile,
        build_args=arguments,
    )


def _plain(folder: Path, left_out: Callable[[str], bool]) -> tuple[ContextFile, ...]:
    """Files of our own, none of them to be run as it is: Windows has no mode that could say so."""
    files = context_files(folder, left_out)
    return tuple(one if one.name.endswith("/") else replace(one, mode=0o644) for one in files)


def _image_name(name: str) -> str:
    """A folder's name as docker allows names: small letters, digits, and single separators."""
    kept = "".join(char if char.isascii() and char.isalnum() else "-" for char in name.lower())
    return "-".join(part for part in kept.split("-") if part) or "project"


def _ignored(root: Path, dockerfile: Path) -> Callable[[str], bool]:
    """By the Dockerfile's own ignore file if it has one, else by the context's; ours always.

    What the sync keeps in the project changes all the time, and would be another image each time.
    """
    theirs = left_out_by("")
    for place in (dockerfile.with_name(f"{dockerfile.name}.dockerignore"), root / ".dockerignore"):
        if place.is_file():
            theirs = left_out_by(read_plain(place, root).decode("utf-8-sig", "surrogateescape"))
            break
    return lambda name: name.partition("/")[0] == OWN_FOLDER or theirs(name)
