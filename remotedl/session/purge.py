"""`down --purge`: what remotedl put on a host for a project, said first and then removed.

The user's own things are never part of it: the data folder stays, and the project folder goes only
when this laptop has every file of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from remotedl.container.ground import Ground
from remotedl.engine import Engine
from remotedl.engine.types import Image
from remotedl.errors import EngineError
from remotedl.session.workplace import Workplace

# Prints the ids of this user's other projects. Arguments: the folder of run folders, our id.
OTHERS = 'cd "$1" 2>/dev/null || exit 0; for d in */; do [ "$d" = "$2/" ] || echo "${d%/}"; done'
OWN_LABEL = "remotedl.catalogue"


@dataclass(frozen=True, slots=True)
class Purge:
    """What is to go, and what stays for a reason."""

    folders: tuple[str, ...]
    images: tuple[Image, ...]
    stays: tuple[str, ...]

    def lines(self, container: str) -> list[str]:
        """For the question. One line a thing."""
        lines = [f"remove {container}"]
        lines += [
            f"remove image {image.tags[0] if image.tags else image.id}" for image in self.images
        ]
        lines += [f"remove {folder}" for folder in self.folders]
        return lines + [f"keep {reason}" for reason in self.stays]


def plan_purge(place: Workplace, ground: Ground, *, in_step: bool) -> Purge:
    """Look, change nothing. `in_step`: the laptop has every file of the project's folder."""
    base = ground.folders.run.rsplit("/run/", 1)[0]
    result = place.remote.run(["sh", "-c", OTHERS, "sh", f"{base}/run", place.project.id])
    others = [line for line in result.text.splitlines() if line]
    stays = [f"{ground.folders.data}: your data"]
    folders = [ground.folders.run]
    if in_step:
        folders.append(ground.folders.workdir)
    else:
        stays.append(f"{ground.folders.workdir}: not in step with the laptop")
    images: tuple[Image, ...] = ()
    if others:
        stays.append(f"images and agent: {len(others)} other project(s) of yours use them")
    else:
        folders += [f"{base}/agent", f"{base}/native", f"{base}/claims"]
        images = own_images(place.engine) if place.engine is not None else ()
    return Purge(tuple(folders), images, tuple(stays))


def purge(place: Workplace, ground: Ground, wanted: Purge) -> list[str]:
    """Remove it; the notes of what could not be removed because others use it."""
    place.runtime.remove()
    notes = []
    for image in wanted.images:
        try:
            if place.engine is not None:
                place.engine.images.remove(image.id)
        except EngineError as exc:
            notes.append(f"kept image {_name(image)}: {exc.message}")
    place.remote.run(["rm", "-rf", "--", *wanted.folders])
    # Empty parents that we made go as well; full ones stay.
    parents = [ground.folders.workdir.rsplit("/", 1)[0], ground.folders.run.rsplit("/", 2)[0]]
    place.remote.run(["rmdir", "--ignore-fail-on-non-empty", "--", *parents], check=False)
    return notes


def own_images(engine: Engine) -> tuple[Image, ...]:
    """What remotedl built, the newest first: children before the images they stand on."""
    found = engine.images.find(labels={OWN_LABEL: ""})
    return tuple(sorted(found, key=lambda image: image.created, reverse=True))


def _name(image: Image) -> str:
    return image.tags[0] if image.tags else image.id
