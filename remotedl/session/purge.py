"""`down --purge`: what remotedl put on a host for a project, said first and then removed.

The user's own things are never part of it: the data folder stays, and the project folder goes only
when this laptop has every file of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from remotedl.container.ground import Ground
from remotedl.images.keeping import Made, made_here, plan_prune, prune
from remotedl.images.transfer import brought
from remotedl.report import Report
from remotedl.session.workplace import Workplace

# Counts the files of a project folder that are somebody's work: not ours, not made by Python and
# Jupyter for themselves.
COUNT = (
    'cd "$1" 2>/dev/null || { echo 0; exit; }; find . \\( -path ./.remotedl -o -name __pycache__ '
    "-o -name .ipynb_checkpoints \\) -prune -o -type f -print0 | tr -dc '\\0' | wc -c"
)
# Prints the ids of this user's other projects. Arguments: the folder of run folders, our id.
OTHERS = 'cd "$1" 2>/dev/null || exit 0; for d in */; do [ "$d" = "$2/" ] || echo "${d%/}"; done'


@dataclass(frozen=True, slots=True)
class Purge:
    """What is to go, and what stays for a reason."""

    folders: tuple[str, ...]
    images: tuple[Made, ...]
    stays: tuple[str, ...]

    def lines(self, container: str) -> list[str]:
        """For the question. One line a thing."""
        lines = [f"remove {container}"]
        lines += [f"remove image {image.reference}" for image in self.images]
        lines += [f"remove {folder}" for folder in self.folders]
        return lines + [f"keep {reason}" for reason in self.stays]


def plan_purge(place: Workplace, ground: Ground, *, files_in_step: int | None) -> Purge:
    """Look, change nothing. `files_in_step`: how many files both sides agree on, if all is well."""
    base = ground.folders.run.rsplit("/run/", 1)[0]
    result = place.remote.run(["sh", "-c", OTHERS, "sh", f"{base}/run", place.project.id])
    others = [line for line in result.text.splitlines() if line]
    stays = [f"{ground.folders.data}: your data, unless it is empty"]
    folders = [ground.folders.run]
    there = int(place.remote.run(["sh", "-c", COUNT, "sh", ground.folders.workdir]).text)
    if files_in_step is None:
        stays.append(
            f"{ground.folders.workdir}: not in step with the laptop (remotedl sync status)"
        )
    elif there > files_in_step:
        more = there - files_in_step
        stays.append(f"{ground.folders.workdir}: {more} files there are not on the laptop")
    else:
        folders.append(ground.folders.workdir)
    stays += [f"volume {name}: docker volume rm {name} removes it" for name in _volumes(place)]
    images: tuple[Made, ...] = ()
    if others:
        stays.append(f"images and agent: {len(others)} other project(s) of yours use them")
    else:
        folders += [f"{base}/{name}" for name in ("agent", "native", "claims", "locks")]
        images = _unused(place)
    return Purge(tuple(folders), images, tuple(stays))


def purge(place: Workplace, ground: Ground, wanted: Purge, report: Report) -> None:
    """Remove it. What somebody began to use meanwhile stays."""
    place.runtime.remove()
    if wanted.images and place.engine is not None:
        prune(place.engine, report, plan_prune(place.engine, keep=brought(place.remote)))
    place.remote.run(["rm", "-rf", "--", *wanted.folders])
    # Empty folders that we made go as well; full ones (the data, the journal) stay.
    runs = ground.folders.run.rsplit("/", 1)[0]
    own, projects = runs.rsplit("/", 1)[0], ground.folders.workdir.rsplit("/", 1)[0]
    parents = [runs, own, ground.folders.data, projects]
    place.remote.run(["rmdir", "--ignore-fail-on-non-empty", "--", *parents], check=False)


def _volumes(place: Workplace) -> list[str]:
    """What its image keeps outside the container: models and data of the user's."""
    name = place.runtime.status().name
    container = place.engine.containers.get(name) if place.engine is not None and name else None
    return [mount.source for mount in container.mounts if mount.volume] if container else []


def _unused(place: Workplace) -> tuple[Made, ...]:
    """Images of ours that nothing but this project's container stands on; snapshots stay."""
    if place.engine is None:
        return ()
    own = {place.runtime.status().name, ""}
    made = made_here(place.engine)
    return tuple(one for one in made if not one.snapshot and set(one.used_by) <= own)
