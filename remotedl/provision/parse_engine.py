"""The container engine as `docker info`, `docker ps` and its files tell it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from remotedl.provision.facts import ConfigFile, Engine, HostContainer, HostFacts
from remotedl.provision.frame import (
    NOTHING,
    Section,
    first_json,
    names_of,
    parse_pairs,
    read_file,
    text_of,
    whole,
)


def parse_engine(sections: Mapping[str, Section]) -> Engine:
    """The engine from `docker info`, `docker ps` and the files around it."""
    said = sections.get("docker", NOTHING)
    pairs = parse_pairs(said)
    info = first_json(said)
    base = parse_docker_files(
        sections.get("docker_files", NOTHING), sections.get("docker_home", NOTHING)
    )
    bridge = sections.get("docker_bridge", NOTHING)
    base = replace(base, host=pairs.get("at", ""))
    way = pairs.get("way", "none")
    version = text_of(info.get("ServerVersion")) or podman_version(info)
    if way not in ("direct", "sudo") or not version:
        errors = names_of(info.get("ServerErrors"))
        lines = [line for line in said.lines[2:] if line.strip() and not line.startswith("{")]
        return replace(base, problem="\n".join(errors or lines))
    return replace(
        base,
        kind=engine_kind(info),
        access="direct" if way == "direct" else "sudo",
        version=version,
        buildx=buildx_version(info),
        runtimes=names_of(info.get("Runtimes")),
        default_runtime=text_of(info.get("DefaultRuntime")),
        cdi_dirs=names_of(info.get("CDISpecDirs")),
        cdi_devices=cdi_devices(info.get("DiscoveredDevices")),
        cgroup_driver=text_of(info.get("CgroupDriver")),
        root_dir=text_of(info.get("DockerRootDir")),
        storage_driver=text_of(info.get("Driver")),
        live_restore=info.get("LiveRestoreEnabled") is True,
        mtu=whole(text_of(first_json(bridge).get("com.docker.network.driver.mtu"))),
        flags=tuple(line[5:] for line in bridge.lines if line.startswith("flag ")),
        http_proxy=text_of(info.get("HttpProxy")),
        https_proxy=text_of(info.get("HttpsProxy")),
        containers=parse_containers(sections.get("docker_containers", NOTHING)),
    )


def with_podman(facts: HostFacts, *, root: bool) -> HostFacts:
    """podman in Docker's place, by its socket, where nothing else is there or to be had.

    Whoever is `root` for the asking gets a Docker; an engine that answers is kept in any case.
    """
    engine = facts.engine
    podman_answers = engine.works and engine.kind == "podman"
    instead = not engine.works and not root and "docker" not in facts.tools
    if not facts.podman_socket or not (podman_answers or instead):
        return facts
    version = engine.version or facts.podman
    found = replace(
        engine, kind="podman", access="direct", socket=facts.podman_socket, version=version
    )
    return replace(facts, engine=found)


def engine_kind(info: Mapping[str, object]) -> Literal["docker", "rootless", "snap", "podman"]:
    if podman_version(info):
        return "podman"
    if "name=rootless" in names_of(info.get("SecurityOptions")):
        return "rootless"
    if text_of(info.get("DockerRootDir")).startswith("/var/snap/"):
        return "snap"
    return "docker"


def podman_version(info: Mapping[str, object]) -> str:
    """podman-docker's `docker info` is podman's own, which has another shape."""
    version = info.get("version")
    if "host" not in info or not isinstance(version, dict):
        return ""
    return text_of(version.get("Version"))


def buildx_version(info: Mapping[str, object]) -> str:
    client = info.get("ClientInfo")
    plugins = client.get("Plugins") if isinstance(client, dict) else None
    for plugin in plugins if isinstance(plugins, list) else ():
        if isinstance(plugin, dict) and plugin.get("Name") == "buildx" and not plugin.get("Err"):
            return text_of(plugin.get("Version")) or "unknown"
    return ""


def cdi_devices(value: object) -> tuple[str, ...]:
    """docker info's DiscoveredDevices: a list of {"Source": "cdi", "ID": "nvidia.com/gpu=0"}."""
    items = value if isinstance(value, list) else []
    return tuple(
        sorted(
            text_of(item.get("ID"))
            for item in items
            if isinstance(item, dict) and item.get("Source") == "cdi"
        )
    )


def parse_containers(section: Section) -> tuple[HostContainer, ...]:
    containers = list[HostContainer]()
    for line in section.lines if section.code == 0 else ():
        fields = [*line.split("\t"), "", "", "", ""][:8]
        if len(fields) == 8 and re.fullmatch(r"[0-9a-f]{12,64}", fields[0]):
            id_, name, state, image, owner, project, gpus, ports = fields
            split = tuple(gpu for gpu in gpus.split(",") if gpu)
            containers.append(
                HostContainer(id_, name, state, image, owner, project, split, open_ports(ports))
            )
    return tuple(containers)


def open_ports(text: str) -> tuple[str, ...]:
    """Of docker ps's "0.0.0.0:80->80/tcp, :::80->80/tcp, 127.0.0.1:90->90/tcp" the open ones."""
    found = re.findall(r"(?:0\.0\.0\.0|::|\[::\]):([\d-]+)->[\d-]+(/\w+)", text)
    return tuple(sorted({port + protocol for port, protocol in found}))


def parse_docker_files(*sections: Section) -> Engine:
    """An Engine that only knows its files, units, group and dockerd's start."""
    settings = list[ConfigFile]()
    dropins = list[str]()
    units: dict[str, tuple[str, str]] = {}
    members, stolen, linger = tuple[str, ...](), False, False
    for line in (line for section in sections for line in section.lines):
        word, _, rest = line.partition(" ")
        if word == "file":
            path, changed, text = read_file(rest)
            settings.append(ConfigFile(path, text, changed))
        elif word == "dropin":
            dropins.append(rest)
        elif word == "unit" and len(rest.split()) >= 2:
            name, enabled, *active = rest.split()
            units[name] = (enabled, active[0] if active else "")
        elif word == "stolen":
            stolen = True
        elif word == "linger":
            linger = True
        elif line.startswith("docker:"):
            members = tuple(m for m in line.rpartition(":")[2].split(",") if m)
    return Engine(
        settings=tuple(settings),
        dropins=tuple(dropins),
        units=units,
        group_members=members,
        config_dir_stolen=stolen,
        linger=linger,
    )
