"""Facts from the sections of the probe's answer: pure text reading, a function a section.

A section that is missing, empty or unreadable leaves the defaults of `facts.py`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

from remotedl.provision.facts import (
    NVIDIA,
    Distro,
    HostFacts,
    Init,
    Lock,
    Machine,
    Package,
    Person,
    Reach,
    Space,
    Sudo,
    version_pair,
)
from remotedl.provision.frame import NOTHING, Section, parse_pairs, whole
from remotedl.provision.parse_engine import parse_engine, with_podman
from remotedl.provision.parse_gpus import (
    parse_claims,
    parse_driver,
    parse_pci,
    parse_toolkit,
    parse_ubuntu_drivers,
)


def parse_facts(sections: Mapping[str, Section]) -> HostFacts:
    """All facts from all sections; those of a later round trip may simply be merged in first."""

    def said(name: str) -> Section:
        return sections.get(name, NOTHING)

    tools = parse_pairs(said("tools"))
    memory = parse_memory(said("memory"))
    security = parse_pairs(said("security"))
    clock = parse_pairs(said("clock"))
    lists = parse_pairs(said("lists"))
    podman = parse_pairs(said("podman"))
    driver, gpus = parse_driver(said("driver"), said("smi"), said("gpu_processes"))
    reboot = said("reboot_wanted").lines
    sudo, sudo_said = parse_sudo(said("sudo_mode"))
    facts = HostFacts(
        distro=parse_distro(said("os")),
        machine=parse_machine(said("machine")),
        init=parse_init(said("init")),
        person=parse_person(said("person")),
        sudo=sudo,
        sudo_said=sudo_said,
        tools=tools,
        python=version_pair(said("python").text) if "python" in sections else None,
        memory_total=memory.get("MemTotal", 0),
        memory_free=memory.get("MemAvailable", 0),
        cpus=memory.get("cpus", 0),
        space=parse_space(said("disk")),
        cgroup=whole(said("cgroup").text),
        selinux=security.get("selinux", "").lower(),
        apparmor=security.get("apparmor", "") == "Y",
        secure_boot=security.get("secureboot", "") == "1",
        now=whole(clock.get("now", "")),
        uptime=whole(clock.get("uptime", "")),
        boot=clock.get("boot", ""),
        limits={key: whole(value) for key, value in parse_pairs(said("limits")).items()},
        cloud_init=(said("cloud_init").lines or ["absent"])[0],
        reboot_wanted=reboot[:1] == ["yes"],
        reboot_packages=tuple(reboot[1:]),
        locks=parse_locks(said("locks")),
        packages=parse_packages(said("packages")),
        unfinished=tuple(said("unfinished").lines),
        lists_count=whole(lists.get("count", "")),
        lists_age=whole(lists.get("age", "")),
        upgradable=whole(lists.get("upgradable", "")),
        candidates=parse_candidates(said("candidates")),
        sources=parse_sources(said("sources")),
        snap_docker=said("snap_docker").text.startswith("docker"),
        engine=parse_engine(sections),
        podman=podman.get("version", "").rpartition(" ")[2],
        podman_socket=podman.get("socket", ""),
        pci=parse_pci(said("pci")),
        uplink_mtu=parse_uplink(said("uplink")),
        nvswitch=any(f" {NVIDIA} " in line and " 0x0680" in line for line in said("pci").lines),
        driver=driver,
        gpus=gpus,
        claims=parse_claims(said("gpu_claims")),
        toolkit=parse_toolkit(said("toolkit"), tools),
        ubuntu_drivers=parse_ubuntu_drivers(said("ubuntu_drivers")),
        kernel_says=tuple(said("kernel_says").lines) if said("kernel_says").code == 0 else (),
        net=parse_net(said("net")),
        proxies=tuple(said("proxies").lines),
    )
    return with_podman(facts, root=sudo in ("root", "free"))


def parse_distro(section: Section) -> Distro:
    values: dict[str, str] = {}
    for line in section.lines:
        key, separator, raw = line.removeprefix("\ufeff").partition("=")
        if not separator or line.startswith("#"):
            continue
        try:
            values[key.strip()] = " ".join(shlex.split(raw))
        except ValueError:
            values[key.strip()] = raw.strip("\"'")
    name = values.get("PRETTY_NAME") or values.get("NAME") or Distro().name
    parents = values.get("UBUNTU_CODENAME") or values.get("DEBIAN_CODENAME", "")
    return Distro(
        id=values.get("ID", "").lower(),
        version=values.get("VERSION_ID", ""),
        codename=parents or values.get("VERSION_CODENAME", ""),
        borrowed=bool(parents),
        like=tuple(values.get("ID_LIKE", "").lower().split()),
        name=name,
    )


def parse_machine(section: Section) -> Machine:
    pairs = parse_pairs(section)
    return Machine(
        kernel=pairs.get("kernel", ""),
        machine=pairs.get("machine", ""),
        package_arch=pairs.get("dpkg", ""),
        bits=whole(pairs.get("bits", "")) or 64,
        wsl="wsl" in pairs,
        tegra="tegra" in pairs,
        headers="headers" in pairs,
        modules=pairs.get("modules") != "no",
        prepared=pairs.get("prepared", ""),
    )


def parse_init(section: Section) -> Init:
    pairs = parse_pairs(section)
    return Init(
        pid1=pairs.get("pid1", ""),
        systemd="systemd" in pairs,
        systemd_state=pairs.get("systemd", ""),
        container=pairs.get("container", "none") or "none",
    )


def parse_person(section: Section) -> Person:
    pairs = parse_pairs(section)
    return Person(
        name=pairs.get("name", ""),
        uid=whole(pairs["uid"]) if pairs.get("uid", "").isdigit() else -1,
        groups=tuple(pairs.get("groups", "").split()),
        home=pairs.get("home", ""),
        shell=pairs.get("shell", ""),
        runtime_dir=pairs.get("runtime", ""),
        home_writable="home_writable" in pairs,
    )


def parse_sudo(section: Section) -> tuple[Sudo, str]:
    """root and free are said by the probe; what sudo itself said means a password, or no right.

    sudo tells a stranger and a member apart only after the password, so "password" means "may
    be had with one": whoever calls it finds out.
    """
    first = section.text.strip()
    if first.startswith("limited "):
        return "missing", first
    if first in ("root", "free"):
        return ("root" if first == "root" else "free"), ""
    if not first or first == "missing" or "not allowed" in first or "not in the sudoers" in first:
        return "missing", first
    return "password", first


def parse_memory(section: Section) -> dict[str, int]:
    """Bytes; `cpus` is a count."""
    found: dict[str, int] = {}
    for line in section.lines:
        key, *rest = line.replace(":", " ").split()
        if rest:
            found[key] = whole(rest[0]) * (1024 if rest[-1] == "kB" else 1)
    return found


def parse_space(section: Section) -> dict[str, Space]:
    """Asked path -> its disk. Lines are df -P's, after "space PATH" or "inodes PATH"."""
    spaces: dict[str, Space] = {}
    for line in section.lines:
        match = re.fullmatch(
            r"(space|inodes) (.+?) +(\S+) +(\d+) +(\d+) +(-?\d+) +(?:\d+%|-) +(/.*)", line
        )
        if match is None:
            continue
        kind, path, device, total, _used, free, mount = match.groups()
        if kind == "space":
            spaces[path] = Space(path, device, mount, int(total) * 1024, int(free) * 1024)
        elif path in spaces and int(total) > 0:
            spaces[path] = replace(spaces[path], inodes_free=int(free))
    return spaces


def parse_uplink(section: Section) -> int:
    """The smallest packet of "CARD MTU ROUTE_MTU" lines; a route without one of its own says 0."""
    sizes = [whole(word) for line in section.lines for word in line.split()[1:]]
    return min((size for size in sizes if size), default=0)


def parse_locks(section: Section) -> tuple[Lock, ...]:
    locks = list[Lock]()
    for line in section.lines:
        path, *rest = line.split(" ", 2)
        if rest and path.startswith("/"):
            locks.append(Lock(path, int(rest[0]) if rest[0].isdigit() else 0, " ".join(rest[1:])))
    return tuple(locks)


def parse_packages(section: Section) -> dict[str, Package]:
    packages: dict[str, Package] = {}
    for line in section.lines:
        fields = line.split("\t")
        if len(fields) == 3:
            packages[fields[0]] = Package(fields[1], fields[2].strip())
    return packages


def parse_candidates(section: Section) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in section.lines:
        if not line.startswith(" "):
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:"):
            version = line.partition(":")[2].strip()
            found[name] = "" if version == "(none)" else version
    return found


def parse_sources(section: Section) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    path = ""
    for line in section.lines:
        if line.startswith("file "):
            path = line[5:]
            found[path] = []
        elif path:
            found[path].append(line.strip())
    return {path: tuple(lines) for path, lines in found.items()}


def parse_net(section: Section) -> dict[str, Reach]:
    """Lines of "URL TOOL EXIT_STATUS HTTP_STATUS"."""
    reached: dict[str, Reach] = {}
    for line in section.lines:
        fields = line.split()
        if len(fields) != 4:
            continue
        url, tool, code, status = fields
        ok = code == "0" and (tool == "wget" or status.startswith("2"))
        reached[url] = Reach(ok, tool != "missing", why_unreached(tool, code, status))
    return reached


CURL_CODES: Mapping[str, str] = {
    "5": "the proxy's name is not known",
    "6": "its name is not known",
    "7": "no connection",
    "28": "no answer in 6 s",
    "35": "TLS fails",
    "56": "the connection breaks",
    "60": "its certificate is not trusted",
    "124": "no answer in 8 s",
}


def why_unreached(tool: str, code: str, status: str) -> str:
    if tool == "missing":
        return "neither curl nor wget is there to ask"
    if code == "0" and status != "000":
        return f"HTTP {status}"
    return CURL_CODES.get(code, f"{tool} ended with {code}") if tool == "curl" else "no answer"
