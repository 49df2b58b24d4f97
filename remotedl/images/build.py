"""Build an order on the host: by buildx where it is, by the engine's classic builder else.

Before it begins, the disk is looked at and base images of private registries are fetched with the
laptop's credentials, so that neither builder needs any.
"""

from __future__ import annotations

from remotedl.engine import Engine, Image
from remotedl.errors import BuildFailed
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
) -> Image:
    """The image of `order`, newly built. Raises BuildFailed, ImageNotFound, EngineError."""
    refuse_if_full(engine, remote, host, order.size, f"building {order.title}")
    _fetch_private_bases(engine, order, host, report)
    with telling_silence(report, host) as heard:
        if has_buildx(remote, host):
            build_buildx(remote, order, sources, host, heard)
        else:
            build_classic(engine, order, sources, heard)
    image = engine.images.get(order.tag)
    if image is None:
        raise BuildFailed(f"building {order.title} left no image {order.tag} in the engine")
    return image


def _fetch_private_bases(
    engine: Engine, order: Order, host: HostCapabilities, report: Report
) -> None:
    dockerfile = order.dockerfile_text().decode("utf-8", "replace")
    for reference in base_images(dockerfile, order.build_args):
        own = reference.startswith((OWN, "sha256:"))
        if own or registry_of(reference) == HUB or engine.images.get(reference) is not None:
            continue
        auth = auth_for(reference)
        pull(engine, reference, architecture=host.architecture, report=report, auth=auth)
