"""Disks for engines: /var/lib/docker with the stand-in base images on it, copied per host.

A seed is a volume that a throwaway host's own engine filled; it is made once per content and
kept, like the images. Copying one takes a second, loading images into an engine several.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.cache import content_hash, locked
from tests.lab.engine import docker, docker_ok, piped
from tests.lab.images import Release, engine_image, standin_image

if TYPE_CHECKING:
    from tests.lab.host import Host

STANDIN_NAMES = ("debian:bookworm-slim", "debian:bookworm")
"""The public names that the stand-in takes inside lab engines."""
DOCKERFILES = Path(__file__).parents[2] / "dockerfiles" / "base"


def fill(volume: str, seed: str) -> None:
    """Copy a seed into an empty volume."""
    source, target = _folder_of(seed), _folder_of(volume)
    # The layers are only ever read or unlinked, never written: links to them will do.
    subprocess.run(["cp", "-al", f"{source}/overlay2", f"{target}/"], check=True)
    for path in sorted(Path(source).iterdir()):
        if path.name not in ("overlay2", "engine-id"):
            subprocess.run(["cp", "-a", str(path), f"{target}/"], check=True)


def seed_volume(release: Release) -> str:
    """The name of the seed of hosts of `release`; made if it is not there."""
    standin = standin_image("bookworm")
    key = content_hash(engine_image(release), standin, *STANDIN_NAMES)
    seed = f"remotedl-lab-seed-{release}-{key}"
    with locked(f"seed-{release}"):
        if not finished(seed):
            docker("volume", "rm", "-f", seed)
            docker("volume", "create", seed)
            _grow(seed, release, standin)
            _mark_finished(seed)
    return seed


def warm_seed(release: Release) -> str:
    """The name of a seed that holds the base image, too; perhaps there is none yet."""
    files = [path for path in sorted(DOCKERFILES.rglob("*")) if path.is_file()]
    key = content_hash(seed_volume(release), *(path.read_bytes() for path in files))
    return f"remotedl-lab-seed-{release}-warm-{key}"


def keep(host: Host, seed: str) -> None:
    """Keep the images of a host that nobody needs any more as `seed`. Powers it off."""
    host.sh("docker ps -aq | xargs -r docker rm -f")
    host.stop()
    with locked(f"seed-{host.release}"):
        if not finished(seed):
            docker("volume", "rm", "-f", seed)
            docker("volume", "create", seed)
            fill(seed, host.container)
            _mark_finished(seed)


def finished(seed: str) -> bool:
    """Whether the seed is there and was not left half-made."""
    return docker_ok("volume", "inspect", f"{seed}-done")


def _mark_finished(seed: str) -> None:
    docker("volume", "create", f"{seed}-done")


def _folder_of(volume: str) -> str:
    return docker("volume", "inspect", "-f", "{{.Mountpoint}}", volume)


def _grow(volume: str, release: Release, standin: str) -> None:
    from tests.lab.host import Host, HostOptions
    from tests.lab.run import LabRun

    run = LabRun()
    try:
        host = Host(run, f"seed-{release}", HostOptions(release, engine=True, disk=volume))
        host.create()
        piped(
            ["docker", "save", standin], ["docker", "exec", "-i", host.container, "docker", "load"]
        )
        for name in STANDIN_NAMES:
            host.exec(["docker", "tag", standin, name])
        host.exec(["docker", "rmi", standin])
        host.stop()
    finally:
        run.close()
