"""The images that a single word stands for, and the variants that each is built in.

The recipes are the folders of dockerfiles/: inside the wheel when remotedl is installed, beside
the package in a checkout. An image is built on its parent, so that they share layers; the lowest
starts from the variant's base image.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from remotedl.errors import ConfigError
from remotedl.images.choose import Variant

BOTH = ("amd64", "arm64")
AMD64 = ("amd64",)

# The runtime images of NVIDIA's own account; EOL tags are deleted six months later (docs/images.md
# tells how to move on), so each is a line of its own and nothing else names one.
CPU = Variant("cpu", "debian:bookworm-slim", BOTH)
CU126 = Variant("cu126", "nvidia/cuda:12.6.3-runtime-ubuntu24.04", BOTH, "12.6")
CU130 = Variant("cu130", "nvidia/cuda:13.0.2-runtime-ubuntu24.04", BOTH, "13.0")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image of the catalogue."""

    name: str
    summary: str
    parent: str = ""
    """The catalogue image that it is built on; "": the variant's base image."""
    variants: tuple[Variant, ...] = (CPU, CU126, CU130)
    size_budget: int = 0
    """Bytes that the cpu variant may have in all, before a test asks why it grew."""


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "base",
        "JupyterLab, TensorBoard, numpy, pandas, matplotlib, scikit-learn",
        size_budget=1_300_000_000,
    ),
)


def names() -> tuple[str, ...]:
    """The words that `image = "…"` knows, sorted."""
    return tuple(sorted(recipe.name for recipe in RECIPES))


def find(word: str) -> tuple[Recipe, str] | None:
    """The recipe that NAME or NAME:VARIANT stands for, and the variant; None for a reference."""
    name, _, variant = word.partition(":")
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe, variant
    return None


def lineage(recipe: Recipe) -> tuple[Recipe, ...]:
    """The recipe and those that it is built on, lowest first."""
    if not recipe.parent:
        return (recipe,)
    (parent,) = (one for one in RECIPES if one.name == recipe.parent)
    return (*lineage(parent), recipe)


def folder(recipe: Recipe) -> Path:
    """Where the recipe's Dockerfile lies on this machine."""
    installed = Path(str(files("remotedl"))) / "dockerfiles"
    checkout = Path(str(files("remotedl"))).parent / "dockerfiles"
    for place in (installed / recipe.name, checkout / recipe.name):
        if (place / "Dockerfile").is_file():
            return place
    raise ConfigError(
        f"the recipe of image {recipe.name} is missing from this installation ({installed})",
        hint="pip install --force-reinstall remotedl",
    )
