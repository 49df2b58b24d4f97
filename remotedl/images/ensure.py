"""The way to an image on the host: there already, built, or pulled; then what the project adds.

Each part is an order with a recipe; nothing is built or pulled when an image with the same recipe
is there. Whatever is half made when this is killed is either the engine's cache, which the next
run goes on from, or nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace

from remotedl.config.models import IMAGE_EXPECTED, LocalImage, is_image_name
from remotedl.engine import Engine, Image
from remotedl.errors import ConfigError, ImageNotFound
from remotedl.images import catalogue, devcontainer
from remotedl.images.build import build
from remotedl.images.choose import choose, fit_or_refuse, variant_of
from remotedl.images.credentials import auth_for
from remotedl.images.disk import refuse_if_full
from remotedl.images.lock import one_build
from remotedl.images.order import RECIPE_LABEL, Order, Sources
from remotedl.images.orders import (
    catalogue_order,
    local_order,
    requirements_order,
    thin_order,
)
from remotedl.images.pull import pull, refuse_other_architecture
from remotedl.images.wish import HostCapabilities, ImageRef, ImageWish
from remotedl.report import Report
from remotedl.ssh.remote import Remote

OURS_LABEL = "remotedl.catalogue"
PORTS_LABEL = "remotedl.ports"
CUDA_VARIABLE = "CUDA_VERSION"
"""NVIDIA's images, and all that are built on them, say which CUDA they hold."""


def ensure(
    engine: Engine,
    remote: Remote,
    wish: ImageWish,
    host: HostCapabilities,
    *,
    report: Report,
    rebuild: bool = False,
    before_fetching: Callable[[], None] = lambda: None,
) -> ImageRef:
    """The wished image, on the host.

    `rebuild`: built even if it is there, without the cache, on base images that are pulled again.

    `before_fetching` is called before anything is pulled or built, and not when all is there.
    Raises ConfigError, ImageNotFound, ImageUnfit, BuildFailed, EngineError, LinkLost.
    """
    way = _Way(engine, remote, wish, host, report, rebuild, before_fetching)
    if isinstance(wish.image, LocalImage):
        ref = way.local(wish.image.dockerfile, wish.image.context)
    elif devcontainer.is_devcontainer(wish.image):
        ref = way.devcontainer(wish.image)
    elif found := catalogue.find(wish.image):
        ref = way.catalogue(*found)
    else:
        refuse_slip(wish.image)
        ref = way.foreign(wish.image)
    if wish.requirements:
        ref = way.with_requirements(ref, wish.requirements)
    return ref


def refuse_slip(name: str) -> None:
    """A name that can be no image's, a variant that the catalogue's has not, and a word that is
    nearly a catalogue name: slips, found before anything is asked of a host."""
    if not is_image_name(name):
        raise ConfigError(f'image = "{name}" is no name of an image', hint=IMAGE_EXPECTED)
    if (found := catalogue.find(name)) is not None:
        variant_of(found[0].variants, found[0].name, found[1])
        return
    near = difflib.get_close_matches(name, catalogue.names(), 1, 0.7)
    if near and "/" not in name and ":" not in name:
        raise ImageNotFound(
            f"there is no image {name} in the catalogue; did you mean {near[0]}?",
            hint=f'remotedl image list; an image of that very name: image = "library/{name}"',
        )


@dataclass(frozen=True, slots=True)
class _Way:
    """What every part of the way needs."""

    engine: Engine
    remote: Remote
    wish: ImageWish
    host: HostCapabilities
    report: Report
    rebuild: bool
    before_fetching: Callable[[], None]

    @property
    def gpus(self) -> bool:
        return self.wish.gpus and self.host.gpus > 0

    def catalogue(self, recipe: catalogue.Recipe, wanted: str) -> ImageRef:
        choice = choose(
            recipe.variants,
            image=recipe.name,
            architecture=self.host.architecture,
            driver=self.host.driver,
            gpus=self.gpus,
            wanted=wanted,
        )
        self.report.note(f"image {recipe.name}:{choice.variant.name}: {choice.why}")
        parent = choice.variant.base_image
        ref = ImageRef(parent, "")
        for one in catalogue.lineage(recipe):
            ref = self._made(catalogue_order(one, choice.variant, parent, self.wish.build_args))
            parent = ref.reference
        return replace(ref, why=choice.why)

    def foreign(self, reference: str) -> ImageRef:
        there = None if self.rebuild else self.engine.images.get(reference)
        if there is None:
            self.before_fetching()
            refuse_if_full(self.engine, self.remote, self.host, 0, f"pulling {reference}")
        image = there or pull(
            self.engine,
            reference,
            architecture=self.host.architecture,
            report=self.report,
            auth=auth_for(reference),
        )
        refuse_other_architecture(image, reference, self.host.architecture)
        cuda = image.env.get(CUDA_VARIABLE, "")
        fit_or_refuse(reference, cuda, self.host.driver, gpus=self.gpus)
        ref = ImageRef(reference, image.id, fresh=there is None, forward_ports=_ports(image))
        return self._with_tools(ref, image)

    def local(
        self, dockerfile: str, context: str, target: str = "", args: dict[str, str] | None = None
    ) -> ImageRef:
        inner = f"{context}/{dockerfile}"  # where it is looked for as well
        for key, named in (("context", context), ("dockerfile", dockerfile), ("dockerfile", inner)):
            self.wish.places.find(f"project.image.{key}", named)
        arguments = {**(args or {}), **self.wish.build_args}
        order = local_order(self.wish.folder, dockerfile, context, target, arguments)
        ref = self._made(order)
        image = self.engine.images.get(ref.reference)
        return self._with_tools(ref, image) if image else ref

    def devcontainer(self, name: str) -> ImageRef:
        path = devcontainer.find(self.wish.folder, name)
        relative = path.relative_to(self.wish.folder).as_posix()
        text = self.wish.places.read("project.image", relative).decode("utf-8")
        found = devcontainer.parse(text, relative)
        if found.left_out:
            self.report.warn(f"{relative}: not honoured here: {', '.join(found.left_out)}")
        if found.image:
            known = catalogue.find(found.image)
            ref = self.catalogue(*known) if known else self.foreign(found.image)
        else:
            ref = self.local(found.dockerfile, found.context, found.target, dict(found.build_args))
        ports = tuple(sorted({*ref.forward_ports, *found.forward_ports}))
        return replace(ref, forward_ports=ports, post_create=found.post_create)

    def with_requirements(self, ref: ImageRef, name: str) -> ImageRef:
        try:
            text = self.wish.places.read("project.requirements", name)
        except FileNotFoundError as exc:
            raise ConfigError(
                f"{name} is not in {self.wish.folder}",
                hint="check `requirements` in hosts.toml",
            ) from exc
        order, left_out = requirements_order(ref, name, text)
        if left_out:
            self.report.warn(f"{name}: only conda has these, left out: {', '.join(left_out)}")
        made = self._made(order)
        return replace(
            ref,
            reference=made.reference,
            id=made.id,
            recipe=made.recipe,
            fresh=ref.fresh or made.fresh,
        )

    def _with_tools(self, ref: ImageRef, image: Image) -> ImageRef:
        """Jupyter, TensorBoard and their supervisor on top, unless the image has ours."""
        if image.labels.get(OURS_LABEL):
            return ref
        made = self._made(thin_order(ref.reference, image.id))
        return replace(made, forward_ports=ref.forward_ports, fresh=ref.fresh or made.fresh)

    def _made(self, order: Order) -> ImageRef:
        if not self.rebuild and (there := self._there(order)):
            return there
        with one_build(self.remote, order.tag, order.title, self.report) as waited:
            if waited and (there := self._there(order)):
                return there
            return self._build(order)

    def _there(self, order: Order) -> ImageRef | None:
        image = self.engine.images.get(order.tag)
        if image is None or image.labels.get(RECIPE_LABEL) != order.recipe:
            return None
        return ImageRef(order.tag, image.id, order.recipe, forward_ports=_ports(image))

    def _build(self, order: Order) -> ImageRef:
        self.before_fetching()
        self.report.note(f"building {order.title} on the host")
        sources = Sources(pip_index=self.wish.pip_index or "", proxy=self.wish.proxy or "")
        image = build(
            self.engine, self.remote, order, sources, self.host, self.report, fresh=self.rebuild
        )
        ports = _ports(image)
        return ImageRef(order.tag, image.id, order.recipe, fresh=True, forward_ports=ports)


def _ports(image: Image) -> tuple[int, ...]:
    """Further ports that the image's own services listen on."""
    words = image.labels.get(PORTS_LABEL, "").split()
    return tuple(sorted(int(word) for word in words if word.isdigit()))
