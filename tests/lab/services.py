"""What lab hosts fetch from: a file server and a container registry, each in a container.

In containers and not in threads, so that they end with the run like everything else, also when
the tests are killed, and so that they outlive the command that starts hosts by hand.
"""

from __future__ import annotations

import shutil
import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.engine import docker
from tests.lab.host import Host
from tests.lab.images import host_image
from tests.lab.run import LabRun

FILES_PORT = 8000
START_LIMIT_S = 20.0
REGISTRY_CONFIG = """\
version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :{port}
"""


def serve_files(run: LabRun, folder: Path, name: str) -> str:
    """Serve `folder` to the run's hosts; the base URL, with no slash at the end."""
    address = _serve(
        run, name,
        ["-v", f"{folder}:/srv/files:ro"],
        ["python3", "-m", "http.server", "--directory", "/srv/files", str(FILES_PORT)],
    )  # fmt: skip
    url = f"http://{address}:{FILES_PORT}"
    _wait_answers(f"{url}/")
    return url


@dataclass(frozen=True)
class Registry:
    """Debian's docker-registry. An image in it has one name everywhere: `registry.name("x:1")`.

    Engines take registries on 127.0.0.1 without TLS, so each host forwards that port to it.
    """

    address: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def name(self, image: str) -> str:
        return f"127.0.0.1:{self.port}/{image}"

    def open_on(self, host: Host) -> None:
        """Make 127.0.0.1:PORT on `host` lead to the registry, until the host is removed."""
        unit, socket_unit = _forwarder(self.address, self.port)
        host.write("/etc/systemd/system/lab-registry.service", unit)
        host.write("/etc/systemd/system/lab-registry.socket", socket_unit)
        host.exec(["systemctl", "daemon-reload"])
        host.exec(["systemctl", "enable", "--now", "lab-registry.socket"])


def start_registry(run: LabRun) -> Registry:
    """An empty registry on the run's network."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("Debian's docker-registry is not installed")
    port = _free_port()
    config = run.folder / "registry.yml"
    config.write_text(REGISTRY_CONFIG.format(port=port), encoding="utf-8")
    address = _serve(
        run, "registry",
        ["-v", f"{program}:/usr/bin/docker-registry:ro", "-v", f"{config}:/registry.yml:ro"],
        ["docker-registry", "serve", "/registry.yml"],
    )  # fmt: skip
    _wait_answers(f"http://{address}:{port}/v2/")
    return Registry(address, port)


def _serve(run: LabRun, name: str, options: list[str], argv: list[str]) -> str:
    """Run a server in a container of the run; its address."""
    docker(
        "run", "-d", "--init", "--name", run.named(name), *run.labels(),
        "--network", run.network, "--network-alias", name, *options,
        "--stop-signal", "SIGTERM", host_image("bookworm"), *argv,
    )  # fmt: skip
    template = f'{{{{(index .NetworkSettings.Networks "{run.network}").IPAddress}}}}'
    return docker("inspect", "-f", template, run.named(name))


def _wait_answers(url: str) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _forwarder(address: str, port: int) -> tuple[str, str]:
    service = (
        "[Service]\n"
        f"ExecStart=/lib/systemd/systemd-socket-proxyd {address}:{port}\n"
        "NonBlocking=true\n"
    )
    listener = (
        f"[Socket]\nListenStream=127.0.0.1:{port}\nNoDelay=true\n"
        "[Install]\nWantedBy=sockets.target\n"
    )
    return service, listener


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
