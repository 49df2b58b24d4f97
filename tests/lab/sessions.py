"""Sessions that were brought up from a bare host once, and that many tests then look at.

Building the base image is the dearest thing in the whole suite: whoever needs a provisioned host
with that image takes `live_bookworm.host` (or trixie's) and logs in as another user.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.lab.host import Host, HostOptions
from tests.lab.images import Release
from tests.lab.laptop import CHECKOUT, Command, Laptop
from tests.lab.run import LabRun
from tests.lab.seeds import finished, keep, warm_seed

if TYPE_CHECKING:
    import requests

SAMPLE = CHECKOUT / "tests/sample_project"
UP_LIMIT_S = 900
"""From a bare host, with a build, on a machine that is busy with other things."""
SOON_S = 30
STAGES = (
    r"\[connect\]",
    r"\[provision\]",
    r"\[provision\].*install",
    r"\[image\] building",
    r"\[container\]",
    r"\[sync\]",
    r"\[tunnel\]",
)
"""What `up` says at each stage, in order."""


@dataclass
class Live:
    """A session in front (`remotedl up h1`), its laptop and its host."""

    host: Host
    laptop: Laptop
    up: Command
    killed_at: tuple[str, ...] = ()
    """At which words of `up` it was killed before this session."""
    workdir: str = field(init=False)
    container: str = field(init=False)

    def __post_init__(self) -> None:
        now = self.status()
        self.workdir, self.container = now["workdir"], now["container"]

    def status(self) -> dict[str, Any]:
        sessions = json.loads(self.laptop.run("status", "--json").stdout)
        return next(one for one in sessions if one["host"] == "h1")

    def page(self, name: str) -> Page:
        url = next(t["url"] for t in self.status()["tunnels"] if t["name"] == name)
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        token, gate = (query.get(name, [""])[0] for name in ("token", "remotedl_token"))
        return Page(f"{parts.scheme}://{parts.netloc}", token, gate)

    @property
    def jupyter(self) -> Page:
        return self.page("Jupyter")

    @property
    def tensorboard(self) -> Page:
        return self.page("TensorBoard")

    def in_container(self, *argv: str) -> str:
        return self.host.exec(["docker", "exec", self.container, *argv]).stdout


@dataclass(frozen=True)
class Page:
    """A service through its tunnel."""

    base: str
    token: str
    gate: str = ""
    """What its tunnel asks for."""

    def get(self, path: str, *, token: str | None = None) -> requests.Response:
        """GET with the session's token, another one, or none ("")."""
        return self.send("GET", path, token=token)

    def send(
        self, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> requests.Response:
        import requests  # here: pure tests load this file as well

        used = self.token if token is None else token
        headers = {"Authorization": f"token {used}"} if used else {}
        params = {"remotedl_token": self.gate} if self.gate else {}
        url = self.base + path
        return requests.request(method, url, json=body, params=params, headers=headers, timeout=20)


def eventually(check: Callable[[], object], limit_s: float = SOON_S) -> object:
    """What `check` gives once it is true; AssertionErrors count as not yet."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if found := check():
                return found
            last: AssertionError | None = None
        except AssertionError as exc:
            last = exc
        if time.monotonic() > deadline:
            raise last or AssertionError(f"not true within {limit_s} s")
        time.sleep(0.1)


@contextmanager
def live_session(host: Host, laptop: Laptop, *options: str) -> Iterator[Live]:
    """`remotedl up h1` until Jupyter answers; ended by Ctrl-C."""
    up = laptop.start("up", "h1", "--no-open", "--yes", *options)
    up.wait_for(r"token=", UP_LIMIT_S)
    session = Live(host, laptop, up)
    try:
        yield session
    finally:
        session.up.interrupt()
        session.up.wait(30)


def sample_laptop(root: Path) -> Laptop:
    """A laptop whose project is a copy of tests/sample_project."""
    laptop = Laptop(root)
    shutil.copytree(SAMPLE, laptop.folder, dirs_exist_ok=True)
    return laptop


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    machine = Laptop(tmp_path)
    yield machine
    machine.close()


@pytest.fixture(scope="session")
def live_bookworm(lab_run: LabRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """From a bare host: provisioned, built, synced, tunnelled. Docker 20.10, no buildx."""
    with from_bare(lab_run, "bookworm", tmp_path_factory.mktemp("bookworm")) as session:
        yield session


@pytest.fixture(scope="session")
def live_trixie(lab_run: LabRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The same with Docker 26.1 and buildx, and through `kill -9` at each stage."""
    root = tmp_path_factory.mktemp("trixie")
    with from_bare(lab_run, "trixie", root, kill_at=STAGES) as session:
        yield session


@pytest.fixture(scope="session", params=["bookworm", "trixie"])
def live(request: pytest.FixtureRequest) -> Live:
    """The test runs once on each."""
    session: Live = request.getfixturevalue(f"live_{request.param}")
    return session


@contextmanager
def from_bare(
    run: LabRun, release: Release, root: Path, *, kill_at: tuple[str, ...] = ()
) -> Iterator[Live]:
    # In CI the image is built; elsewhere its layers may be those of an earlier run.
    warm = "" if os.environ.get("CI") == "true" else warm_seed(release)
    seed = warm if warm and finished(warm) else ""
    host = Host(run, f"e2e-{release}", HostOptions(release, seed=seed))
    host.create()
    assert host.exec(["docker", "version"], check=False).returncode != 0
    laptop = sample_laptop(root)
    laptop.know("h1", host.login)
    try:
        for words in kill_at:
            up = laptop.start("up", "h1", "--no-open", "--yes")
            up.wait_for(words, UP_LIMIT_S)
            up.kill()
        with live_session(host, laptop) as session:
            session.killed_at = kill_at
            yield session
        if warm and not seed:
            keep(host, warm)
    finally:
        laptop.close()
        host.remove()
