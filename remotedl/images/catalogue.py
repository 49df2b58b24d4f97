"""The images that a single word stands for, and the variants that each is built in.

The recipes are the folders of dockerfiles/: inside the wheel when remotedl is installed, beside
the package in a checkout. An image is built on its parent, so that they share layers; the lowest
starts from the variant's base image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from remotedl.errors import ConfigError
from remotedl.images.choose import Variant

BOTH = ("amd64", "arm64")

# NVIDIA's own account on Docker Hub. EOL tags are deleted six months later; docs/images.md tells
# how the digests were come by and how to move on.
CUDA_12_6 = (
    "nvidia/cuda:12.6.3-runtime-ubuntu24.04"
    "@sha256:92906d87596d638d35015c6353053121bd299d25943b875763321653884ba924"
)
CUDA_13_0 = (
    "nvidia/cuda:13.0.1-runtime-ubuntu24.04"
    "@sha256:c3fde347d52d578c84fd644bc177bc7ec333feaf11550d990da4084d7612e4c7"
)
DEBIAN = "debian:bookworm-slim"
TORCH_WHEELS = "https://download.pytorch.org/whl/"
GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image of the catalogue."""

    name: str
    summary: str
    cpu_size: int
    """Bytes that the whole cpu variant may take; a test asks why, when it takes more."""
    gpu_size: int
    parent: str = ""
    """The catalogue image that it is built on; "": the variant's base image."""
    variants: tuple[Variant, ...] = ()

    def size(self, gpu: bool) -> int:
        return self.gpu_size if gpu else self.cpu_size


def _variants(
    cpu: Mapping[str, str], cuda12: Mapping[str, str], cuda13: Mapping[str, str]
) -> tuple[Variant, ...]:
    """The three that each image is built in, with the build arguments that differ."""
    return (
        Variant("cpu", DEBIAN, BOTH, "", tuple(sorted(cpu.items()))),
        Variant("cu126", CUDA_12_6, BOTH, "12.6", tuple(sorted(cuda12.items()))),
        Variant("cu130", CUDA_13_0, BOTH, "13.0", tuple(sorted(cuda13.items()))),
    )


PLAIN = _variants({}, {}, {})
TORCH = _variants(
    {"TORCH_INDEX_URL": f"{TORCH_WHEELS}cpu"},
    {"TORCH_INDEX_URL": f"{TORCH_WHEELS}cu126"},
    {"TORCH_INDEX_URL": f"{TORCH_WHEELS}cu130"},
)
# TensorFlow's wheels bring CUDA 12, which drivers for CUDA 13 run as well.
TENSORFLOW = _variants(
    {"TENSORFLOW": "tensorflow-cpu"},
    {"TENSORFLOW": "tensorflow[and-cuda]"},
    {"TENSORFLOW": "tensorflow[and-cuda]"},
)
JAX = _variants({"JAX": "jax"}, {"JAX": "jax[cuda12]"}, {"JAX": "jax[cuda13]"})
DL = _variants(
    {"TORCH_INDEX_URL": f"{TORCH_WHEELS}cpu", "TENSORFLOW": "tensorflow-cpu", "JAX": "jax"},
    {
        "TORCH_INDEX_URL": f"{TORCH_WHEELS}cu126",
        "TENSORFLOW": "tensorflow[and-cuda]",
        "JAX": "jax[cuda12]",
    },
    {
        "TORCH_INDEX_URL": f"{TORCH_WHEELS}cu130",
        "TENSORFLOW": "tensorflow[and-cuda]",
        "JAX": "jax[cuda13]",
    },
)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "base",
        "JupyterLab, TensorBoard, numpy, pandas, matplotlib, scikit-learn",
        cpu_size=1_400_000_000,
        gpu_size=4 * GB,
        variants=PLAIN,
    ),
    Recipe(
        "dl",
        "all in one: PyTorch, TensorFlow, Keras 3, JAX, OpenCV, PyTensor, scikit-image",
        cpu_size=6 * GB,
        gpu_size=24 * GB,
        parent="pytorch",
        variants=DL,
    ),
    Recipe(
        "fastai",
        "fastai 2 on PyTorch, with the course's folders and shortcuts",
        cpu_size=3 * GB,
        gpu_size=12 * GB,
        parent="pytorch",
        variants=TORCH,
    ),
    Recipe(
        "jax",
        "JAX, Flax and Optax",
        cpu_size=2_200_000_000,
        gpu_size=10 * GB,
        parent="base",
        variants=JAX,
    ),
    Recipe(
        "malmo",
        "Microsoft Malmo: malmoenv, Java 8, Minecraft on a virtual display",
        cpu_size=2_500_000_000,
        gpu_size=5 * GB,
        parent="base",
        variants=PLAIN,
    ),
    Recipe(
        "pytorch",
        "PyTorch and torchvision",
        cpu_size=2_400_000_000,
        gpu_size=11 * GB,
        parent="base",
        variants=TORCH,
    ),
    Recipe(
        "tensorflow",
        "TensorFlow and Keras 3",
        cpu_size=3 * GB,
        gpu_size=11 * GB,
        parent="base",
        variants=TENSORFLOW,
    ),
)
THIN_SIZE = 800_000_000
"""What the thin layer under a foreign image adds, in bytes."""


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


def folder(name: str) -> Path:
    """Where a recipe's Dockerfile lies on this machine. Raises ConfigError."""
    installed = Path(str(files("remotedl"))) / "dockerfiles"
    checkout = Path(str(files("remotedl"))).parent / "dockerfiles"
    for place in (installed / name, checkout / name):
        if (place / "Dockerfile").is_file():
            return place
    raise ConfigError(
        f"the recipe of image {name} is missing from this installation ({installed})",
        hint="pip install --force-reinstall remotedl",
    )
