"""Bring an image from the laptop's engine to a host that cannot fetch it, over our own connection.

Only the layers that the host has not are sent: an engine takes an archive from which layers that
it knows are left out. One that does not (the containerd store may want them all) is sent the whole.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from remotedl.engine import Built, Engine, Image
from remotedl.errors import EngineError, ImageNotFound
from remotedl.images.disk import refuse_if_full
from remotedl.images.pull import refuse_other_architecture
from remotedl.images.wish import HostCapabilities
from remotedl.report import Report
from remotedl.ssh.remote import Remote

BLOCK = tarfile.BLOCKSIZE
CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that went from one engine to another."""

    reference: str
    id: str
    sent: int
    """Bytes that went over the link."""
    layers_sent: int
    layers_there: int


def load(
    laptop: Engine,
    host: Engine,
    reference: str,
    *,
    architecture: str,
    report: Report,
    remote: Remote | None = None,
) -> Loaded:
    """The laptop's image `reference`, brought to the host; its disk is looked at over `remote`.

    Raises ImageNotFound, ImageUnfit, EngineError, LinkLost.
    """
    image = laptop.images.get(reference)
    if image is None:
        raise ImageNotFound(
            f"the laptop's Docker has no image {reference}", hint=f"docker pull {reference}"
        )
    refuse_other_architecture(image, reference, architecture)
    there = host.images.get(image.id)
    if there is not None:
        host.images.tag(image.id, reference)
        return Loaded(reference, image.id, 0, 0, len(image.layers))
    on_host = host.images.find()
    known = layers_known(image, on_host)
    size = size_above(image, known, on_host)
    if remote is not None:
        refuse_if_full(host, remote, HostCapabilities(), size, f"loading {reference}")
    try:
        sent = _send(laptop, host, image, reference, known, size, report)
    except EngineError:
        if not known:
            raise
        report.note("the host wants every layer: sending the whole image")
        known = 0
        sent = _send(laptop, host, image, reference, 0, image.size, report)
    return Loaded(reference, image.id, sent, len(image.layers) - known, known)


def layers_known(image: Image, on_host: tuple[Image, ...]) -> int:
    """How many of the image's lowest layers the host has, one upon the other. Pure.

    A layer is known to an engine together with those below it only.
    """
    known = 0
    for other in on_host:
        same = 0
        for mine, theirs in zip(image.layers, other.layers, strict=False):
            if mine != theirs:
                break
            same += 1
        known = max(known, same)
    return known


def size_above(image: Image, known: int, on_host: tuple[Image, ...]) -> int:
    """About how many bytes the layers above the `known` lowest ones hold. Pure."""
    below = [other.size for other in on_host if other.layers == image.layers[:known]]
    return image.size - max(below, default=0)


def _send(
    laptop: Engine,
    host: Engine,
    image: Image,
    reference: str,
    known: int,
    size: int,
    report: Report,
) -> int:
    sent = 0

    def counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal sent
        for chunk in chunks:
            sent += len(chunk)
            report.progress(f"sending {reference}", sent, max(size, sent))
            yield chunk

    archive = without_layers(laptop.images.save(reference), known)
    loaded = [event for event in host.images.load(counted(archive)) if isinstance(event, Built)]
    report.progress(f"sending {reference}", sent, sent)
    if not loaded or host.images.get(reference) is None:
        raise EngineError(f"the host took {reference} and does not have it")
    return sent


def without_layers(archive: Iterator[bytes], known: int) -> Iterator[bytes]:
    """A `docker save` archive without the contents of its `known` lowest layers.

    Which file is which layer is told by manifest.json, which comes after the layers: so layers are
    kept back on disk until it is read, one image at a time.
    """
    if known == 0:
        yield from archive
        return
    with tempfile.TemporaryFile(prefix="remotedl-load-") as spool:
        for chunk in archive:
            spool.write(chunk)
        spool.seek(0)
        with tarfile.open(fileobj=spool, mode="r:") as tar:
            left_out = _lowest(tar, known)
            yield from _repacked(tar, lambda name: name in left_out)


def _lowest(tar: tarfile.TarFile, known: int) -> set[str]:
    file = tar.extractfile("manifest.json")
    if file is None:
        return set()
    manifest: list[dict[str, Any]] = json.load(file)
    names = {str(name) for entry in manifest for name in entry["Layers"][:known]}
    # A layer may stand in for another by a link; what it points at must stay.
    kept = {str(name) for entry in manifest for name in entry["Layers"][known:]}
    return names - kept


def _repacked(tar: tarfile.TarFile, left_out: Callable[[str], bool]) -> Iterator[bytes]:
    for member in tar:
        if left_out(member.name):
            continue
        yield member.tobuf(tarfile.GNU_FORMAT)
        if member.isreg():
            file = tar.extractfile(member)
            assert file is not None
            while chunk := file.read(CHUNK):
                yield chunk
            yield b"\0" * (-member.size % BLOCK)
    yield b"\0" * (2 * BLOCK)


# Argument: an image's id. One line each, in a file that only this user has.
NOTE_BROUGHT = 'umask 077; mkdir -p .remotedl && printf "%s\\n" "$1" >> .remotedl/loaded-images'


def note_brought(remote: Remote, image_id: str) -> None:
    """Note on the host that the user brought this image there: `prune` leaves it alone."""
    remote.run(["sh", "-c", NOTE_BROUGHT, "sh", image_id])


def brought(remote: Remote) -> frozenset[str]:
    """Ids of the images that the user brought to the host."""
    found = remote.run(["cat", ".remotedl/loaded-images"], check=False)
    return frozenset(found.text.split()) if found.ok else frozenset()
