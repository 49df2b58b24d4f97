"""Docker: kept where it works, else installed and started. Pure.

Docker's own repository (or `mirrors.docker` in its place) comes first; where the host cannot
reach it, the distribution's own package, with a notice. The plan never replaces an engine that
answers, whoever set it up, and never takes containerd away from what else runs on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from remotedl.provision.facts import HostFacts, version_pair
from remotedl.provision.keys import DOCKER_DEB, DOCKER_RPM
from remotedl.provision.managers import Family, Manager, family_of, release_of
from remotedl.provision.settings import SettingsBroken, read_settings
from remotedl.provision.steps import (
    Kept,
    Notice,
    Refusal,
    Run,
    Stage,
    Step,
    TrustKey,
    Wish,
    WriteFile,
)

DOCKER_REPOSITORY = "https://download.docker.com/linux"
APT_KEY = "/etc/apt/keyrings/docker.asc"
APT_SOURCE = "/etc/apt/sources.list.d/docker.sources"
YUM_KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker-ce"
YUM_SOURCE = "/etc/yum.repos.d/docker-ce.repo"
PROXY_DROP_IN = "/etc/systemd/system/docker.service.d/remotedl-proxy.conf"
DOCKER_CE = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin")
ENGINE_DATA = (
    "/var/lib/docker",
    "/var/lib/containerd",
    "/etc/docker",
    "/etc/docker/key.json",
    "/opt/containerd",
    "/etc/cni",
    "/etc/cni/net.d",
)
"""What the packages make at run time and leave behind when they go."""
START = Run(("systemctl", "enable", "--now", "docker.service"))
NEWEST_DOCKER = (29, 8)
"""What Docker's repository has; only to foresee what it will take to show it the GPUs."""
LEAST_FREE = 1_500_000_000
"""Bytes that an engine with one small image takes."""
SOON_FULL = 20_000_000_000
"""Bytes: one deep-learning image and its layers while they unpack."""

Planned = tuple[list[Step], list[Notice], list[Kept], Refusal | None]


def docker_urls(facts: HostFacts, wish: Wish) -> tuple[str, ...]:
    """What must answer for Docker's repository to be used, the first choice first."""
    base = (wish.docker_mirror or DOCKER_REPOSITORY).rstrip("/")
    family, distro = family_of(facts.distro), facts.distro
    if family in (Family.DEBIAN, Family.UBUNTU) and release_of(distro):
        return (f"{base}/{family}/dists/{release_of(distro)}/Release",)
    if family is Family.EL:
        names = ("centos", "rhel") if distro.id == "centos" else ("rhel", "centos")
        return tuple(_yum_base(base, name, facts) + "/repodata/repomd.xml" for name in names)
    if family is Family.FEDORA:
        return (_yum_base(base, "fedora", facts) + "/repodata/repomd.xml",)
    return ()


def plan_engine(facts: HostFacts, wish: Wish, manager: Manager | None) -> Planned:
    """Steps, notices, what is kept, and perhaps a refusal, for the stage ENGINE."""
    engine = facts.engine
    if engine.works:
        steps, notices = _proxy(facts, wish)
        if _ends_with_the_login(facts) and facts.root_for_the_asking:
            steps.append(_let_linger(facts))
        notices = [*_notices_of_kept(facts), *notices]
        return steps, notices, [Kept(Stage.ENGINE, _why_kept(facts))], None
    if "docker" in facts.tools and facts.snap_docker:
        start = Run(("snap", "start", "docker"))
        return [_start_step(facts, start)], [], [], None
    if engine_installed(facts):
        return _revive(facts, manager)
    if (
        refusal := _broken_settings(facts) or _refuse_install(facts)
    ) is not None or manager is None:
        return [], [], [], refusal or Refusal("no package manager that remotedl knows is here")
    return _install(facts, wish, manager)


def expected_release(facts: HostFacts, steps: list[Step]) -> tuple[int, int]:
    """Version of the engine that answers, or that the steps bring; (0, 0) where nobody knows."""
    if facts.engine.works:
        return facts.engine.release
    words = {w for step in steps for a in step.actions if isinstance(a, Run) for w in a.argv}
    if words & {"docker-ce", "docker-ce-cli"}:
        return NEWEST_DOCKER
    return version_pair(facts.candidates.get("docker.io", "")) if "docker.io" in words else (0, 0)


def _proxy(facts: HostFacts, wish: Wish) -> tuple[list[Step], list[Notice]]:
    """dockerd pulls through the proxy of hosts.toml; one that somebody else gave it is kept."""
    engine = facts.engine
    if not wish.proxy or not wish.lasting_proxy or engine.http_proxy or engine.https_proxy:
        return [], []
    if engine.kind != "docker" or not facts.init.systemd:
        return [], []
    if urlsplit(wish.proxy).password:
        text = "Docker is not told of the proxy, whose password any user of the host could read"
        return [], [Notice(text, "docs.docker.com/engine/daemon/proxy says how")]
    # systemd reads % and \\ as its own
    proxy = wish.proxy.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')
    pairs = [f"{name}_PROXY={proxy}" for name in ("HTTP", "HTTPS")]
    words = " ".join(f'"{pair}"' for pair in [*pairs, "NO_PROXY=localhost,127.0.0.1,::1"])
    content = (
        "# written by remotedl; `remotedl provision --undo` takes it away\n"
        f"[Service]\nEnvironment={words}\n"
    )
    step = Step(
        "set-docker-proxy",
        Stage.RESTART,
        f"let Docker pull through {wish.proxy}, and restart it",
        "hosts.toml names a proxy that Docker does not use",
        (
            WriteFile(PROXY_DROP_IN, content),
            Run(("systemctl", "daemon-reload")),
            Run(("systemctl", "restart", "docker.service")),
        ),
        confirm=restart_question(facts),
        leaves=(PROXY_DROP_IN.rpartition("/")[0],),
    )
    return [step], []


def restart_question(facts: HostFacts) -> str:
    """What must be answered with yes before Docker is restarted; empty where nothing ends."""
    running = [c for c in facts.engine.containers if c.running]
    if not running or facts.engine.live_restore:
        return ""
    names = ", ".join(sorted(c.name for c in running)[:8])
    more = f" and {len(running) - 8} more" if len(running) > 8 else ""
    return f"Restart Docker? It stops {len(running)} running: {names}{more}"


def _why_kept(facts: HostFacts) -> str:
    engine = facts.engine
    through = ", used through sudo" if engine.access == "sudo" else ""
    return f"{_engine_name(facts)} {engine.version} answers{through}"


def _engine_name(facts: HostFacts) -> str:
    kind = {"docker": "Docker", "rootless": "rootless Docker", "snap": "Docker from snap"}
    return kind.get(facts.engine.kind, "Podman")


def _ends_with_the_login(facts: HostFacts) -> bool:
    """systemd ends a user's services with the last login, unless it was told to let them linger."""
    engine = facts.engine
    own = engine.kind in ("rootless", "podman") and facts.person.uid != 0
    of_root = engine.socket.startswith("/run/podman/")
    return own and not of_root and facts.init.systemd and not engine.linger


def _let_linger(facts: HostFacts) -> Step:
    name = facts.person.name
    return Step(
        "let-it-linger",
        Stage.SETTINGS,
        f"let {name}'s services outlive the login, and start at boot",
        f"{_engine_name(facts)} ends with the last login else, and is not back after a reboot",
        (Run(("loginctl", "enable-linger", name)),),
        leaves=(f"/var/lib/systemd/linger/{name}",),
    )


def _notices_of_kept(facts: HostFacts) -> list[Notice]:
    notices = list[Notice]()
    if facts.engine.kind == "snap":
        notices.append(
            Notice(
                "Docker comes from snap here: it mounts folders under /home only, and its GPU "
                "support is poor",
                "sudo snap remove docker, then: remotedl provision",
                finding="snap-docker",
            )
        )
    if _ends_with_the_login(facts) and not facts.root_for_the_asking:
        notices.append(
            Notice(
                f"{_engine_name(facts)} ends, and its containers with it, when "
                f"{facts.person.name} has logged out of the host, and is not back after a reboot",
                "loginctl enable-linger, on the host",
            )
        )
    if facts.engine.config_dir_stolen:
        notices.append(
            Notice(
                "~/.docker belongs to root (an earlier sudo docker)",
                "remotedl doctor --fix",
                finding="docker-config-stolen",
            )
        )
    if (space := _engine_space(facts)) is not None and space[1] < SOON_FULL:
        notices.append(
            Notice(
                f"only {_gigabytes(space[1])} free for images on {space[0]}",
                "remotedl image prune",
                finding="disk",
            )
        )
    return notices


def engine_installed(facts: HostFacts) -> bool:
    """It is on the disk, whether it runs or not."""
    names = ("docker-ce", "docker.io", "docker", "moby-engine")
    return "dockerd" in facts.tools or any(facts.installed(name) for name in names)


def _revive(facts: HostFacts, manager: Manager | None) -> Planned:
    """The daemon is on disk but nobody answers: a client is missing, or it is not started."""
    steps = list[Step]()
    if "docker" not in facts.tools and manager is not None:
        client = "docker-ce-cli" if facts.installed("docker-ce") else "docker-cli"
        steps.append(
            Step(
                "install-docker-client",
                Stage.ENGINE,
                f"install {client}",
                "dockerd is there without the docker command",
                (manager.install((client,)),),
            )
        )
    if (refusal := _broken_settings(facts)) is not None:
        return [], [], [], refusal
    unit = facts.engine.units.get("docker.service", ("", ""))
    if masked := [name for name, (how, _) in facts.engine.units.items() if how == "masked"]:
        return [], [], [], _masked(masked)
    if unit[1] != "active":
        if not facts.init.systemd:
            return [], [], [], _no_systemd(facts)
        steps.append(_start_step(facts, START))
    if not steps:
        reason = facts.engine.problem.splitlines()[-1:] or ["it says nothing"]
        hint = (
            'run this in a terminal, where sudo can ask; or: runtime = "native" in hosts.toml'
            if facts.root_possible
            else 'runtime = "native" in hosts.toml'
        )
        return [], [], [], Refusal(f"Docker runs, but nobody reaches it: {reason[0]}", hint)
    return steps, [], [], None


def _masked(units: Sequence[str]) -> Refusal:
    """An admin's decision, which nobody but an admin takes back."""
    names = " ".join(sorted(units))
    return Refusal(
        f"Docker is there, and somebody decided that it must not start ({names} masked)",
        f"on the host: sudo systemctl unmask {names}, then: remotedl provision",
        finding="docker-masked",
    )


def _start_step(facts: HostFacts, start: Run) -> Step:
    why = (facts.engine.problem.splitlines() or ["Docker is installed but does not answer"])[-1]
    return Step("start-docker", Stage.ENGINE, "start Docker, now and at boot", why, (start,))


def _broken_settings(facts: HostFacts) -> Refusal | None:
    """Docker does not start on a daemon.json that it cannot read."""
    for file in facts.engine.settings:
        try:
            read_settings(file.text or "")
        except SettingsBroken as exc:
            return Refusal(
                f"{file.path} is {exc}: Docker would not start with it, and remotedl never "
                "overwrites it",
                f"mend {file.path} on the host (or move it away), then: remotedl provision",
                finding="settings-broken",
            )
    return None


def _refuse_install(facts: HostFacts) -> Refusal | None:
    native = 'runtime = "native" in hosts.toml needs no Docker'
    if not facts.init.systemd:
        return _no_systemd(facts)
    space = _engine_space(facts)
    if space is not None and space[1] < LEAST_FREE:
        mount, free = space
        return Refusal(
            f"the disk is nearly full: {_gigabytes(free)} free on {mount}, Docker and one image "
            f"need at least {_gigabytes(LEAST_FREE)}",
            "make room there, then: remotedl provision",
            finding="disk",
        )
    inodes = facts.space["/var"].inodes_free if "/var" in facts.space else None
    if inodes is not None and inodes < 20_000:
        return Refusal(f"/var has {inodes} inodes left, Docker needs 20000", "df -i /var", "inodes")
    if not facts.root_possible:
        if facts.podman:
            native = f"systemctl --user enable --now podman.socket, then again; or: {native}"
        why = facts.why_no_root if facts.sudo_said.startswith("limited") else ""
        why = why or "this user cannot become root"
        return Refusal(f"Docker is not there, and {why}", native)
    return None


def _no_systemd(facts: HostFacts) -> Refusal:
    hint = 'runtime = "native" in hosts.toml needs no Docker'
    if facts.init.container != "none":
        return Refusal(
            f"this host is itself a container ({facts.init.container}) without systemd: "
            "no Docker Engine can be started in it",
            hint,
        )
    return Refusal(
        f"no systemd here (process 1 is {facts.init.pid1 or 'unknown'}): remotedl starts Docker "
        "through systemd only",
        f"{started_by_hand(facts)}, or: {hint}"
        if engine_installed(facts)
        else f"install and start Docker yourself, or: {hint}",
    )


def started_by_hand(facts: HostFacts) -> str:
    """What starts a Docker that is on the disk of a host without systemd."""
    if "rc-service" in facts.tools:
        return "on the host: sudo rc-service docker start"
    if "service" in facts.tools:
        return "on the host: sudo service docker start"
    return "on the host: sudo dockerd &"


def _install(facts: HostFacts, wish: Wish, manager: Manager) -> Planned:
    family = family_of(facts.distro)
    if family is Family.DEBIAN or family is Family.UBUNTU:
        return _install_apt(facts, wish, manager, family)
    if family is Family.EL or family is Family.FEDORA:
        return _install_yum(facts, wish, manager, family)
    steps = [_distribution_step(facts, manager, family)]
    if _modular(facts) and not any("Containers" in path for path in facts.sources):
        steps.insert(0, _add_containers_module(facts))
    return steps, [], [], None


def _modular(facts: HostFacts) -> bool:
    """SLES 15 keeps Docker in a module of its own; openSUSE and SLES 16 know no modules."""
    suse = family_of(facts.distro) is Family.SUSE and "opensuse" not in facts.distro.id
    return suse and facts.distro.major == 15


def _add_containers_module(facts: HostFacts) -> Step:
    module = f"sle-module-containers/{facts.distro.version}/{facts.machine.machine}"
    return Step(
        "add-containers-module",
        Stage.ENGINE,
        "add the Containers Module of SLES",
        "Docker is in it, and it is free with the subscription",
        (Run(("SUSEConnect", "--product", module)),),
    )


def _install_apt(facts: HostFacts, wish: Wish, manager: Manager, family: Family) -> Planned:
    urls = docker_urls(facts, wish)
    reach = facts.net.get(urls[0]) if urls else None
    taken = [name for name in ("containerd", "runc") if facts.installed(name)]
    notices = list[Notice]()
    if not urls or (reach is not None and reach.known and not reach.ok):
        notices.append(_no_repository(facts, family, urls))
        return [_distribution_step(facts, manager, family)], notices, [], None
    if taken:
        notices.append(
            Notice(
                f"the distribution's {' and '.join(taken)} may have users on this host: the "
                "distribution's docker.io is used, which shares it"
            )
        )
        return [_distribution_step(facts, manager, family)], notices, [], None
    base = (wish.docker_mirror or DOCKER_REPOSITORY).rstrip("/")
    source = (
        "# written by remotedl; `remotedl provision --undo` takes it away\n"
        f"Types: deb\nURIs: {base}/{family}\nSuites: {release_of(facts.distro)}\n"
        f"Components: stable\nArchitectures: {facts.machine.package_arch}\nSigned-By: {APT_KEY}\n"
    )
    mirror = bool(wish.docker_mirror)
    key = TrustKey(f"{base}/{family}/gpg", APT_KEY, "Docker", DOCKER_DEB, mirror)
    repository = Step(
        "add-docker-repository",
        Stage.ENGINE,
        f"add Docker's package repository ({base}/{family})",
        "Docker is not installed",
        (
            Run(("install", "-d", "-m", "0755", "/etc/apt/keyrings")),
            key,
            WriteFile(APT_SOURCE, source),
            manager.refresh(only=APT_SOURCE),
        ),
        leaves=("/etc/apt/keyrings", APT_KEY),
    )
    packages = (*DOCKER_CE, *_apparmor(facts))
    actions = (*_shim_away(facts, manager), manager.install(packages), START)
    return [repository, _install_step(packages, "Docker is not installed", actions)], [], [], None


def _no_repository(facts: HostFacts, family: Family, urls: tuple[str, ...]) -> Notice:
    if not urls:
        parent = "Ubuntu" if family is Family.UBUNTU else "Debian"
        return Notice(
            f"{facts.distro.name} names no release of {parent} that it is made of, and Docker's "
            "own repository has none for it: the distribution's package is taken"
        )
    why = f"{urls[0]}: {facts.net[urls[0]].why}"
    return Notice(
        f"no way to Docker's own repository ({why}): the distribution's package is taken",
        "remotedl provision --via-laptop, or set mirrors.docker or proxy in hosts.toml",
    )


def _install_yum(facts: HostFacts, wish: Wish, manager: Manager, family: Family) -> Planned:
    urls = docker_urls(facts, wish)
    usable = [url for url in urls if url not in facts.net or not facts.net[url].known]
    usable = [url for url in urls if url in facts.net and facts.net[url].ok] or usable
    if not usable:
        why = "; ".join(f"{url}: {facts.net[url].why}" for url in urls)
        hint = "remotedl provision --via-laptop, or set mirrors.docker or proxy in hosts.toml"
        if family is Family.FEDORA:
            notice = Notice(f"no way to Docker's own repository ({why}): Fedora's is taken", hint)
            return [_distribution_step(facts, manager, family)], [notice], [], None
        return [], [], [], Refusal(f"Docker's repository cannot be reached ({why})", hint)
    base = usable[0].removesuffix("/repodata/repomd.xml")
    root = base.split(f"/{_yum_version(facts)}/")[0]
    source = (
        "# written by remotedl; `remotedl provision --undo` takes it away\n"
        f"[docker-ce-stable]\nname=Docker CE Stable\nbaseurl={base}\nenabled=1\ngpgcheck=1\n"
        f"gpgkey=file://{YUM_KEY}\n"
    )
    repository = Step(
        "add-docker-repository",
        Stage.ENGINE,
        f"add Docker's package repository ({root})",
        "Docker is not installed",
        (
            TrustKey(f"{root}/gpg", YUM_KEY, "Docker", DOCKER_RPM, bool(wish.docker_mirror)),
            WriteFile(YUM_SOURCE, source),
        ),
        leaves=(YUM_KEY,),
    )
    steps = [repository]
    if family is Family.EL and facts.installed("runc"):
        steps.append(_remove_runc(manager))
    steps.append(
        _install_step(DOCKER_CE, "Docker is not installed", (manager.install(DOCKER_CE), START))
    )
    return steps, [], [], None


def _remove_runc(manager: Manager) -> Step:
    return Step(
        "remove-runc",
        Stage.ENGINE,
        "remove the distribution's runc (and podman with it, where podman uses it)",
        "Docker's containerd.io brings its own runc and cannot be installed beside it",
        (manager.remove(("runc",)),),
        confirm="Remove the distribution's runc, and podman with it where that needs it?",
    )


def _distribution_step(facts: HostFacts, manager: Manager, family: Family) -> Step:
    why = "Docker is not installed"
    if family is Family.AMAZON and facts.distro.major == 2:
        run = Run(("amazon-linux-extras", "install", "-y", "docker"))
        return _install_step(("docker",), why, (run, START))
    packages = _distribution_packages(facts, family)
    install = manager.install(packages)
    if _modular(facts):
        # of SUSE's Package Hub, which not everybody has: the classic builder does without it
        buildx = replace(manager.install(("docker-buildx",)), may_fail=True)
        return _install_step(packages, why, (install, buildx, START))
    return _install_step(packages, why, (install, START))


def _distribution_packages(facts: HostFacts, family: Family) -> tuple[str, ...]:
    if family is Family.DEBIAN or family is Family.UBUNTU:
        # docker-cli is a package of its own since Debian 13; buildx is not in Debian 12
        extra = [name for name in ("docker-cli", "docker-buildx") if facts.candidates.get(name)]
        return ("docker.io", *extra, *_apparmor(facts))
    if family is Family.FEDORA:
        return ("moby-engine", "docker-cli", "docker-buildx")
    if family is Family.ARCH or (family is Family.SUSE and not _modular(facts)):
        return ("docker", "docker-buildx")
    return ("docker",)


def _install_step(packages: tuple[str, ...], why: str, actions: tuple[Run, ...]) -> Step:
    what = f"install {', '.join(packages)}"
    return Step("install-docker", Stage.ENGINE, what, why, actions, leaves=ENGINE_DATA)


def _apparmor(facts: HostFacts) -> tuple[str, ...]:
    """Where the kernel enforces it, dockerd starts no container without apparmor_parser."""
    return ("apparmor",) if facts.apparmor and not facts.installed("apparmor") else ()


def _shim_away(facts: HostFacts, manager: Manager) -> tuple[Run, ...]:
    """podman-docker is a `docker` that calls podman; it takes the place of the real one."""
    return (manager.remove(("podman-docker",)),) if facts.installed("podman-docker") else ()


def fetching(url: str) -> Run:
    """Download `url` to stdout."""
    retry = ("--retry", "3", "--connect-timeout", "10", "--max-time", "120")
    return Run(("curl", "-fsSL", *retry, url))


def trust(key: TrustKey, family: Family) -> tuple[TrustKey | Run, ...]:
    """zypper, unlike apt and dnf, takes no key from a repository's own settings unasked."""
    return (key, Run(("rpm", "--import", key.path))) if family is Family.SUSE else (key,)


def _yum_base(base: str, name: str, facts: HostFacts) -> str:
    return f"{base}/{name}/{_yum_version(facts)}/{facts.machine.machine}/stable"


def _yum_version(facts: HostFacts) -> str:
    return str(facts.distro.major)


def _engine_space(facts: HostFacts) -> tuple[str, int] | None:
    """Mount and free bytes of where images lie, or will lie."""
    for path in (facts.engine.root_dir, "/var/lib/docker", "/var", "/"):
        if path in facts.space:
            return facts.space[path].mount, facts.space[path].free
    return None


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
