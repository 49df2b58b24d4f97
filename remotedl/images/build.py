"""Build an order on the host: by buildx where it is, by the engine's classic builder else.

Before it begins, the disk is looked at and base images of private registries are fetched with the
laptop's credentials, so that neither builder needs any.
"""

from __future__ import annotations

from remotedl.engine import Engine, Image
from remotedl.errors import BuildFailed, EngineError
from remotedl.images.buildx import build_buildx, has_buildx
from remotedl.images.classic import build_classic
from remotedl.images.credentials import HUB, auth_for, registry_of
from remotedl.images.disk import refuse_if_full
from remotedl.images.order import Order, Sources, base_images
from remotedl.images.pull import pull
from remotedl.images.silence import telling_silence
from remotedl.images.wish import HostCapabilities
from remotedl.report import Report
from remotedl.ssh.remote import Remote

OWN = "remotedl/"


def build(
    engine: Engine,
    remote: Remote,
    order: Order,
    sources: Sources,
    host: HostCapabilities,
    report: Report,
    *,
    fresh: bool = False,
) -> Image:
    """The image of `order`, newly built. Raises BuildFailed, ImageNotFound, EngineError.

    `fresh`: no step is taken from the builder's cache, and base images that come from a registry
    are pulled again.
    """
    refuse_if_full(engine, remote, host, order.size, f"building {order.title}")
    _fetch_bases(engine, order, host, report, fresh=fresh)
    with telling_silence(report, host) as heard:
        if has_buildx(remote, host):
            build_buildx(remote, order, sources, host, heard, no_cache=fresh)
        else:
            build_classic(engine, order, sources, heard, no_cache=fresh)
    image = engine.images.get(order.tag)
    if image is None:
        raise BuildFailed(f"building {order.title} left no image {order.tag} in the engine")
    return image


def bases_of(order: Order) -> list[str]:
    """The images of others that its Dockerfile starts from."""
    dockerfile = order.dockerfile_text().decode("utf-8", "replace")
    found = base_images(dockerfile, order.build_args)
    return [name for name in found if not name.startswith((OWN, "sha256:"))]


def _fetch_bases(
    engine: Engine, order: Order, host: HostCapabilities, report: Report, *, fresh: bool
) -> None:
    for reference in bases_of(order):
        there = engine.images.get(reference)
        # What was built or loaded here is in no registry; what is public the builder gets itself.
        wanted = fresh and there.digests if there is not None else registry_of(reference) != HUB
        if not wanted:
            continue
        auth = auth_for(reference)
        try:
            pull(engine, reference, architecture=host.architecture, report=report, auth=auth)
        except EngineError as exc:
            if there is None:
                raise
            report.warn(f"{reference} stays as it is on the host: {exc.message}", hint=exc.hint)
