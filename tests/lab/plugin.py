"""The lab as a pytest plugin: its fixtures, and when a lab test may be skipped.

Importing this must stay cheap: the pure tests load it too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator

import pytest

from tests.lab.badlink import bad_link
from tests.lab.fixtures import (
    bookworm_host,
    engine_host,
    lab_run,
    make_host,
    package_mirrors,
    registry,
    trixie_host,
)
from tests.lab.prepare import prepare
from tests.lab.sessions import UP_LIMIT_S, laptop, live, live_bookworm, live_trixie
from tests.lab.sshd import make_sshd, sshd

__all__ = [
    "bad_link",
    "bookworm_host",
    "engine_host",
    "lab_run",
    "laptop",
    "live",
    "live_bookworm",
    "live_trixie",
    "make_host",
    "make_sshd",
    "package_mirrors",
    "registry",
    "sshd",
    "trixie_host",
]


LIVE = {"live", "live_bookworm", "live_trixie"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever needs a live session may be the one who waits for the way up from a bare host."""
    for item in items:
        if LIVE.intersection(getattr(item, "fixturenames", ())):
            marker = item.get_closest_marker("timeout")
            own = marker.args[0] if marker else float(item.config.getini("timeout") or 0)
            item.add_marker(pytest.mark.timeout(own + UP_LIMIT_S), append=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Images are made before the first test, whose time limit is not for that."""
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "lab_run" not in needed or session.config.option.collectonly or missing():
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")

    def say(text: str) -> None:
        if reporter is not None:
            reporter.write_line(text)

    prepare(say, mirrors="package_mirrors" in needed)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `lab` are skipped with the reason where there can be no lab."""
    if item.get_closest_marker("lab") and (reason := missing()):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip of a lab test is a failure: there, everything must be had."""
    report = yield
    expected = hasattr(report, "wasxfail") or not item.get_closest_marker("lab")
    if os.environ.get("CI") == "true" and report.skipped and not expected:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true forbids for lab tests: {report.longrepr}"
    return report


def missing() -> str:
    """Why this machine can hold no lab; "" where it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "the lab needs root (it boots systemd hosts)"
    absent = [tool for tool in ("docker", "dockerd", "debootstrap") if shutil.which(tool) is None]
    if absent:
        return f"the lab needs {' and '.join(absent)} (apt-get install docker.io debootstrap)"
    return ""
