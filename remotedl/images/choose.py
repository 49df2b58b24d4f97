"""Which variant of an image a host can run: pure, from the driver's version and the architecture.

The tables are NVIDIA's (docs.nvidia.com/deploy/cuda-compatibility): a driver runs every CUDA that
it shipped with or that is older; within one major version of CUDA a driver of the family's floor
runs newer ones too ("minor version compatibility").
"""

from __future__ import annotations

from dataclasses import dataclass

from remotedl.errors import ImageUnfit

Version = tuple[int, ...]

SHIPPED_WITH: tuple[tuple[str, str], ...] = (
    ("11.8", "520.61.05"),
    ("12.0", "525.60.13"),
    ("12.1", "530.30.02"),
    ("12.2", "535.54.03"),
    ("12.3", "545.23.06"),
    ("12.4", "550.54.14"),
    ("12.5", "555.42.02"),
    ("12.6", "560.28.03"),
    ("12.8", "570.26"),
    ("12.9", "575.51.03"),
    ("13.0", "580.65.06"),
    ("13.1", "590.44.01"),
    ("13.2", "595.45.04"),
)
"""CUDA, and the first driver that came with it."""

CHOSEN_LATER = ("", "cpu", "gpu")
"""Asked for by kind and not by name: the host decides which it is."""

FLOORS: dict[int, str] = {11: "450", 12: "525", 13: "580"}
"""CUDA's major version, and the oldest driver that runs all of it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to build a catalogue image: what it starts from, and where its wheels come from."""

    name: str
    """cpu, or cuNNN."""
    base_image: str
    architectures: tuple[str, ...]
    cuda: str = ""
    """The CUDA that it holds; "" for cpu."""
    build_args: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    variant: Variant
    why: str
    """For the user: what was looked at and what followed."""


def choose(
    variants: tuple[Variant, ...],
    *,
    image: str,
    architecture: str,
    driver: str,
    gpus: bool,
    wanted: str = "",
) -> Choice:
    """The newest variant that fits, or the `wanted` one (its name, "cpu" or "gpu").

    Raises ImageUnfit, naming the one that would fit.
    """
    for_machine = tuple(one for one in variants if architecture in one.architectures)
    if not for_machine:
        built_for = sorted({name for one in variants for name in one.architectures})
        raise ImageUnfit(
            f"{image} is built for {' and '.join(built_for)}; the host is {architecture}",
            hint='set image = "base" in hosts.toml',
        )
    if wanted not in CHOSEN_LATER:
        return _choose_named(for_machine, image, driver, wanted)
    fitting = [one for one in for_machine if one.cuda and driver and runs(driver, one.cuda)]
    if wanted == "cpu" or (wanted == "" and not (gpus and driver)):
        return Choice(_cpu(for_machine, image), _why_cpu(gpus, driver, wanted))
    if fitting:
        best = max(fitting, key=lambda one: _numbers(one.cuda))
        return Choice(best, f"driver {driver} {_how(driver, best.cuda)}")
    oldest = min((one for one in for_machine if one.cuda), key=lambda one: _numbers(one.cuda))
    if not driver:
        raise ImageUnfit(
            f"{image}:gpu needs an NVIDIA driver, and the host has none loaded",
            hint=f'remotedl provision, or set image = "{image}:cpu" in hosts.toml',
        )
    raise ImageUnfit(
        f"driver {driver} is too old for every GPU variant of {image}: the oldest holds CUDA "
        f"{oldest.cuda}, which needs driver {FLOORS[_numbers(oldest.cuda)[0]]} or newer",
        hint=f'remotedl provision, or set image = "{image}:cpu" in hosts.toml',
    )


def fit_or_refuse(image: str, needs_cuda: str, driver: str, *, gpus: bool) -> None:
    """Refuse a foreign image whose CUDA the host's driver cannot run. Raises ImageUnfit."""
    if not needs_cuda or not gpus or not driver or runs(driver, needs_cuda):
        return
    newest = newest_cuda(driver)
    raise ImageUnfit(
        f"{image} holds CUDA {needs_cuda}; driver {driver} of the host runs CUDA {newest} at most",
        hint=f"take a tag of {image} with CUDA {newest} or older, or: remotedl provision",
    )


def newest_cuda(driver: str) -> str:
    """The newest CUDA that `driver` runs without fail; "" for one older than all we know."""
    shipped = [cuda for cuda, first in SHIPPED_WITH if _numbers(driver) >= _numbers(first)]
    return shipped[-1] if shipped else ""


def runs(driver: str, cuda: str) -> bool:
    """Whether `driver` runs programs of `cuda`, by its own version or within the family."""
    have, need = _numbers(driver), _numbers(cuda)
    floor = FLOORS.get(need[0])
    if floor is None:
        # A CUDA newer or older than the table: a newer driver runs all older ones.
        return need[0] < min(FLOORS)
    return have >= _numbers(floor)


def variant_of(variants: tuple[Variant, ...], image: str, wanted: str) -> Variant | None:
    """The variant of that name; None for a choice that is made later. Raises ImageUnfit."""
    if wanted in CHOSEN_LATER:
        return None
    for one in variants:
        if one.name == wanted:
            return one
    names = [one.name for one in variants]
    raise ImageUnfit(
        f"{image} has no variant {wanted}; it has {', '.join(names)}, and gpu for the newest that "
        "the host's driver runs",
        hint=f'set image = "{image}" or "{image}:{names[0]}" in hosts.toml',
    )


def _choose_named(variants: tuple[Variant, ...], image: str, driver: str, wanted: str) -> Choice:
    one = variant_of(variants, image, wanted)
    assert one is not None, "one that is chosen later is chosen by the host"
    if one.cuda and driver and not runs(driver, one.cuda):
        fit_or_refuse(f"{image}:{wanted}", one.cuda, driver, gpus=True)
    return Choice(one, f"{image}:{wanted} was asked for")


def _cpu(variants: tuple[Variant, ...], image: str) -> Variant:
    for one in variants:
        if not one.cuda:
            return one
    raise ImageUnfit(f"{image} needs a GPU", hint="remotedl gpus")


def _why_cpu(gpus: bool, driver: str, wanted: str) -> str:
    if wanted == "cpu":
        return "the cpu variant was asked for"
    if not gpus:
        return "no GPU is asked for, or the host has none"
    return "the host has no NVIDIA driver loaded"


def _how(driver: str, cuda: str) -> str:
    if _numbers(newest_cuda(driver) or "0") >= _numbers(cuda):
        return f"comes with CUDA {newest_cuda(driver)}, which runs CUDA {cuda}"
    major = _numbers(cuda)[0]
    return f"runs CUDA {cuda} as every driver from {FLOORS[major]} on runs CUDA {major}"


def _numbers(version: str) -> Version:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
