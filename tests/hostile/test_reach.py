"""Who reaches what listens in a container: nobody but the SSH user, by the sockets.

Attackers: another user of the host, another container, another container of the same user, a
neighbour that knows the container's address. What they must not reach: Jupyter, TensorBoard, a
program of the user's that listens on all addresses of its container.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from remotedl.container.separation import network_name
from remotedl.engine import Engine
from tests.lab.engine import docker
from tests.lab_tests.container.conftest import (
    Place,
    base_image,
    docker_place,
    engine,
    own_place,
    until,
    user_home,
)

__all__ = ["base_image", "docker_place", "engine", "own_place", "user_home"]

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PORTS = (8888, 6006, 7860)
STRANGER = 60123
TRY_TCP = """
import socket, sys
for port in map(int, sys.argv[2:]):
    try:
        socket.create_connection((sys.argv[1], port), 3).close()
        print("reached", port)
    except OSError as exc:
        print("refused", port, type(exc).__name__)
"""
TRY_SOCKETS = """
import encodings.idna, os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
for path in sys.argv[2:]:
    end = socket.socket(socket.AF_UNIX)
    try:
        end.connect(path)
        print("reached", path)
    except OSError as exc:
        print("refused", path, type(exc).__name__)
"""


@dataclass(frozen=True)
class Target:
    place: Place
    name: str
    address: str
    network: str


@pytest.fixture
def target(docker_place: Place) -> Iterator[Target]:
    """Jupyter and TensorBoard, and a program that is open to its whole container."""
    serve = ["python3", "-m", "http.server", "--bind", "0.0.0.0", "7860"]
    job = docker_place.jobs.start(serve, cwd=docker_place.folder)
    name = docker_place.running.name
    asked = "{{.HostConfig.NetworkMode}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    network, address = docker("inspect", "-f", asked, name).split()
    inside = ["python3", "-c", TRY_TCP, "127.0.0.1", "7860"]
    until(lambda: "reached" in docker_place.runtime.run(inside).text, "the program listens")
    until(lambda: docker_place.get("/data/environment", 6006)[0] == 200, "TensorBoard answers")
    yield Target(docker_place, name, address, network)
    docker_place.jobs.stop(job)


def test_no_port_is_published(target: Target) -> None:
    assert docker("port", target.name) == ""


def test_another_user_of_the_host_gets_into_no_socket(target: Target) -> None:
    sockets = [f"{target.place.running.sockets}/{port}" for port in (8888, 6006)]
    assert all(Path(path).is_socket() for path in sockets)
    argv = [sys.executable, "-c", TRY_SOCKETS, str(STRANGER), *sockets]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert [line.split()[0] for line in said] == ["refused", "refused"]


def test_services_do_not_listen_on_the_containers_address(target: Target) -> None:
    """The host itself, and through it whoever has a route to its bridge."""
    argv = [sys.executable, "-c", TRY_TCP, target.address, "8888", "6006"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert [line.split()[0] for line in said] == ["refused", "refused"]


@pytest.mark.parametrize("where", ["the engine's bridge", "the same network", "another one"])
def test_another_container_reaches_nothing_by_address(target: Target, where: str) -> None:
    other = f"remotedl-test-{target.name[-6:]}"
    network = {"the engine's bridge": "bridge", "the same network": target.network}.get(where)
    if network is None:
        docker("network", "create", other)
    try:
        image = target.place.wanted.image
        assert image is not None
        ports = [str(port) for port in PORTS]
        said = docker(
            "run", "--rm", "--network", network or other, "--entrypoint", "python3", image.ref,
            "-c", TRY_TCP, target.address, *ports,
        )  # fmt: skip
    finally:
        if network is None:
            docker("network", "rm", other)
    assert [line.split()[0] for line in said.splitlines()] == ["refused"] * len(PORTS), said


def test_a_users_containers_are_on_a_network_of_the_user(
    target: Target, own_place: Place, engine: Engine
) -> None:
    name = network_name(target.place.running.user)
    assert target.network == name
    network = engine.networks.get(name)
    assert network is not None
    assert network.separate
    assert network.mtu == getattr(engine.networks.get("bridge"), "mtu", None)
    own_place.runtime.remove()
    assert engine.networks.get(name) is not None, "another container is on it"
