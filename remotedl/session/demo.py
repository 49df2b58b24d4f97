"""`remotedl demo`: the whole way on an embedded SSH host on loopback; needs only Python.

The host speaks real SSH; the `native` runtime, the sync, the tunnels and Jupyter are the real ones.
Only the box is this machine: a folder of its own plays the host's home.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from remotedl.config.load import FILE_NAME
from remotedl.config.models import HostConfig, RuntimeKind
from remotedl.config.paths import state_dir
from remotedl.report import Report
from remotedl.session.errands import Errand, workplace
from remotedl.session.options import UpOptions
from remotedl.session.project import open_project
from remotedl.session.prompting import RememberingPrompt
from remotedl.session.session import Session
from remotedl.ssh.embedded import EmbeddedHost
from remotedl.ssh.prompt import NOBODY

HOST_NAME = "demo"
SAMPLE = "sample_project"
WRITTEN_BY_US = "# Written by `remotedl demo` at each start; the host lives as long as the demo."


@dataclass(frozen=True, slots=True)
class Demo:
    """A session that is not up yet, on a host that is."""

    session: Session
    errand: Errand


@contextmanager
def embedded(report: Report, folder: Path | None = None) -> Iterator[Demo]:
    """The embedded host and a sample project for as long as the block runs.

    `folder` keeps the host's home between runs, so that the second demo starts in seconds.
    """
    base = folder or state_dir() / "demo"
    sample = _sample_folder(base / "laptop" / SAMPLE)
    with EmbeddedHost(base / "host", keys=base) as login:
        # The key lies in a folder that is thrown away with the host; agents are not asked.
        changes = {
            "runtime": RuntimeKind.NATIVE,
            "gpus": "none",
            "known_hosts": str(login.known_hosts),
        }
        host = login.host.model_copy(update=changes)
        name_the_host(sample, host)
        project = open_project(sample)
        session = Session(project, HOST_NAME, host, UpOptions(), NOBODY, report)
        errand = Errand(project, HOST_NAME, host, RememberingPrompt(NOBODY), report)
        try:
            yield Demo(session, errand)
        finally:
            session.close()
            try:
                with workplace(errand) as (place, _):
                    place.runtime.stop()
            finally:
                forget_the_host(sample)


def _sample_folder(folder: Path) -> Path:
    """A project to play with; what the user changed in it stays."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with resources.as_file(_sample()) as source:
            shutil.copytree(source, folder)
    return folder


def name_the_host(folder: Path, host: HostConfig) -> None:
    """So that every command works there in a second terminal. A file of the user's own stays."""
    path = folder / FILE_NAME
    if path.exists() and not _ours(path):
        return
    table = host.model_dump(mode="json", exclude_defaults=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    text = "\n".join([WRITTEN_BY_US, f"[hosts.{HOST_NAME}]", *lines, ""])
    path.write_text(text, encoding="utf-8")


def forget_the_host(folder: Path) -> None:
    """Nothing is to point at a host that is gone."""
    path = folder / FILE_NAME
    if path.exists() and _ours(path):
        path.unlink()


def _ours(path: Path) -> bool:
    return path.read_text(encoding="utf-8").startswith(WRITTEN_BY_US)


def _sample() -> resources.abc.Traversable:
    """In a wheel beside the package's modules, in a checkout among the tests."""
    packaged = resources.files("remotedl") / SAMPLE
    if packaged.is_dir():
        return packaged
    return resources.files("remotedl") / ".." / "tests" / SAMPLE
