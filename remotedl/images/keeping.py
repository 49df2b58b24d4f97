"""The images that remotedl made on a host: listing them, keeping a container as one, pruning.

Ours is an image whose own tag is the one that its recipe gives it. The label alone proves
nothing: whatever a user builds on top of an image of ours inherits it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from remotedl import __version__
from remotedl.engine import Change, Container, Engine, Image
from remotedl.errors import EngineError, UsageError
from remotedl.images.order import RECIPE_LABEL, VERSION_LABEL
from remotedl.images.orders import REPOSITORY, TAG_LENGTH
from remotedl.report import Report

SNAPSHOT_LABEL = "remotedl.snapshot"
NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?")


@dataclass(frozen=True, slots=True)
class Made:
    """An image that remotedl made on the host."""

    reference: str
    id: str
    size: int
    created: str
    variant: str
    snapshot: bool
    used_by: tuple[str, ...]
    """Names of the containers that were made from it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A container's filesystem, kept as an image."""

    reference: str
    id: str
    changes: tuple[Change, ...]
    """What it holds over its image."""
    left_out: tuple[str, ...]
    """Folders that are mounted into the container: they are on the host, and in no image."""


def made_here(engine: Engine) -> tuple[Made, ...]:
    """All that remotedl made on this host, snapshots as well, sorted by name."""
    users: dict[str, list[str]] = {}
    for container in engine.containers.find():
        users.setdefault(container.image_id, []).append(container.name)
    found = []
    for image in engine.images.find():
        for tag in image.tags:
            if _ours(image, tag) or _is_snapshot(image, tag):
                used_by = tuple(sorted(users.get(image.id, ())))
                found.append(_made(image, tag, used_by))
    return tuple(sorted(found, key=lambda made: made.reference))


def snapshot(engine: Engine, container: Container, name: str, report: Report) -> Snapshot:
    """Keep `container` as remotedl/NAME, to be named as `image` in hosts.toml.

    It is paused while its files are copied. Raises UsageError for a name that is none, EngineError.
    """
    name = name.removeprefix(f"{REPOSITORY}/")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for an image: small letters, digits, dots, dashes, and :TAG",
            hint="remotedl image snapshot my-work",
        )
    reference = f"{REPOSITORY}/{name}" + ("" if ":" in name else ":latest")
    changes = engine.containers.changes(container.id)
    labels = {SNAPSHOT_LABEL: reference, VERSION_LABEL: __version__}
    report.note(f"keeping {len(changes)} changed paths of {container.name}")
    image_id = engine.containers.commit(container.id, reference, labels=labels)
    left_out = tuple(mount.target for mount in container.mounts)
    return Snapshot(reference, image_id, changes, left_out)


@dataclass(frozen=True, slots=True)
class Pruning:
    """What `prune` removes, and what of ours stays, with the reason."""

    goes: tuple[Made, ...]
    stays: tuple[tuple[Made, str], ...]


def plan_prune(engine: Engine, *, keep: Collection[str] = (), snapshots: bool = False) -> Pruning:
    """Look, change nothing. `keep`: ids of images that stay because the user brought them.

    Snapshots are somebody's work and stay, unless `snapshots`; an image that one which stays is
    built on would give nothing back.
    """
    made = made_here(engine)
    layers = {one.id: image.layers for one in made if (image := engine.images.get(one.id))}
    reasons = dict[str, str]()
    for one in made:
        if one.used_by:
            reasons[one.id] = f"used by {', '.join(one.used_by)}"
        elif one.id in keep:
            reasons[one.id] = "you loaded it"
        elif one.snapshot and not snapshots:
            reasons[one.id] = "a snapshot: --snapshots removes it"
    in_use = [layers.get(one.image_id) or _layers(engine, one) for one in engine.containers.find()]
    above = [*in_use, *(layers.get(kept, ()) for kept in reasons)]
    for one in made:
        own = layers.get(one.id, ())
        if (
            one.id not in reasons
            and own
            and any(len(other) > len(own) and other[: len(own)] == own for other in above)
        ):
            reasons[one.id] = "what stays is built on it"
    return Pruning(
        goes=tuple(one for one in made if one.id not in reasons),
        stays=tuple((one, reasons[one.id]) for one in made if one.id in reasons),
    )


def prune(engine: Engine, report: Report, pruning: Pruning) -> int:
    """Remove what `plan_prune` found; bytes freed. What somebody began to use meanwhile stays.

    An image that others are built on goes when they are gone, which is why it takes several
    rounds.
    """
    before = engine.images.layers_size()
    left = list(pruning.goes)
    while left and (removed := [one for one in left if _removed(engine, one, report)]):
        left = [one for one in left if one not in removed]
    return max(0, before - engine.images.layers_size())


def _removed(engine: Engine, made: Made, report: Report) -> bool:
    try:
        engine.images.remove(made.reference)
    except EngineError:
        return False  # something is still built on it, or a container came in between
    report.note(f"removed {made.reference}")
    return True


def _layers(engine: Engine, container: Container) -> tuple[str, ...]:
    image = engine.images.get(container.image_id)
    return image.layers if image is not None else ()


def _ours(image: Image, tag: str) -> bool:
    recipe = image.labels.get(RECIPE_LABEL, "")
    name, _, version = tag.rpartition(":")
    return bool(recipe) and name.startswith(f"{REPOSITORY}/") and version == recipe[:TAG_LENGTH]


def _is_snapshot(image: Image, tag: str) -> bool:
    return image.labels.get(SNAPSHOT_LABEL) == tag


def _made(image: Image, tag: str, used_by: tuple[str, ...]) -> Made:
    return Made(
        reference=tag,
        id=image.id,
        size=image.size,
        created=image.created,
        variant=image.labels.get("remotedl.variant", ""),
        snapshot=_is_snapshot(image, tag),
        used_by=used_by,
    )
