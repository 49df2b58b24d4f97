"""What `--rebuild` would bring: base images that their registry has newer, and newer packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from remotedl.engine import Engine, Image
from remotedl.errors import EngineError
from remotedl.images.credentials import auth_for
from remotedl.report import Report
from remotedl.ssh.remote import Result

OUTDATED = ("python", "-m", "pip", "list", "--outdated", "--format", "json")


@dataclass(frozen=True, slots=True)
class Newer:
    """One thing that there is a newer version of."""

    kind: str
    """"image" or "package"."""
    name: str
    has: str
    newest: str


def newer_bases(engine: Engine, image: Image, report: Report) -> list[Newer]:
    """Of the images that `image` is built on. One whose registry does not answer is told."""
    found = []
    bases = [one for one in engine.images.find() if is_base(one, image)]
    if not bases:
        report.note("which version its base image has is not noted on the host")
    for base in bases:
        known = {digest.partition("@")[2] for digest in base.digests}
        for reference in base.tags:
            try:
                newest = engine.images.registry_digest(reference, auth=auth_for(reference))
            except EngineError as exc:
                report.warn(f"{reference}: {exc.message}", hint=exc.hint)
                continue
            if newest and newest not in known:
                found.append(Newer("image", reference, _short(min(known)), _short(newest)))
    return found


def is_base(base: Image, image: Image) -> bool:
    """Whether it comes from a registry and is what `image` begins with. Pure."""
    return bool(base.digests and base.layers) and image.layers[: len(base.layers)] == base.layers


def newer_packages(run: Callable[[tuple[str, ...]], Result], report: Report) -> list[Newer]:
    """Of the Python packages where `run` runs. What cannot be told is told."""
    result = run(OUTDATED)
    if not result.ok:
        said = (result.error_text.strip() or result.text.strip()).splitlines()[-1:]
        report.warn(f"newer packages cannot be told: {' '.join(said)}", hint="remotedl doctor")
        return []
    return parse_outdated(result.text)


def parse_outdated(text: str) -> list[Newer]:
    """pip's answer. Pure."""
    rows = json.loads(text or "[]")
    return [
        Newer("package", str(row["name"]), str(row["version"]), str(row["latest_version"]))
        for row in rows
    ]


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
