"""What a host changed of the image that this laptop has built there: shown, and asked about.

The sync notes which contents came from a host. Files that a build reads and that the laptop's user
wrote are never asked about; one that came needs a yes, which holds until the host sends another.
`--yes` is no answer: it speaks for what was written here.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from remotedl.config.models import RuntimeKind
from remotedl.config.paths import state_dir
from remotedl.errors import ConfigError
from remotedl.images.sources import files_read
from remotedl.images.wish import ImageWish
from remotedl.report import Report
from remotedl.session.approvals import Approvals, ApprovedFile, read_approvals
from remotedl.session.project import Project
from remotedl.ssh.prompt import Prompt
from remotedl.sync.agent.tree import key as key_of
from remotedl.sync.database import arrived_in
from remotedl.sync.opening import DATABASE

TEXT_LIMIT = 100_000
"""Bytes of a file whose text is kept, so that a change of it can be shown."""
LINES_SHOWN = 40
"""Of each file; what is left out is counted."""
FILES_SHOWN = 20


def ask_about_recipe(
    project: Project, runtime: RuntimeKind, prompt: Prompt, report: Report
) -> None:
    """Before anything is built. Raises ConfigError where a change from a host has no yes."""
    recipes, copied = files_read(_wish(project, runtime))
    if not recipes:
        return
    approvals = read_approvals(project)
    came = _arrivals(project)
    now = {key: path for path in recipes if (key := _key(project, path))}
    now |= {key: path for path in copied if (key := _key(project, path)) in came}
    files = {key: _read(path, came.get(key, ())) for key, path in now.items()}
    asked = {key: one for key, one in files.items() if _is_new(one, approvals.files.get(key))}
    if asked:
        _show(asked, approvals, report)
        if not prompt.confirm("Build with what the host changed?"):
            raise ConfigError(
                f"a host changed what the image is made of, and nobody here said yes to it: "
                f"{', '.join(sorted(asked)[:FILES_SHOWN])}",
                hint="remotedl up on a terminal shows the changes and asks; "
                "or put your own version back into the file",
            )
    kept = {key: one for key, one in files.items() if one.digest or one.arrived}
    if kept != {key: approvals.files.get(key) for key in kept}:
        approvals.files.update(kept)
        approvals.save()


def _wish(project: Project, runtime: RuntimeKind) -> ImageWish:
    config = project.config.project
    if runtime is RuntimeKind.NATIVE:  # no image, but the same packages
        return ImageWish(
            folder=project.root,
            requirements=config.requirements,
            config_path=project.config_path,
        )
    return ImageWish(
        image=config.image,
        folder=project.root,
        requirements=config.requirements,
        config_path=project.config_path,
    )


def _arrivals(project: Project) -> dict[str, tuple[str, ...]]:
    """By path, what each host sent last."""
    found: dict[str, list[str]] = {}
    for path in sorted((state_dir() / "projects" / project.id).glob(f"*/{DATABASE}")):
        for key, digest in arrived_in(path).items():
            found.setdefault(key, []).append(f"{path.parent.name}:{digest.hex()}")
    return {key: tuple(one) for key, one in found.items()}


def _key(project: Project, path: Path) -> str:
    """The path as the sync names it; "" outside of the project."""
    try:
        return key_of(path.relative_to(project.root).as_posix())
    except ValueError:
        return ""


def _read(path: Path, arrived: Iterable[str]) -> ApprovedFile:
    """The file as it is now; a file that is not there has no digest."""
    digest = hashlib.sha256()
    text: bytes | None = b""
    try:
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
                text = None if text is None or len(text) + len(data) > TEXT_LIMIT else text + data
    except OSError:
        return ApprovedFile("", tuple(arrived), None)
    shown = None
    if text is not None:
        try:
            shown = text.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return ApprovedFile(digest.hexdigest(), tuple(arrived), shown)


def _is_new(now: ApprovedFile, known: ApprovedFile | None) -> bool:
    """A host sent something that nobody has said yes to, and the approved text is not back."""
    if known is None:
        return bool(now.arrived)
    return now.digest != known.digest and not set(now.arrived) <= set(known.arrived)


def _show(asked: dict[str, ApprovedFile], approvals: Approvals, report: Report) -> None:
    report.warn("a host changed what the image is made of")
    for key in sorted(asked)[:FILES_SHOWN]:
        known = approvals.files.get(key)
        before = known.text if known is not None else ""
        after = asked[key].text if asked[key].digest else ""
        if before is None or after is None:
            report.note(f"{key}: changed")
            continue
        lines = list(
            difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm="")
        )[2:]
        report.note(f"{key}: " + ("removed" if not asked[key].digest else "changed"))
        for line in lines[:LINES_SHOWN]:
            report.note(f"  {line}")
        if len(lines) > LINES_SHOWN:
            report.note(f"  … {len(lines) - LINES_SHOWN} more lines: see {key}")
    if len(asked) > FILES_SHOWN:
        report.note(f"… and {len(asked) - FILES_SHOWN} more files")
