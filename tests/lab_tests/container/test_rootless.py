"""Engines of the login user's own: a rootless Docker, and podman by its socket.

One host, one user without sudo. What these engines cannot do here (limits by cgroups, a service
that outlives the login) takes a systemd of the user's, which lab hosts have not.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remotedl import ssh
from remotedl.config.models import LocalImage, ProjectConfig
from remotedl.container.docker import DockerRuntime
from remotedl.container.gpus import GpuWay, choose_request
from remotedl.container.runtime import Change, Wanted
from remotedl.container.services import Tools
from remotedl.container.spec import Image
from remotedl.engine import Engine
from remotedl.images import HostCapabilities, ImageRef, ImageWish, ensure
from remotedl.provision.apply import converge
from remotedl.provision.facts import HostFacts
from remotedl.provision.steps import Wish
from remotedl.report import SILENT
from remotedl.session.workplace import engine_access, open_engine
from remotedl.ssh.prompt import NOBODY
from remotedl.ssh.remote import Remote
from remotedl.tunnel.way import Way
from tests.lab.fixtures import MakeHost
from tests.lab.gpu import Gpu, GpuDouble
from tests.lab.host import Host
from tests.lab_tests.container.conftest import BARE, fresh_project, until
from tests.lab_tests.container.test_host import DOCKERFILE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PACKAGES = "busybox-static rootlesskit slirp4netns uidmap"
PODMANS = "podman crun catatonit netavark nftables aardvark-dns passt"
RUNTIME = "/run/user/1002"
NVIDIA = Path(__file__).parents[2] / "lab" / "doubles" / "nvidia"
WORLD = f"export HOME=/home/cyd XDG_RUNTIME_DIR={RUNTIME} PATH=/usr/bin:/usr/sbin:/bin:/sbin; cd;"
TINY = """\
cd "$(mktemp -d)" && mkdir bin tmp && cp /bin/busybox bin/ \\
&& for a in sh mkdir printf chmod rm sleep id touch date cat awk wc sed [; do
    ln -s busybox bin/$a
done \\
&& tar -c . | docker import - localhost/tiny:1 \\
&& docker save localhost/tiny:1 -o /srv/tiny.tar && chmod 644 /srv/tiny.tar
"""
"""An image of two megabytes: the storage driver that works anywhere copies it for every layer."""
DOCKERD = (
    "exec sh /usr/share/docker.io/contrib/dockerd-rootless.sh --storage-driver vfs"
    " --add-runtime nvidia=/usr/bin/nvidia-container-runtime"
)
PODMAN = f"exec podman --storage-driver vfs system service -t 0 unix://{RUNTIME}/podman/podman.sock"


def test_the_container_of_a_rootless_engine_writes_the_users_files(
    make_host: MakeHost, tmp_path: Path
) -> None:
    host = make_host(release="trixie", engine=True)
    host.sh(
        f"apt-get -q update && apt-get -qy --no-install-recommends install {PACKAGES} {PODMANS}"
    )
    host.sh(f"install -d -m 700 -o cyd -g cyd {RUNTIME} {RUNTIME}/podman")
    host.sh("mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200")
    host.sh(TINY)
    has_doubles_of_gpus(host)
    text = DOCKERFILE.replace("debian:bookworm-slim", "localhost/tiny:1")
    (tmp_path / "Dockerfile").write_text(text + 'LABEL remotedl.catalogue="test"\n')
    with kept_up(host, DOCKERD, f"{RUNTIME}/docker.sock"), logged_in(host) as remote:
        as_cyd(host, f"docker -H unix://{RUNTIME}/docker.sock load -i /srv/tiny.tar")
        facts = converge(remote, Wish(gpus=False)).facts
        assert (facts.engine.kind, facts.engine.access) == ("rootless", "direct")
        a_project_runs(host, remote, facts, tmp_path)
        it_sees_one_gpu_of_two(host, remote, facts, tmp_path, GpuWay.RUNTIME)
    host.sh("mv /usr/bin/docker /usr/bin/no-docker")
    with kept_up(host, PODMAN, f"{RUNTIME}/podman/podman.sock"), logged_in(host) as remote:
        as_cyd(host, "podman --storage-driver vfs load -i /srv/tiny.tar")
        facts = converge(remote, Wish(gpus=False)).facts
        assert (facts.engine.kind, facts.engine.socket) == (
            "podman",
            f"{RUNTIME}/podman/podman.sock",
        )
        a_project_runs(host, remote, facts, tmp_path)
        it_sees_one_gpu_of_two(host, remote, facts, tmp_path, GpuWay.CDI)


def has_doubles_of_gpus(host: Host) -> None:
    """Two GPUs, the toolkit and its specification, none of them real."""
    GpuDouble(host).install(Gpu(0), Gpu(1))
    # What is mounted over /proc and /sys keeps rootless containers from mounting their own.
    host.sh("for f in /proc/driver /sys/module /sys/bus/pci/devices; do umount $f || :; done")
    for name in ("nvidia-ctk", "nvidia-cdi-hook", "nvidia-container-runtime"):
        host.write(f"/usr/bin/{name}", (NVIDIA / name).read_text())
        host.sh(f"chmod 755 /usr/bin/{name}")
    host.sh("mkdir -p /etc/cdi && nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml")


def it_sees_one_gpu_of_two(
    host: Host, remote: Remote, facts: HostFacts, folder: Path, way: GpuWay
) -> None:
    """What is asked for is what the container has, and the smoke container saw it first."""
    engine = open_engine(remote, engine_access(facts), Way(remote))
    request = choose_request(("1",), engine.report(), facts.toolkit.devices)
    assert request.way is way
    ref = built(engine, remote, facts, folder)
    runtime = DockerRuntime(remote, engine, fresh_project("gpu"))
    image = Image(ref.reference, ref.id, Tools("/opt/remotedl/bin"))
    wanted = Wanted(host.login_as("cyd").host_config(), ProjectConfig(**BARE), image, request)
    runtime.ensure(wanted)
    said = runtime.run(["nvidia-smi", "-L"])
    assert said.text.count("GPU ") == 1 and Gpu(1).uuid in said.text, said.error_text
    runtime.remove()
    engine.close()


def a_project_runs(host: Host, remote: Remote, facts: HostFacts, folder: Path) -> None:
    engine = open_engine(remote, engine_access(facts), Way(remote))
    assert engine.report().rootless
    ref = built(engine, remote, facts, folder)
    runtime = DockerRuntime(remote, engine, fresh_project("own"))
    image = Image(ref.reference, ref.id, Tools("/opt/remotedl/bin"))
    wanted = Wanted(host.login_as("cyd").host_config(gpus="none"), ProjectConfig(**BARE), image)
    first = runtime.ensure(wanted)
    said = runtime.run(["sh", "-c", "id -u; echo $HOME; touch /workspace/made ~/made"])
    assert (said.text.split(), said.code) == (["0", "/home/root"], 0), said.error_text
    assert host.sh(f"stat -c %U {first.folders.workdir}/made") == "cyd\n"
    assert runtime.ensure(wanted).change is Change.KEEP
    runtime.remove()
    engine.close()


def built(engine: Engine, remote: Remote, facts: HostFacts, folder: Path) -> ImageRef:
    host = HostCapabilities(docker_host=facts.engine.host)
    wish = ImageWish(image=LocalImage(), folder=folder)
    return ensure(engine, remote, wish, host, report=SILENT)


def as_cyd(host: Host, command: str) -> None:
    host.sh(f"{WORLD} {command}", user="cyd")


@contextmanager
def kept_up(host: Host, command: str, socket: str) -> Iterator[None]:
    """The engine of cyd's, for as long as the block runs."""
    script = f"{WORLD} {command} >engine.log 2>&1"
    argv = ["docker", "exec", "-u", "cyd", host.container, "sh", "-c", script]
    process = subprocess.Popen(argv)
    try:
        until(lambda: host.exec(["test", "-S", socket], check=False).returncode == 0, socket, 60)
        yield
    finally:
        host.exec(["pkill", "-u", "cyd", "rootlesskit|podman"], check=False)
        process.wait(30)


@contextmanager
def logged_in(host: Host) -> Iterator[Remote]:
    login = host.login_as("cyd")
    config = login.host_config(gpus="none")
    remote = ssh.connect(config, prompt=NOBODY, known_hosts=login.known_hosts)
    try:
        yield remote
    finally:
        remote.close()
