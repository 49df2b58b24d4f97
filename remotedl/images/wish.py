"""What image is wanted, and what came of it: values only.

`ImageWish` is made of the `[project]` and `[hosts.NAME]` tables; `ImageRef` is what the container
room starts from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remotedl.config.models import HostConfig, LocalImage, ProjectConfig
from remotedl.config.places import Places


@dataclass(frozen=True, slots=True)
class HostCapabilities:
    """What a host offers an image. The session makes it of provision's facts."""

    architecture: str = "amd64"
    driver: str = ""
    """Version of the NVIDIA driver that is loaded; "" without one."""
    gpus: int = 0
    docker_sudo: bool = False
    """The docker command line works through sudo only."""
    docker_host: str = ""
    """What DOCKER_HOST must hold for it; "" for its own default."""
    disk_free: int | None = None
    """Bytes free where the engine keeps its images; None: looked at when it counts."""
    small_packets: bool = False
    """Docker sends larger packets than the host's way out carries: downloads in builds hang."""

    @property
    def docker_env(self) -> dict[str, str]:
        """For the docker command line."""
        return {"DOCKER_HOST": self.docker_host} if self.docker_host else {}


@dataclass(frozen=True, slots=True)
class ImageWish:
    """The image that a project asks for."""

    image: str | LocalImage = "base"
    """A catalogue name (NAME or NAME:VARIANT), a reference, or a Dockerfile of the project."""
    folder: Path = Path()
    """The project's folder on the laptop: contexts and requirements are relative to it."""
    build_args: Mapping[str, str] = field(default_factory=dict)
    requirements: str | None = None
    pip_index: str | None = None
    """A package index in place of pip's own; may hold a password."""
    proxy: str | None = None
    gpus: bool = True
    """GPUs are wanted where the host has some."""
    config_path: Path | None = None
    """The hosts.toml that names the files; None: the user did."""

    @property
    def places(self) -> Places:
        return Places(self.folder, self.config_path)


def wish_of(project: ProjectConfig, host: HostConfig, places: Places) -> ImageWish:
    """The wish that a hosts.toml expresses, for the project of these `places`."""
    return ImageWish(
        image=project.image,
        folder=places.root,
        config_path=places.config_path,
        build_args=project.build_args,
        requirements=project.requirements,
        pip_index=host.mirrors.pip,
        proxy=host.proxy,
        gpus=host.gpus != "none",
    )


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image that is on the host now."""

    reference: str
    """The tag that a container is created with."""
    id: str
    recipe: str = ""
    """The hash of all that it was built from; "" for one that was pulled as it is."""
    fresh: bool = False
    """It was built or pulled just now."""
    why: str = ""
    """Why this variant, in words for the user."""
    forward_ports: tuple[int, ...] = ()
    """Ports that a devcontainer.json asks for."""
    post_create: str = ""
    """A devcontainer.json's postCreateCommand, for a shell in the new container."""
