"""The fixtures for hosts. Session-scoped hosts are shared: look, don't break.

A test that stops, pauses, fills or re-addresses a host takes one of its own from `make_host`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.lab.aptrepo import PackageMirrors, start_mirrors
from tests.lab.engine import stop_idle_dockerd
from tests.lab.host import Host, HostOptions
from tests.lab.run import LabRun, reap
from tests.lab.services import Registry, start_registry

MakeHost = Callable[..., Host]


@pytest.fixture(scope="session")
def lab_run() -> Iterator[LabRun]:
    """This session's run of the lab: its folder, key and network. Reaps what dead runs left."""
    reap()
    run = LabRun()
    yield run
    run.close()
    stop_idle_dockerd()


@pytest.fixture(scope="session")
def bookworm_host(lab_run: LabRun) -> Host:
    """A shared host with Docker 20.10 (no CDI, no buildx) and the stand-in images."""
    return _started(lab_run, "bookworm", HostOptions("bookworm", engine=True))


@pytest.fixture(scope="session")
def trixie_host(lab_run: LabRun) -> Host:
    """A shared host with Docker 26.1, buildx and the stand-in images."""
    return _started(lab_run, "trixie", HostOptions("trixie", engine=True))


@pytest.fixture(scope="session", params=["bookworm", "trixie"])
def engine_host(request: pytest.FixtureRequest) -> Host:
    """The test runs once on each of the two shared hosts."""
    host: Host = request.getfixturevalue(f"{request.param}_host")
    return host


@pytest.fixture
def make_host(lab_run: LabRun) -> Iterator[MakeHost]:
    """`make_host(release="trixie", engine=True, …)`: a host of the test's own, bare by default.

    Keywords are those of HostOptions, and `name`. Takes 3 to 5 s each.
    """
    made: list[Host] = []

    def make(name: str = "", **options: object) -> Host:
        given = HostOptions(**options)  # type: ignore[arg-type]
        host = Host(lab_run, name or lab_run.fresh_name("h"), given)
        made.append(host)
        host.create()
        return host

    yield make
    for host in made:
        host.remove()


@pytest.fixture(scope="session")
def registry(lab_run: LabRun) -> Registry:
    """Debian's docker-registry, empty; `registry.open_on(host)`, then `registry.name("x:1")`."""
    return start_registry(lab_run)


@pytest.fixture(scope="session")
def package_mirrors(lab_run: LabRun) -> PackageMirrors:
    """Signed repositories like Docker's and NVIDIA's, of doubles: `.config()` -> Mirrors."""
    return start_mirrors(lab_run)


def _started(run: LabRun, name: str, options: HostOptions) -> Host:
    host = Host(run, name, options)
    host.create()
    return host
