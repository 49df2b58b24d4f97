"""Disks for engines: /var/lib/docker with the stand-in base images on it, copied per host.

A seed is a volume that a throwaway host's own engine filled; it is made once per content and
kept, like the images. Copying one takes a second, loading images into an engine several.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.cache import content_hash, locked
from tests.lab.engine import docker, docker_ok, piped
from tests.lab.images import Release, engine_image, standin_image

STANDIN_NAMES: dict[Release, tuple[str, ...]] = {
    "bookworm": ("debian:bookworm-slim", "debian:bookworm"),
    "trixie": ("debian:trixie-slim", "debian:trixie"),
}
"""The public names that the stand-in takes inside lab engines."""


def fill(volume: str, release: Release) -> None:
    """Copy the seed of hosts of `release` into an empty volume."""
    source, target = _folder_of(seed_volume(release)), _folder_of(volume)
    # The layers are only ever read or unlinked, never written: links to them will do.
    subprocess.run(["cp", "-al", f"{source}/overlay2", f"{target}/"], check=True)
    for path in sorted(Path(source).iterdir()):
        if path.name not in ("overlay2", "engine-id"):
            subprocess.run(["cp", "-a", str(path), f"{target}/"], check=True)


def seed_volume(release: Release) -> str:
    """The name of the seed of hosts of `release`; made if it is not there."""
    standin = standin_image("bookworm")
    names = STANDIN_NAMES["bookworm"]
    key = content_hash(engine_image(release), standin, *names)
    volume = f"remotedl-lab-seed-{release}-{key}"
    done = f"{volume}-done"
    with locked(f"seed-{release}"):
        if not docker_ok("volume", "inspect", done):
            docker("volume", "rm", "-f", volume)
            docker("volume", "create", volume)
            _grow(volume, release, standin, names)
            docker("volume", "create", done)  # the mark that it was finished
    return volume


def _folder_of(volume: str) -> str:
    return docker("volume", "inspect", "-f", "{{.Mountpoint}}", volume)


def _grow(volume: str, release: Release, standin: str, names: tuple[str, ...]) -> None:
    from tests.lab.host import Host, HostOptions
    from tests.lab.run import LabRun

    run = LabRun()
    try:
        host = Host(run, f"seed-{release}", HostOptions(release, engine=True, disk=volume))
        host.create()
        piped(
            ["docker", "save", standin], ["docker", "exec", "-i", host.container, "docker", "load"]
        )
        for name in names:
            host.exec(["docker", "tag", standin, name])
        host.exec(["docker", "rmi", standin])
        host.stop()
    finally:
        run.close()
