"""What a mount gives to everything that runs in the container. Pure: looks at names alone."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from remotedl.errors import ContainerError

ENGINE = "whoever talks to the engine there is root on the host"
SYSTEM = "it holds the host's own accounts, services and devices"
HOME = "it holds .ssh: what runs in the container can give itself a login on the host"

SOCKETS = re.compile(r"/(docker|podman|containerd|crio|buildkitd)\.sock$")
SYSTEM_FOLDERS = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root", "/run"),
    *("/sbin", "/sys", "/usr", "/var/run", "/var/lib/docker", "/var/lib/containerd"),
    *("/var/spool/cron", "/var/lib/remotedl"),
)
WHOLE = ("/", "/home", "/var", "/var/lib")
"""These themselves; what is below them is looked at by its own name."""
HOMES = re.compile(r"~|/root|/home/[^/]+")
FINE = ("/dev/shm",)  # noqa: S108 - a mount's name, nothing is written there


def risk_of(mount: str) -> str:
    """Why HOST_PATH:CONTAINER_PATH[:ro] is no mount like others; "" where it is one."""
    path = posixpath.normpath(mount.partition(":")[0])
    path = "/" + path.lstrip("/") if path.startswith("/") else path
    if SOCKETS.search(path) or path in ("/run", "/var/run", "/run/docker", "/run/podman"):
        return ENGINE
    if HOMES.fullmatch(path) or "/.ssh/" in f"{path}/":
        return HOME
    if path in FINE or any(path.startswith(f"{one}/") for one in FINE):
        return ""
    if path in WHOLE or any(path == one or path.startswith(f"{one}/") for one in SYSTEM_FOLDERS):
        return SYSTEM
    return ""


def refuse_hidden_risks(named: Sequence[str], real: Sequence[str]) -> None:
    """A folder that something in the container can write must not become a link to /etc.

    `real`: where the named mounts lead. Raises ContainerError.
    """
    for name, path in zip(named, real, strict=False):
        risk = risk_of(path)
        if risk and not risk_of(name):
            raise ContainerError(
                f"the mount {name} leads to {path} on the host: {risk}",
                hint=f"name {path} itself in mounts, if that is meant",
            )
