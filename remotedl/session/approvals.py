"""What the user said yes to, kept on the laptop outside of the project's folder.

Nothing that the sync brings may say yes for the user. What is kept is the very value (a mount on a
host) or the digest of a file; another value is another question.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from remotedl.config.files import write_private
from remotedl.config.paths import state_dir, state_unusable
from remotedl.container.risks import risk_of
from remotedl.errors import ConfigError, StateCorrupt
from remotedl.report import Report
from remotedl.session.project import Project
from remotedl.ssh.prompt import Prompt

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ApprovedFile:
    """A file as it was when the user said yes to it, or used it as his own."""

    digest: str
    """"" where there was none."""
    arrived: tuple[str, ...]
    """What hosts had sent of it by then."""
    text: str | None
    """None where it is long, or no text."""


@dataclass(slots=True)
class Approvals:
    """Of one project. `save` what was changed."""

    path: Path
    mounts: dict[str, list[str]] = field(default_factory=dict)
    """By host."""
    files: dict[str, ApprovedFile] = field(default_factory=dict)
    """What an image was made of, by the sync's name of the path."""

    def save(self) -> None:
        files = {key: asdict(one) for key, one in self.files.items()}
        row = {"format": FORMAT, "mounts": self.mounts, "files": files}
        try:
            write_private(self.path, json.dumps(row, indent=1, sort_keys=True).encode())
        except OSError as exc:
            raise state_unusable(self.path, exc) from exc


def read_approvals(project: Project) -> Approvals:
    """Raises StateCorrupt: a damaged file is no empty one."""
    path = state_dir() / "projects" / project.id / ".approved.json"
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return Approvals(path, _mounts(row), _files(row))
    except FileNotFoundError:
        return Approvals(path)
    except OSError as exc:
        raise state_unusable(path, exc) from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise StateCorrupt(
            f"{path}, what you said yes to in this project, is damaged",
            hint=f"mv '{path}' '{path}.damaged': then you are asked anew",
        ) from exc


def _mounts(row: Any) -> dict[str, list[str]]:
    if row["format"] != FORMAT:
        raise ValueError(row["format"])
    return {str(host): [str(one) for one in mounts] for host, mounts in row["mounts"].items()}


def _files(row: Any) -> dict[str, ApprovedFile]:
    return {
        str(key): ApprovedFile(str(one["digest"]), tuple(map(str, one["arrived"])), one["text"])
        for key, one in row["files"].items()
    }


def ask_about_mounts(project: Project, host_name: str, prompt: Prompt, report: Report) -> None:
    """A mount that gives the host away needs a yes that was told so; --yes is none.

    Raises ConfigError where there is no yes.
    """
    found = {mount: risk_of(mount) for mount in project.config.project.mounts}
    risky = {mount: risk for mount, risk in found.items() if risk}
    if not risky:
        return
    approvals = read_approvals(project)
    known = approvals.mounts.setdefault(host_name, [])
    for mount, risk in risky.items():
        if mount in known:
            continue
        report.warn(f"mounts holds {mount}: {risk}")
        if not prompt.confirm(f"Give {mount} of {host_name} to the container all the same?"):
            raise ConfigError(
                f'{project.config_path}: project.mounts holds "{mount}": {risk}',
                hint="remotedl up on a terminal asks about it once; or take it out of mounts",
            )
        known.append(mount)
        approvals.save()
