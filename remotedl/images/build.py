"""Build one image on the host: an `Order` in, the image's id out.

How it is told apart from an image that is already there is `recipe`, which the image carries as
a label; ensure.py looks there first. Package indexes and proxies are not part of an order: they
are `Sources`, which leave no trace in the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from remotedl import __version__
from remotedl.engine import BuildOutput, BuildStep, Built, Engine
from remotedl.errors import BuildFailed, EngineError
from remotedl.images.progress import LayerBoard, watched
from remotedl.images.recipe import ContextFile, context_tar, without_mounts
from remotedl.report import Report

RECIPE_LABEL = "remotedl.recipe"
VERSION_LABEL = "remotedl.version"


@dataclass(frozen=True, slots=True)
class Order:
    """One image to be built."""

    title: str
    """What the user calls it: "base", "Dockerfile"."""
    tag: str
    recipe: str
    """The hash of all that it is made of."""
    context: tuple[ContextFile, ...] = ()
    replaced: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the context that were written just now."""
    dockerfile: str = "Dockerfile"
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_labels(self) -> dict[str, str]:
        return {**self.labels, RECIPE_LABEL: self.recipe, VERSION_LABEL: __version__}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where packages come from during a build; nothing of it is left in the image."""

    pip_index: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)

    @property
    def proxy_args(self) -> dict[str, str]:
        """Build arguments that both builders know undeclared and keep out of the history."""
        if not self.proxy:
            return {}
        names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
        return dict.fromkeys(names, self.proxy)


def build_classic(engine: Engine, order: Order, sources: Sources, report: Report) -> str:
    """Build by the engine's own builder. Raises BuildFailed, EngineError."""
    arguments = {**order.build_args, **sources.proxy_args, **_index_argument(sources)}
    dockerfile = _dockerfile(order)
    stream = context_tar(order.context, {**order.replaced, order.dockerfile: dockerfile})
    events = engine.images.build(
        stream,
        tag=order.tag,
        dockerfile=order.dockerfile,
        labels=order.all_labels,
        build_args=arguments,
    )
    image_id = ""
    for event in watched(events, LayerBoard(f"building {order.title}: base image", report)):
        if isinstance(event, BuildStep):
            report.progress(f"building {order.title}", event.index, event.total, "steps")
            report.output(f"[{event.index}/{event.total}] {event.text}")
        elif isinstance(event, BuildOutput):
            report.output(event.line)
        elif isinstance(event, Built):
            image_id = event.image_id
    if not image_id:
        raise BuildFailed(f"building {order.title} ended without an image")
    return image_id


def _dockerfile(order: Order) -> bytes:
    if order.dockerfile in order.replaced:
        return without_mounts(order.replaced[order.dockerfile])
    for one in order.context:
        if one.name == order.dockerfile:
            return without_mounts(one.path.read_bytes())
    raise BuildFailed(
        f"there is no {order.dockerfile} in the context of {order.title}",
        hint="check `image` in hosts.toml: dockerfile is relative to context",
    )


def _index_argument(sources: Sources) -> dict[str, str]:
    """The classic builder writes arguments into the image's history, so none may be a secret."""
    if not sources.pip_index:
        return {}
    if urlsplit(sources.pip_index).password:
        raise EngineError(
            "the pip mirror's URL holds a password, and the host's classic builder would write it "
            "into the image's history",
            hint="remotedl provision (brings docker buildx, which keeps it out)",
        )
    return {"PIP_INDEX_URL": sources.pip_index}
