"""Pull an image to the host. A pull that broke off is begun again; the engine keeps what it can."""

from __future__ import annotations

from remotedl.engine import Engine, Image, RegistryAuth
from remotedl.errors import ImageNotFound, ImageUnfit
from remotedl.images.progress import LayerBoard
from remotedl.report import Report

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
    for event in engine.images.pull(reference, auth=auth):
        board(event)
    image = engine.images.get(reference)
    if image is None:
        raise ImageNotFound(f"{reference} was pulled, and the engine does not have it")
    refuse_other_architecture(image, reference, architecture)
    return image


def refuse_other_architecture(image: Image, reference: str, architecture: str) -> None:
    """An engine pulls an image of another machine without a word; it fails when it is started."""
    if image.architecture and image.architecture != architecture:
        raise ImageUnfit(
            f"{reference} is built for {image.architecture}; the host is {architecture}",
            hint=f"take a tag of {reference} for {architecture}",
        )
