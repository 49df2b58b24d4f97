"""What `up` was asked for on the command line, on top of hosts.toml. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import ValidationError

from remotedl.config.models import HostConfig
from remotedl.errors import UsageError
from remotedl.session.project import Project


@dataclass(frozen=True, slots=True)
class UpOptions:
    """How to go about it; what is wanted is in the configuration."""

    rebuild: bool = False
    """Build the image anew even where one with the same recipe is on the host."""
    accept_new: bool = False
    """Accept an unknown host key without asking."""
    yes: bool = False
    """Consent to what would be asked about (recreate a container, restart an engine)."""
    via_laptop: bool = False
    """The host has no way out of its own: it fetches through the laptop on the way up."""


def with_overrides(
    host: HostConfig, project: Project, *, image: str | None, gpus: str | None
) -> tuple[HostConfig, Project]:
    """The configuration with --image and --gpus put in. Raises UsageError."""
    if gpus is not None:
        host = host.model_copy(update={"gpus": asked_gpus(gpus)})
    if image is not None:
        changed = project.config.project.model_copy(update={"image": image})
        config = project.config.model_copy(update={"project": changed})
        project = replace(project, config=config)
    return host, project


def asked_gpus(text: str) -> str | int | tuple[int, ...]:
    """`--gpus` as hosts.toml would have it, checked. Raises UsageError."""
    try:
        return HostConfig(address="any", gpus=parse_gpus(text)).gpus
    except (ValueError, ValidationError):
        raise UsageError(
            f"--gpus {text}: expected all, none, a number, a list like 0,3 or auto:N",
            hint="remotedl gpus",
        ) from None


def parse_gpus(text: str) -> str | int | tuple[int, ...]:
    """`--gpus` as hosts.toml would have it: "2" is a count, "0,3" and "0," are lists."""
    if "," in text:
        return tuple(int(part) for part in text.split(",") if part.strip())
    return int(text) if text.isdigit() else text
