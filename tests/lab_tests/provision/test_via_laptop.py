"""A host without a way out gets Docker through the laptop, and keeps nothing of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remotedl.provision.apply import converge
from remotedl.provision.steps import Wish
from remotedl.provision.via_laptop import DROP_IN, ENVIRONMENT, engine_through, via_laptop
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab.laptop import Laptop
from tests.lab_tests.provision.conftest import LogIn, Told

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
HOLD = """
import sys, time
from pathlib import Path
from remotedl.config.models import HostConfig
from remotedl.provision.steps import Wish
from remotedl.provision.via_laptop import engine_through, via_laptop
from remotedl.ssh import connect
from remotedl.ssh.prompt import NOBODY
address, key, known = sys.argv[1:]
host = HostConfig(address=address, user="ada", identity_file=key)
remote = connect(host, prompt=NOBODY, known_hosts=Path(known), ssh_config=Path("/dev/null"))
with via_laptop(remote, Wish(), lan=["0.0.0.0/0"]) as way, engine_through(remote, way):
    print("held", flush=True)
    time.sleep(300)
"""


def configured(host: Host) -> bool:
    """Whether anything of the way is on the host."""
    there = host.exec(["ls", DROP_IN, ENVIRONMENT], check=False).stdout
    engine = host.exec(["docker", "info", "-f", "{{.HTTPProxy}}"], check=False).stdout.strip()
    return bool(there or engine)


def test_docker_comes_through_the_laptop_and_nothing_stays(
    make_host: MakeHost, log_in: LogIn, told: Told
) -> None:
    host = make_host(release="bookworm")
    host.sh("ip route del default")
    mirror = host.sh("awk '/^deb / {print $2; exit}' /etc/apt/sources.list").strip()
    assert host.exec(["python3", "-c", ASK, mirror], check=False).returncode != 0, "a way out"
    remote = log_in(host)

    lan = ["0.0.0.0/0"]  # the machine's mirror may have a private address
    with via_laptop(remote, Wish(gpus=False), lan=lan, report=told) as way:
        secret = way.url.partition("//")[2].partition("@")[0].partition(":")[2]
        seen: list[str] = []
        told.on_stage = lambda text: seen.append(host.sh("ps axww; ss -ltn"))
        outcome = converge(remote, way.wish, report=told)

        assert outcome.facts.engine.works and way.proxy.carried > 1_000_000
        assert not any(secret in text for text in seen), "the credential is in a process list"
        port = int(way.url.rpartition(":")[2])
        listening = [line for text in seen for line in text.splitlines() if f":{port} " in line]
        assert listening and all("127.0.0.1" in line for line in listening)
        with engine_through(remote, way):
            assert configured(host)
            assert host.sh(f"stat -c %a {ENVIRONMENT}") == "600\n"
        assert not configured(host)

    assert (
        host.exec(["grep", "-rlF", secret, "/etc", "/run", "/var/lib/remotedl"], check=False).stdout
        == ""
    )


ASK = """
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=3)
"""


DOCKERFILE = """\
FROM debian:bookworm-slim
LABEL remotedl.catalogue="test"
RUN apt-get -q update && apt-cache policy curl | grep Candidate
"""


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_images_come_through_the_laptop_and_a_killed_one_leaves_docker_as_it_was(
    make_host: MakeHost, laptop: Laptop, release: str
) -> None:
    """By the classic builder of one and the buildx of the other."""
    host = make_host(release=release, engine=True)
    host.sh("ip route del default")
    (laptop.folder / "Dockerfile").write_text(DOCKERFILE)
    laptop.know("h1", host.login, gpus="none")
    laptop.settings(project={"image": {"dockerfile": "Dockerfile"}})

    built = laptop.run("image", "build", "h1", "--via-laptop", timeout_s=300)

    assert re.search(r"[1-9]\d*\.\d MB came through this laptop", built.text), built.text
    assert "remotedl:" not in host.sh(f"docker history --no-trunc {built.stdout.strip()}")
    assert not configured(host)
    if release == "bookworm":
        argv = ["image", "pull", "registry.invalid/x:1", "h1", "--via-laptop"]
        pulled = laptop.run(*argv, check=False, timeout_s=120)
        assert pulled.code == 40 and "Bad Gateway" in pulled.text, "the laptop looked in vain"
        assert_a_killed_laptop_leaves_docker_as_it_was(host)


WORK_IMAGE = (
    DOCKERFILE
    + """\
RUN mkdir -p /opt/remotedl/bin \\
 && printf '#!/bin/sh\\nexec sleep 1000000\\n' > /opt/remotedl/bin/supervisord \\
 && chmod +x /opt/remotedl/bin/supervisord
"""
)
"""As much as a container without services needs."""


def test_up_on_a_host_without_a_way_out_goes_the_whole_way_through_the_laptop(
    make_host: MakeHost, laptop: Laptop
) -> None:
    """Docker, an image and a container, from bare; then it lives on with nothing of the way."""
    host = make_host(release="bookworm")
    host.sh("ip route del default")
    (laptop.folder / "Dockerfile").write_text(WORK_IMAGE)
    laptop.know("h1", host.login, gpus="none")
    off = {"enabled": False}
    laptop.settings(
        project={"image": {"dockerfile": "Dockerfile"}, "jupyter": off, "tensorboard": off}
    )
    told = laptop.run("up", "h1", "--dry-run", "--via-laptop", timeout_s=60)
    assert "comes through this laptop" in told.stdout

    up = laptop.run("up", "h1", "-d", "--no-open", "--via-laptop", "--yes", timeout_s=500)

    carried = [float(one) for one in re.findall(r"([\d.]+) MB came through this laptop", up.text)]
    assert len(carried) == 1 and carried[0] > 10, up.text
    session = laptop.run("status").stdout
    assert "live" in session
    assert_nothing_of_the_way_is_there(host)
    first = host.sh("docker ps -q --no-trunc; cat /proc/$(pidof dockerd)/stat | cut -d' ' -f22")

    laptop.run("down", "h1", timeout_s=60)
    second = laptop.run("up", "h1", "-d", "--no-open", "--via-laptop", "--yes", timeout_s=120)
    again = host.sh("docker ps -q --no-trunc; cat /proc/$(pidof dockerd)/stat | cut -d' ' -f22")
    assert again == first, second.text
    assert_nothing_of_the_way_is_there(host)
    laptop.run("down", "h1", timeout_s=60)


def assert_nothing_of_the_way_is_there(host: Host) -> None:
    assert not configured(host)
    assert host.sh("ss -Hltnp | grep -c '127.0.0.1:.*sshd' || true") == "0\n", "the port is open"
    container = host.sh("docker ps -q").strip()
    seen = host.sh(f"docker inspect {container}; docker history --no-trunc {container_image(host)}")
    files = host.sh("grep -rl 'remotedl:.*@127.0.0.1' /etc /run /home/ada/.remotedl || true")
    assert "remotedl:" not in re.sub(r"remotedl:[0-9a-f]{12}", "", seen) and files == ""


def container_image(host: Host) -> str:
    return host.sh("docker ps --format '{{.Image}}'").strip()


def assert_a_killed_laptop_leaves_docker_as_it_was(host: Host) -> None:
    login = host.login
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, login.address, str(login.key), str(login.known_hosts)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    assert configured(host)

    process.send_signal(signal.SIGKILL)
    process.wait()

    deadline = time.monotonic() + 60
    while configured(host) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not configured(host)
    assert host.sh("docker run --rm debian:bookworm-slim echo well") == "well\n"
