"""Places to work in, for real: a container on this machine's engine, and a native venv."""

from __future__ import annotations

import grp
import http.client
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from remotedl.config.models import HostConfig, ProjectConfig
from remotedl.container.docker import DockerRuntime
from remotedl.container.jobs import Jobs
from remotedl.container.native import NativeRuntime
from remotedl.container.payload.health import Connection
from remotedl.container.runtime import Running, Runtime, Wanted
from remotedl.container.spec import Image, ProjectName
from remotedl.engine import Engine
from remotedl.report import SILENT
from remotedl.ssh.remote import Pty
from tests.lab.cache import cache_folder, content_hash
from tests.lab.engine import docker, ensure_dockerd
from tests.support.local_remote import LocalProcess, LocalRemote

USER = "games"
"""Every Debian has it, it is not root, and it may not use Docker by itself."""
HOST = HostConfig(address="local", gpus="none")
BARE: dict[str, Any] = {"jupyter": {"enabled": False}, "tensorboard": {"enabled": False}}


class UserRemote(LocalRemote):
    """This machine, as an ordinary user with a home of its own."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._entry = pwd.getpwnam(USER)

    @property
    def user(self) -> str:
        return USER

    def start(
        self,
        argv: Sequence[str],
        *,
        sudo: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> LocalProcess:
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "USER": USER, **(env or {})}
        ids = [f"--reuid={self._entry.pw_uid}", f"--regid={self._entry.pw_gid}", "--clear-groups"]
        return super().start(["setpriv", *ids, *argv], sudo=sudo, env=env, cwd=cwd, pty=pty)

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        script = 'umask 077; mkdir -p "$(dirname "$1")" && cat > "$1.t" && chmod $2 "$1.t"'
        self.run(["sh", "-c", f'{script} && mv "$1.t" "$1"', "sh", path, f"{mode:o}"], stdin=data)


@dataclass
class Place:
    """A runtime that has been ensured once, with all that belongs to it."""

    remote: LocalRemote
    runtime: Runtime
    wanted: Wanted
    running: Running
    folder: str
    """The project's folder as programs in there see it."""
    jobs: Jobs = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.remote, self.runtime, self.running.folders.run)

    @property
    def run(self) -> Path:
        return Path(self.running.folders.run)

    @property
    def workdir(self) -> Path:
        return Path(self.running.folders.workdir)

    def asking_for(self, **config: Any) -> Wanted:
        """The same without services, and with this."""
        return replace(self.wanted, config=ProjectConfig(**BARE, **config))

    def get(self, path: str, port: int = 8888, token: str | None = None) -> tuple[int, bytes]:
        """GET from a service; (0, b"") while it does not answer."""
        connection = Connection(f"{self.running.sockets}/{port}", 5)
        headers = {"Authorization": f"token {token}"} if token else {}
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def output(self, job_id: str) -> tuple[bytes, bytes, int | None]:
        """A job's stdout, stderr and exit code, once it has ended."""
        out, err = bytearray(), bytearray()
        job = self.jobs.follow(job_id, out.extend, err.extend)
        return bytes(out), bytes(err), job.code


def until(true: Callable[[], object], what: str, limit_s: float = 30) -> None:
    """Wait for something that must come; fails the test where it does not."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.05)


def fresh_project(name: str = "sample") -> ProjectName:
    return ProjectName(os.urandom(8).hex(), name)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """This machine's engine, dialled as a host's would be."""
    ensure_dockerd()
    root = LocalRemote()
    made = Engine(lambda: root.start(["docker", "system", "dial-stdio"]))
    yield made
    made.close()
    root.close()


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> Image:
    """dockerfiles/base on the lab's stand-in for Debian; made once per content, and kept."""
    from remotedl.images import HostCapabilities, ImageWish, ensure
    from tests.lab.images import standin_image

    # For quick rounds while somebody works on the Dockerfile.
    if given := os.environ.get("REMOTEDL_LAB_BASE_IMAGE"):
        found = engine.images.get(given)
        assert found is not None, f"REMOTEDL_LAB_BASE_IMAGE={given} is not there"
        return Image(given, found.id)
    wish = ImageWish(build_args={"BASE_IMAGE": standin_image("bookworm")})
    ref = ensure(engine, LocalRemote(), wish, HostCapabilities(), report=SILENT)
    return Image(ref.reference, ref.id)


@pytest.fixture(scope="session")
def user_home() -> Iterator[Path]:
    """A home of an ordinary user; not below pytest's own folders, which only root may enter."""
    folder = Path(tempfile.mkdtemp(prefix="remotedl-home-"))
    shutil.chown(folder, USER, grp.getgrgid(pwd.getpwnam(USER).pw_gid).gr_name)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def docker_place(engine: Engine, base_image: Image, user_home: Path) -> Iterator[Place]:
    """A container of an ordinary user. Shared: a test that changes its spec makes its own."""
    remote = UserRemote(user_home)
    runtime = DockerRuntime(remote, engine, fresh_project())
    wanted = Wanted(HOST, ProjectConfig(), base_image, secrets={"API_KEY": "hush-hush"})
    yield Place(remote, runtime, wanted, runtime.ensure(wanted), "/workspace")
    runtime.remove()
    remote.close()


@pytest.fixture
def own_place(engine: Engine, base_image: Image, user_home: Path) -> Iterator[Place]:
    """A container that the test may change; without services, so that it is there at once."""
    remote = UserRemote(user_home)
    runtime = DockerRuntime(remote, engine, fresh_project("own"))
    wanted = Wanted(HOST, ProjectConfig(**BARE), base_image)
    yield Place(remote, runtime, wanted, runtime.ensure(wanted), "/workspace")
    runtime.remove()
    remote.close()


@pytest.fixture(scope="session")
def native_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home but for the venvs, which are dear to make and kept in the lab's cache."""
    home = tmp_path_factory.mktemp("native")
    (home / ".remotedl").mkdir(mode=0o700)
    venvs = cache_folder() / f"native-{content_hash(os.path.realpath('/usr/bin/python3'))}"
    venvs.mkdir(exist_ok=True)
    (home / ".remotedl" / "native").symlink_to(venvs)
    return home


@pytest.fixture(scope="session")
def native_place(native_home: Path) -> Iterator[Place]:
    """A native runtime of root on this machine. Shared, as above."""
    remote = LocalRemote(native_home)
    runtime = NativeRuntime(remote, fresh_project(), host_python="/usr/bin/python3")
    wanted = Wanted(HOST, ProjectConfig(), secrets={"API_KEY": "hush-hush"})
    running = runtime.ensure(wanted)
    yield Place(remote, runtime, wanted, running, running.folders.workdir)
    runtime.remove()
    remote.close()


@pytest.fixture(params=["docker", "native"])
def place(request: pytest.FixtureRequest) -> Place:
    """The test is put to both runtimes."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


def inspected(container: str) -> str:
    """All that the engine says of a container."""
    return docker("inspect", container)


def all_processes() -> str:
    """Every argv on this machine, the containers' included."""
    listed = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True)
    return listed.stdout


def kernels(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        place.get("/api/kernels", token=place.running.token)[1]
    )
    return found
