"""The way to an image on the host: there already, built, or pulled.

Nothing is built or pulled when an image with the same recipe is there. Whatever is half made
when this is killed is either the engine's cache, which the next run goes on from, or nothing.
"""

from __future__ import annotations

from remotedl.config.models import LocalImage
from remotedl.engine import Engine
from remotedl.errors import EngineError
from remotedl.images import catalogue
from remotedl.images.build import RECIPE_LABEL, Order, Sources, build_classic
from remotedl.images.choose import Variant, choose
from remotedl.images.pull import pull, refuse_other_architecture
from remotedl.images.recipe import context_files, recipe_hash
from remotedl.images.wish import HostCapabilities, ImageRef, ImageWish
from remotedl.report import Report
from remotedl.ssh.remote import Remote

REPOSITORY = "remotedl"
TAG_LENGTH = 12
README = "README.md"
"""Not part of a recipe: a word changed in it must not rebuild every image."""


def ensure(
    engine: Engine,
    remote: Remote,
    wish: ImageWish,
    host: HostCapabilities,
    *,
    report: Report,
    rebuild: bool = False,
) -> ImageRef:
    """The wished image, on the host. `rebuild` makes it anew even if it is there.

    Raises ImageNotFound, ImageUnfit, BuildFailed, EngineError.
    """
    if isinstance(wish.image, LocalImage):
        raise EngineError("a Dockerfile of the project's own is not built yet")
    found = catalogue.find(wish.image)
    if found is None:
        return _pulled(engine, wish.image, host, report, rebuild)
    recipe, variant = found
    choice = choose(
        recipe.variants,
        image=recipe.name,
        architecture=host.architecture,
        driver=host.driver,
        gpus=wish.gpus and host.gpus > 0,
        wanted=variant,
    )
    report.note(f"image {recipe.name}:{choice.variant.name}: {choice.why}")
    parent = choice.variant.base_image
    ref = ImageRef(reference=parent, id="")
    for one in catalogue.lineage(recipe):
        order = catalogue_order(one, choice.variant, parent, wish)
        ref = _built(engine, order, wish, report, rebuild, choice.why)
        parent = ref.reference
    return ref


def catalogue_order(
    recipe: catalogue.Recipe, variant: Variant, parent: str, wish: ImageWish
) -> Order:
    """The order for one image of the catalogue, on top of `parent`."""
    context = context_files(catalogue.folder(recipe), left_out=lambda name: name == README)
    arguments = {"BASE_IMAGE": parent, **dict(variant.build_args), **wish.build_args}
    if recipe.parent:
        arguments["BASE_IMAGE"] = parent
    hashed = recipe_hash(context, "Dockerfile", arguments, arguments["BASE_IMAGE"])
    return Order(
        title=recipe.name,
        tag=f"{REPOSITORY}/{recipe.name}:{hashed[:TAG_LENGTH]}",
        recipe=hashed,
        context=context,
        build_args=arguments,
        labels={"remotedl.variant": variant.name},
    )


def _built(
    engine: Engine, order: Order, wish: ImageWish, report: Report, rebuild: bool, why: str
) -> ImageRef:
    there = None if rebuild else engine.images.get(order.tag)
    if there is not None and there.labels.get(RECIPE_LABEL) == order.recipe:
        return ImageRef(order.tag, there.id, recipe=order.recipe, why=why)
    report.note(f"building {order.title} on the host")
    sources = Sources(pip_index=wish.pip_index or "", proxy=wish.proxy or "")
    image_id = build_classic(engine, order, sources, report)
    return ImageRef(order.tag, image_id, recipe=order.recipe, fresh=True, why=why)


def _pulled(
    engine: Engine, reference: str, host: HostCapabilities, report: Report, rebuild: bool
) -> ImageRef:
    there = None if rebuild else engine.images.get(reference)
    if there is not None:
        refuse_other_architecture(there, reference, host.architecture)
        return ImageRef(reference, there.id)
    image = pull(engine, reference, architecture=host.architecture, report=report)
    return ImageRef(reference, image.id, fresh=True)
