"""Pull an image to the host. A pull that broke off is begun again; the engine keeps what it can."""

from __future__ import annotations

from remotedl.config.models import IMAGE_NAME
from remotedl.engine import Engine, Image, RegistryAuth
from remotedl.errors import EngineError, ImageNotFound, ImageUnfit, UsageError
from remotedl.images import catalogue
from remotedl.images.progress import LayerBoard
from remotedl.report import Report

PLACEHOLDER = "IMAGE"
"""Stands in the hints of an engine that does not know what is asked of it."""
NO_AUTH = RegistryAuth()


def pull(
    engine: Engine,
    reference: str,
    *,
    architecture: str,
    report: Report,
    auth: RegistryAuth = NO_AUTH,
) -> Image:
    """The image by that reference, newly pulled. Raises ImageNotFound, ImageUnfit, EngineError."""
    board = LayerBoard(f"pulling {reference}", report)
    try:
        for event in engine.images.pull(reference, auth=auth):
            board(event)
    except EngineError as exc:
        exc.hint = exc.hint.replace(PLACEHOLDER, reference)
        raise
    image = engine.images.get(reference)
    if image is None:
        raise ImageNotFound(f"{reference} was pulled, and the engine does not have it")
    refuse_other_architecture(image, reference, architecture)
    return image


def refuse_what_cannot_be_pulled(reference: str) -> None:
    """Raises UsageError for what is no image's name, and for one that is built."""
    refuse_no_name(reference)
    if catalogue.find(reference) is not None:
        raise UsageError(
            f"{reference} is of the catalogue, which is built on the host and not pulled",
            hint=f'image = "{reference}" in hosts.toml, then: remotedl image build; '
            f"an image of that very name: remotedl image pull library/{reference}",
        )


def refuse_no_name(reference: str) -> None:
    """Raises UsageError for what is no image's name."""
    if IMAGE_NAME.fullmatch(reference) is None:
        raise UsageError(
            f"{reference!r} is no image's name: org/name:tag, in small letters",
            hint="remotedl image --help",
        )


def refuse_other_architecture(image: Image, reference: str, architecture: str) -> None:
    """An engine pulls an image of another machine without a word; it fails when it is started."""
    if image.architecture and image.architecture != architecture:
        raise ImageUnfit(
            f"{reference} is built for {image.architecture}; the host is {architecture}",
            hint=f"take a tag of {reference} for {architecture}",
        )
