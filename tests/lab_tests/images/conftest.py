"""Where images come to be: this machine's engine, and those of lab hosts over our own SSH."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from remotedl.engine import Engine
from remotedl.images import HostCapabilities, ImageRef, ImageWish, ensure
from remotedl.report import SILENT
from remotedl.ssh import connect
from remotedl.ssh.prompt import NOBODY
from remotedl.ssh.remote import Remote
from tests.lab.engine import docker, docker_ok
from tests.lab.host import Host
from tests.lab.images import standin_image
from tests.lab.machine import wheel_folder
from tests.lab_tests.engine.conftest import debian, here
from tests.lab_tests.images.torchvision_double import make_double
from tests.support.local_remote import LocalRemote

__all__ = ["debian", "here"]

OURS = 'LABEL remotedl.catalogue="test"\n'
"""Makes a test's image one that needs no Jupyter on top, which would take a minute."""
GATEWAY = "172.17.0.1"
WHEELS_PORT = 7998


class Told:
    """A Report that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.lines: list[str] = []
        self.moves: list[tuple[str, float, float | None, str]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str, hint: str = "") -> None:
        self.warnings.append(text)

    def output(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None:
        self.moves.append((what, done, total, unit))

    def stage(self, name: str, detail: str = "") -> None: ...

    @property
    def built(self) -> bool:
        return any(note.startswith("building") for note in self.notes)


@dataclass
class Place:
    """An engine and the way to its host."""

    engine: Engine
    remote: Remote
    sudo: bool = False
    told: Told = field(default_factory=Told)

    def ensure(self, wish: ImageWish, *, rebuild: bool = False, **host: Any) -> ImageRef:
        self.told = Told()
        capabilities = HostCapabilities(docker_sudo=self.sudo, **host)
        return ensure(
            self.engine, self.remote, wish, capabilities, report=self.told, rebuild=rebuild
        )

    def run(self, image: str, *argv: str, user: str = "4242:4242") -> tuple[int, bytes]:
        """A command in a container of its own: its status, and all that it printed."""
        from remotedl.engine import NewContainer

        made = self.engine.containers.create(
            NewContainer(image=image, entrypoint=(), command=argv, user=user, init=True)
        )
        try:
            self.engine.containers.start(made.id)
            code = self.engine.containers.wait(made.id)
            return code, self.engine.containers.logs(made.id)
        finally:
            self.engine.containers.remove(made.id, force=True)


@pytest.fixture
def local(here: Engine, tmp_path: Path) -> Place:
    """This machine: quick, and it may be given what a host may not."""
    return Place(here, LocalRemote(tmp_path))


@pytest.fixture(params=["bookworm", "trixie"])
def place(request: pytest.FixtureRequest) -> Place:
    """A lab host: once with the classic builder only, once with buildx."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture(scope="session")
def bookworm_place(bookworm_host: Host) -> Iterator[Place]:
    yield from _place(bookworm_host)


@pytest.fixture(scope="session")
def trixie_place(trixie_host: Host) -> Iterator[Place]:
    yield from _place(trixie_host)


def _place(host: Host) -> Iterator[Place]:
    login = host.login
    remote = connect(
        login.host_config(),
        prompt=NOBODY,
        known_hosts=login.known_hosts,
        ssh_config=Path(os.devnull),
    )
    engine = Engine(lambda: remote.start(["docker", "system", "dial-stdio"], sudo=True))
    yield Place(engine, remote, sudo=True)
    engine.close()
    remote.close()


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """`project({"Dockerfile": "FROM …"})`: a project's folder with these files."""

    def make(files: dict[str, str]) -> Path:
        folder = tmp_path / "project"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return make


@dataclass(frozen=True)
class Guarded:
    """A registry that lets in nobody but "ada" with the password "hush"."""

    port: int
    folder: Path

    def name(self, image: str) -> str:
        return f"127.0.0.1:{self.port}/{image}"


@pytest.fixture
def guarded_registry(tmp_path: Path) -> Iterator[Guarded]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("Debian's docker-registry is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hashed = bcrypt.hashpw(b"hush", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"ada:{hashed}\n")
    (tmp_path / "registry.yml").write_text(
        "version: 0.1\n"
        f"storage:\n  filesystem:\n    rootdirectory: {tmp_path}/registry\n"
        f"http:\n  addr: 127.0.0.1:{port}\n"
        f"auth:\n  htpasswd:\n    realm: lab\n    path: {tmp_path}/htpasswd\n"
    )
    server = subprocess.Popen(
        [program, "serve", str(tmp_path / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_refused(f"http://127.0.0.1:{port}/v2/")
    yield Guarded(port, tmp_path)
    server.terminate()
    server.wait(10)


def _wait_refused(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5)
        except urllib.error.HTTPError as exc:
            assert exc.code == 401
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture(scope="session")
def wheels_base(here: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The stand-in for Debian, with a CPU torch and the torchvision double within pip's reach."""
    base = standin_image("bookworm")
    folder = tmp_path_factory.mktemp("wheels")
    found = wheel_folder()
    for wheel in Path(found).glob("*.whl") if found else ():
        (folder / wheel.name).symlink_to(wheel)
    _torchvision_double(folder)
    handler = partial(_Quiet, directory=str(folder))
    # The port is in the base image, so it must stay the same for layers to be found again; a run
    # beside this one serves the same wheels there.
    try:
        server = http.server.ThreadingHTTPServer((GATEWAY, WHEELS_PORT), handler)
    except OSError:
        server = None
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    tag = f"remotedl-lab/standin-wheels:{base.rpartition('-')[2]}"
    if not docker_ok("image", "inspect", tag):
        text = f"FROM {base}\nENV PIP_FIND_LINKS=http://{GATEWAY}:{WHEELS_PORT}/ "
        text += f"PIP_TRUSTED_HOST={GATEWAY}\n"
        docker("build", "-q", "-t", tag, "-", stdin=text.encode())
    yield tag
    if server is not None:
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


def _torchvision_double(folder: Path) -> None:
    """Made of the wheel that goes with the torch of dockerfiles/pytorch."""
    fetched = folder / "fetched"
    asked = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11", "torchvision==0.28.0"]
    subprocess.run(
        ["pip", "download", "-q", "-d", str(fetched), *asked], check=True, capture_output=True
    )
    (wheel,) = fetched.glob("torchvision-*.whl")
    make_double(wheel, folder)
    shutil.rmtree(fetched)


@pytest.fixture
def base(local: Place) -> ImageRef:
    """dockerfiles/base on the stand-in, as the other rooms' tests have it too."""
    wish = ImageWish(build_args={"BASE_IMAGE": standin_image("bookworm")})
    return ensure(local.engine, local.remote, wish, HostCapabilities(), report=SILENT)
