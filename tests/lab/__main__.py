"""The lab by hand: `python -m tests.lab start h1 [--release trixie] [--engine]`, then ssh to it.

Hosts started here stay until `stop`. stdout is the host's SSH configuration, ready to be put
into ~/.ssh/config; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from tests.lab.aptrepo import mirror_folder
from tests.lab.cache import cache_folder
from tests.lab.engine import docker, docker_ok
from tests.lab.gpu import Gpu, GpuDouble
from tests.lab.host import Host, HostOptions
from tests.lab.images import (
    RELEASES,
    REPOSITORY,
    base_image,
    engine_image,
    host_image,
    standin_image,
)
from tests.lab.plugin import missing
from tests.lab.run import LABEL, OWNER_LABEL, LabRun, reap, remove_run
from tests.lab.seeds import seed_volume, warm_seed
from tests.lab.users import BY_NAME, CAST

# All hosts started by hand share a run and so a network: they reach each other by name.
RUN = "hand"


def main() -> int:
    arguments = _parser().parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 1
    reap()
    command: str = arguments.command
    return {"start": start, "stop": stop, "shell": shell, "list": show, "prune": prune}[command](
        arguments
    )


def start(arguments: argparse.Namespace) -> int:
    """Bring a host up and print its SSH configuration."""
    run = LabRun(name=RUN, kept=True)
    options = HostOptions(
        release=arguments.release,
        engine=arguments.engine,
        engine_disk=arguments.engine_disk,
        mtu=arguments.mtu,
    )
    host = Host(run, arguments.name, options)
    host.create()
    if arguments.gpu_double:
        GpuDouble(host).install(*(Gpu(index) for index in range(arguments.gpu_double)))
    first = arguments.user or next(user.name for user in CAST if user.sudo == arguments.sudo)
    print(host.login_as(first).ssh_config(arguments.name), end="")
    for name in [user.name for user in CAST][: arguments.users]:
        print(host.login_as(name).ssh_config(f"{arguments.name}-{name}"), end="")
    print(f"# {arguments.name} is up: Debian {host.release}, {host.address}", file=sys.stderr)
    for user in CAST:
        print(f"#   {user.name:4} password {user.password:7} {user.trait}", file=sys.stderr)
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """Remove one host, or all of them and the network."""
    names = [arguments.name] if arguments.name else _names()
    run = LabRun(name=RUN, kept=True)
    for name in names:
        Host(run, name, HostOptions()).remove()
    if not _names():
        remove_run(RUN)
    return 0


def shell(arguments: argparse.Namespace) -> int:
    """A root shell on the host."""
    container = f"remotedl-lab-{RUN}-{arguments.name}"
    os.execvp("docker", ["docker", "exec", "-it", container, "bash", "-l"])


def show(arguments: argparse.Namespace) -> int:
    """Every lab container on this machine, with its run and owner."""
    columns = f'table {{{{.Names}}}}\t{{{{.Status}}}}\t{{{{.Label "{OWNER_LABEL}"}}}}'
    print(docker("ps", "-a", "--filter", f"label={LABEL}", "--format", columns))
    return 0


def prune(arguments: argparse.Namespace) -> int:
    """Remove what was made from contents that are no longer so; the next run makes nothing anew."""
    mirrors = mirror_folder()
    seeds = {*map(seed_volume, RELEASES), *map(warm_seed, RELEASES)}
    images = {*map(engine_image, RELEASES), standin_image("bookworm")}
    images |= {image for kind in (base_image, host_image) for image in map(kind, RELEASES)}
    for folder in cache_folder().glob("mirrors-*"):
        if folder != mirrors:
            shutil.rmtree(folder)
    for volume in docker("volume", "ls", "-q", "--filter", "name=remotedl-lab-seed-").split():
        if volume.removesuffix("-done") not in seeds:  # its mark goes with it
            docker_ok("volume", "rm", volume)
    for image in docker("images", REPOSITORY, "--format", "{{.Repository}}:{{.Tag}}").split():
        if image not in images and ":rootfs-" not in image:
            docker_ok("rmi", image)
    return 0


def _names() -> list[str]:
    prefix = f"remotedl-lab-{RUN}-"
    listed = docker("ps", "-a", "--filter", f"label={LABEL}={RUN}", "--format", "{{.Names}}")
    return [name.removeprefix(prefix) for name in listed.split()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("start", help="bring a host up; prints its SSH configuration")
    one.add_argument("name")
    one.add_argument("--release", choices=RELEASES, default="bookworm")
    one.add_argument("--engine", action="store_true", help="with Docker on it")
    one.add_argument("--engine-disk", default="", help="size of /var/lib/docker, e.g. 600m")
    one.add_argument("--mtu", type=int, default=0, help="what its network card carries")
    one.add_argument("--gpu-double", type=int, nargs="?", const=1, default=0, metavar="N")
    one.add_argument("--user", choices=sorted(BY_NAME), help="who NAME logs in as")
    one.add_argument("--sudo", choices=("free", "password", "none"), default="free")
    one.add_argument("--users", type=int, default=1, help="print logins of the first N users")
    commands.add_parser("list", help="the lab's containers")
    commands.add_parser("shell", help="a root shell on a host").add_argument("name")
    commands.add_parser("prune", help="remove images, seeds and files of older contents")
    commands.add_parser("stop", help="remove a host, or all").add_argument("name", nargs="?")
    return parser


if __name__ == "__main__":
    sys.exit(main())
