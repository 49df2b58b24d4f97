"""`remotedl demo`: the whole way on an embedded SSH host on loopback; needs only Python.

The host speaks real SSH; the `native` runtime, the sync, the tunnels and Jupyter are the real ones.
Only the box is this machine: a folder of its own plays the host's home.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from remotedl.config.models import RuntimeKind
from remotedl.config.paths import state_dir
from remotedl.report import Report
from remotedl.session.errands import Errand, workplace
from remotedl.session.options import UpOptions
from remotedl.session.project import Project, open_project
from remotedl.session.prompting import RememberingPrompt
from remotedl.session.session import Session
from remotedl.ssh.embedded import EmbeddedHost
from remotedl.ssh.prompt import NOBODY

HOST_NAME = "demo"
SAMPLE = "sample_project"


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
    project = _sample_project(base / "laptop" / SAMPLE)
    with EmbeddedHost(base / "host") as login:
        # The key lies in a folder that is thrown away with the host; agents are not asked.
        host = login.host.model_copy(update={"runtime": RuntimeKind.NATIVE, "gpus": "none"})
        options = UpOptions(known_hosts=login.known_hosts)
        session = Session(project, HOST_NAME, host, options, NOBODY, report)
        errand = Errand(
            project,
            HOST_NAME,
            host,
            RememberingPrompt(NOBODY),
            report,
            known_hosts=login.known_hosts,
        )
        try:
            yield Demo(session, errand)
        finally:
            session.close()
            with workplace(errand) as (place, _):
                place.runtime.stop()


def _sample_project(folder: Path) -> Project:
    """A project to play with; what the user changed in it stays."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with resources.as_file(_sample()) as source:
            shutil.copytree(source, folder)
    project = open_project(folder)
    return replace(project, config_path=None)


def _sample() -> resources.abc.Traversable:
    """In a wheel beside the package's modules, in a checkout among the tests."""
    packaged = resources.files("remotedl") / SAMPLE
    if packaged.is_dir():
        return packaged
    return resources.files("remotedl") / ".." / "tests" / SAMPLE
