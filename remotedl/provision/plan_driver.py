"""NVIDIA's kernel driver: what is there, what is missing, who can bring it. Pure.

The distribution's own packages come first (Ubuntu's are signed and load under Secure Boot), then
NVIDIA's repository. A driver that answers is never touched, whatever its version, and nothing is
built where it could not be loaded afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from remotedl.provision.facts import HostFacts
from remotedl.provision.keys import CUDA_KEYS
from remotedl.provision.managers import Family, Manager, debian_major, family_of
from remotedl.provision.plan_engine import trust
from remotedl.provision.steps import Kept, Notice, Run, Stage, Step, TrustKey, Wish, WriteFile

CUDA_REPOSITORY = "https://developer.download.nvidia.com/compute/cuda/repos"
CUDA_KEY = "/etc/apt/keyrings/nvidia-cuda.asc"
CUDA_RPM_KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-nvidia-cuda"
CUDA_APT = "/etc/apt/sources.list.d/nvidia-cuda.list"
CUDA_YUM = "/etc/yum.repos.d/nvidia-cuda.repo"
CUDA_ZYPP = "/etc/zypp/repos.d/nvidia-cuda.repo"
NON_FREE = "/etc/apt/sources.list.d/remotedl-non-free.sources"
ROLLING = 20000000
"""Tumbleweed's version is the date of its snapshot."""
LAST_BEFORE_TURING = 580
"""The last driver branch for Maxwell, Pascal and Volta."""
FIRST_KNOWN_DEVICE = 0x1340
"""Kepler and before: no driver that a current CUDA takes."""
FIRST_BLACKWELL_DEVICE = 0x2900
"""Too new for the drivers in Debian 12 and 13."""
DRIVER_PACKAGE = re.compile(
    r"(nvidia-(driver|headless|open|kernel|dkms)|linux-modules-nvidia|kmod-nvidia|cuda-drivers)"
)


@dataclass(slots=True)
class DriverPlan:
    """`usable`: the driver answers, so that the toolkit may be set up now."""

    usable: bool
    steps: list[Step] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)


def driver_steps(facts: HostFacts, wish: Wish, manager: Manager) -> DriverPlan:
    """Nothing where the driver answers; never more than one way of installing it."""
    driver = facts.driver
    if (tools := _suse_tools(facts, manager)) is not None:
        return DriverPlan(False, steps=[tools])
    if driver.smi_works:
        text = f"NVIDIA's driver {driver.library or driver.loaded} answers"
        return DriverPlan(True, kept=[Kept(Stage.DRIVER, text)])
    if driver.loaded:
        return _loaded_but_silent(facts)
    if (notice := _hopeless(facts, wish)) is not None:
        return DriverPlan(False, notices=[notice])
    if driver.on_disk:
        return _load(facts)
    if any(DRIVER_PACKAGE.match(n) and p.installed for n, p in facts.packages.items()):
        return _installed_for_another_kernel(facts, manager)
    return _install(facts, manager)


def driver_urls(facts: HostFacts, wish: Wish) -> tuple[str, ...]:
    """NVIDIA's repository, where the driver would come from it."""
    driver = facts.driver
    if driver.loaded or driver.on_disk or _hopeless(facts, wish) is not None:
        return ()
    name = cuda_name(facts)
    return (f"{_cuda_base(facts, name)}/",) if name and _from_nvidia(facts) else ()


def _loaded_but_silent(facts: HostFacts) -> DriverPlan:
    said = facts.driver.smi_said
    if "version mismatch" in said:
        why = (
            f"the driver's files are of another version than the module in the kernel "
            f"({facts.driver.loaded})"
        )
        return DriverPlan(False, steps=[reboot(facts, why)])
    if not facts.driver.smi:
        kept = Kept(Stage.DRIVER, f"NVIDIA's module {facts.driver.loaded} is loaded")
        return DriverPlan(True, kept=[kept])
    text = f"NVIDIA's driver is loaded but does not answer: {_first_line(said)}"
    return DriverPlan(False, notices=[Notice(text, "remotedl doctor")])


def _hopeless(facts: HostFacts, wish: Wish) -> Notice | None:
    """Why no driver is installed here, or None."""
    devices = [gpu.device for gpu in facts.nvidia_gpus]
    if facts.machine.wsl:
        return Notice("the GPU's driver comes from Windows here: install or update it there")
    if facts.init.container != "none":
        return Notice(
            f"this host is itself a container ({facts.init.container}): the GPU's driver must be "
            "loaded by the machine around it"
        )
    if not wish.driver:
        return Notice("NVIDIA's driver is missing, and was not asked for", "remotedl provision")
    if devices and max(devices) < FIRST_KNOWN_DEVICE:
        return Notice("the GPU is too old for any driver that a current CUDA takes")
    if facts.machine.tegra:
        return Notice("a Jetson: its driver comes with NVIDIA's own system image")
    if facts.secure_boot and not _signed(facts) and not facts.driver.on_disk:
        return Notice(
            "Secure Boot is on, and a driver built on this host is not signed: it would not load "
            "until somebody enrols its key at the console",
            "switch Secure Boot off, or: sudo mokutil --import /var/lib/dkms/mok.pub",
        )
    return None


def _signed(facts: HostFacts) -> bool:
    """Ubuntu's modules, and SUSE's open ones, load under Secure Boot."""
    family = family_of(facts.distro)
    ubuntu = family is Family.UBUNTU and facts.distro.id != "pop"
    return ubuntu or (family is Family.SUSE and _open(facts))


def _load(facts: HostFacts) -> DriverPlan:
    if facts.driver.nouveau:
        steps = []
        if family_of(facts.distro) not in (Family.UBUNTU, Family.DEBIAN):
            content = "blacklist nouveau\noptions nouveau modeset=0\n"
            path = "/etc/modprobe.d/remotedl-nouveau.conf"
            why = "nouveau holds the GPU"
            write = (WriteFile(path, content),)
            steps.append(Step("stop-nouveau", Stage.DRIVER, "keep nouveau off the GPU", why, write))
        return DriverPlan(False, steps=[*steps, reboot(facts, "nouveau holds the GPU until then")])
    what = "load NVIDIA's driver"
    why = f"version {facts.driver.on_disk} is on the disk and not in the kernel"
    run = Run(("modprobe", "nvidia"))
    step = Step("load-driver", Stage.DRIVER, what, why, (run,), optional=True)
    return DriverPlan(False, steps=[step])


def _installed_for_another_kernel(facts: HostFacts, manager: Manager) -> DriverPlan:
    others = [
        name
        for name, package in facts.packages.items()
        if name.startswith("linux-modules-nvidia-")
        and package.installed
        and not name.endswith(facts.machine.kernel)
    ]
    if facts.reboot_wanted or others:
        why = f"the driver is there for a newer kernel than the running {facts.machine.kernel}"
        return DriverPlan(False, steps=[reboot(facts, why)])
    if not facts.machine.headers and manager.tool == "apt-get":
        name = f"linux-headers-{facts.machine.kernel}"
        why = "the driver cannot be built for the running kernel without them"
        actions = (manager.install((name,)), Run(("dkms", "autoinstall")))
        step = Step("build-driver", Stage.DRIVER, f"install {name}", why, actions, optional=True)
        return DriverPlan(False, steps=[step])
    text = f"NVIDIA's driver is installed, but there is no module for kernel {facts.machine.kernel}"
    return DriverPlan(False, notices=[Notice(text, "remotedl doctor")])


def reboot_question(facts: HostFacts) -> str:
    """What ends with a reboot must be said; nothing is asked where nothing runs."""
    names = sorted(container.name for container in facts.engine.containers if container.running)
    names += sorted({process.name for gpu in facts.gpus for process in gpu.processes})
    return f"Reboot the host? It ends {', '.join(names[:8])}" if names else ""


def reboot(facts: HostFacts, why: str) -> Step:
    return Step(
        "reboot",
        Stage.REBOOT,
        "reboot the host",
        why,
        (Run(("systemctl", "reboot")),),
        confirm=reboot_question(facts),
        optional=True,
    )


# ---- installing


def _install(facts: HostFacts, manager: Manager) -> DriverPlan:
    family = family_of(facts.distro)
    if family is Family.UBUNTU:
        return _install_ubuntu(facts, manager)
    if family is Family.ARCH:
        return _install_arch(facts, manager)
    if family is Family.DEBIAN and not _from_nvidia(facts):
        return _install_debian(facts, manager)
    name = cuda_name(facts)
    if not name:
        text = f"remotedl knows no driver packages for {facts.distro.name}"
        hint = "install NVIDIA's driver by its own means, then: remotedl provision"
        return DriverPlan(False, notices=[Notice(text, hint)])
    url = f"{_cuda_base(facts, name)}/"
    reach = facts.net.get(url)
    if reach is not None and reach.known and not reach.ok:
        text = f"the GPU's driver cannot be fetched: {url}: {reach.why}"
        hint = "proxy in hosts.toml names another way; or: --via-laptop"
        return DriverPlan(False, notices=[Notice(text, hint)])
    if family is Family.DEBIAN:
        return _install_debian_from_nvidia(facts, manager, name)
    return _install_rpm(facts, manager, name, family)


def choose_ubuntu_driver(offered: tuple[str, ...], *, open_modules: bool) -> str:
    """The newest server branch, as "580-server-open"; "" where none is offered.

    GPUs before Turing take no open modules, and no branch after 580.
    """
    branches: dict[int, set[str]] = {}
    for package in offered:
        match = re.fullmatch(r"nvidia-driver-(\d+)((?:-server)?(?:-open)?)", package)
        if match:
            branches.setdefault(int(match.group(1)), set()).add(match.group(2))
    kinds = ("-server-open", "-server", "-open", "") if open_modules else ("-server", "")
    for kind in kinds:
        numbers = [n for n, found in branches.items() if kind in found]
        if not open_modules:
            numbers = [n for n in numbers if n <= LAST_BEFORE_TURING]
        if numbers:
            return f"{max(numbers)}{kind}"
    return ""


def _install_ubuntu(facts: HostFacts, manager: Manager) -> DriverPlan:
    if facts.distro.id == "pop":
        # its kernel is System76's own, for which Ubuntu has no modules
        package = "system76-driver-nvidia"
        install = _install_step(f"{package}, Pop!_OS's package", (manager.install((package,)),))
        return DriverPlan(False, steps=[install])
    if "ubuntu-drivers" not in facts.tools:
        package = "ubuntu-drivers-common"
        what = f"install {package}"
        why = "it knows which of Ubuntu's signed drivers fits this GPU"
        run = manager.install((package,))
        step = Step("install-driver-finder", Stage.DRIVER, what, why, (run,), optional=True)
        return DriverPlan(False, steps=[step])
    branch = choose_ubuntu_driver(facts.ubuntu_drivers, open_modules=_open(facts))
    if not branch:
        text = "ubuntu-drivers offers no driver for this GPU"
        return DriverPlan(False, notices=[Notice(text, "ubuntu-drivers list --gpgpu")])
    number = branch.partition("-")[0]
    server = "-server" if "server" in branch else ""
    packages = [f"nvidia-utils-{number}{server}"]
    if facts.nvswitch:
        packages += [f"nvidia-fabricmanager-{number}", f"libnvidia-nscq-{number}"]
    actions = (
        Run(("ubuntu-drivers", "install", "--gpgpu", f"nvidia:{branch}")),
        manager.install(packages),
    )
    return DriverPlan(False, steps=[_install_step(f"{branch}, Ubuntu's signed packages", actions)])


def _install_debian(facts: HostFacts, manager: Manager) -> DriverPlan:
    steps = list[Step]()
    uri, signed_by, components = debian_archive(facts.sources, facts.distro.codename)
    if "non-free" not in components or "contrib" not in components:
        firmware = " non-free-firmware" if debian_major(facts.distro) >= 12 else ""
        source = (
            "# written by remotedl; `remotedl provision --undo` takes it away\n"
            f"Types: deb\nURIs: {uri}\nSuites: {facts.distro.codename}\n"
            f"Components: contrib non-free{firmware}\n"
            + (f"Signed-By: {signed_by}\n" if signed_by else "")
        )
        steps.append(
            Step(
                "add-non-free",
                Stage.DRIVER,
                "add Debian's contrib and non-free",
                "NVIDIA's driver is in them",
                (WriteFile(NON_FREE, source), manager.refresh(only=NON_FREE)),
                optional=True,
            )
        )
    module = "nvidia-open-kernel-dkms" if _open(facts) else "nvidia-kernel-dkms"
    packages = (
        f"linux-headers-{facts.machine.kernel}",
        module,
        "nvidia-smi",
        "libcuda1",
        "libnvidia-ptxjitcompiler1",
        "nvidia-persistenced",
    )
    steps.append(_install_step(f"{module}, Debian's packages", (manager.install(packages),)))
    return DriverPlan(False, steps=steps)


def debian_archive(
    sources: Mapping[str, tuple[str, ...]], codename: str
) -> tuple[str, str, tuple[str, ...]]:
    """URI, Signed-By and all components of the archive that `codename` comes from.

    A second source of one archive must name the same key, or apt refuses both.
    """
    uri, signed_by, components = "", "", set[str]()
    for lines in sources.values():
        for source in _sources_of(lines):
            if codename not in source.get("suites", "").split():
                continue
            components.update(source.get("components", "").split())
            if not uri:
                uri = (source.get("uris") or "").split()[0]
                signed_by = source.get("signed-by", "")
    return uri or "https://deb.debian.org/debian", signed_by, tuple(sorted(components))


def _sources_of(lines: tuple[str, ...]) -> list[dict[str, str]]:
    """Both forms of apt's sources: "deb [options] URI SUITE COMPONENT…" and deb822."""
    found = list[dict[str, str]]()
    for line in lines:
        if line.startswith("deb "):
            match = re.match(r"deb (?:\[(.*?)\] )?(\S+) (\S+) ?(.*)", line)
            if match:
                signed = re.search(r"signed-by=(\S+)", match.group(1) or "")
                fields = {"uris": match.group(2), "suites": match.group(3)}
                key = signed.group(1) if signed else ""
                found.append({**fields, "components": match.group(4), "signed-by": key})
        elif line.startswith("Types:"):
            found.append({})
        elif found and ":" in line:
            name, _, value = line.partition(":")
            found[-1][name.strip().lower()] = value.strip()
    return found


def _install_debian_from_nvidia(facts: HostFacts, manager: Manager, name: str) -> DriverPlan:
    base = _cuda_base(facts, name)
    line = f"deb [signed-by={CUDA_KEY}] {base}/ /\n"
    repository = Step(
        "add-driver-repository",
        Stage.DRIVER,
        f"add NVIDIA's package repository ({base})",
        f"{facts.distro.name} has no driver that is new enough for this GPU and CUDA 12",
        (
            Run(("install", "-d", "-m", "0755", "/etc/apt/keyrings")),
            _cuda_key(base, name, "deb", CUDA_KEY),
            WriteFile(CUDA_APT, f"# written by remotedl\n{line}"),
            manager.refresh(only=CUDA_APT),
        ),
        leaves=("/etc/apt/keyrings", CUDA_KEY),
        optional=True,
    )
    module = "nvidia-kernel-open-dkms" if _open(facts) else "nvidia-kernel-dkms"
    packages = (f"linux-headers-{facts.machine.kernel}", module, "nvidia-driver-cuda")
    install = _install_step(f"{module}, NVIDIA's packages", (manager.install(packages),))
    return DriverPlan(False, steps=[repository, install])


def _cuda_key(base: str, name: str, kind: str, path: str) -> TrustKey:
    file, fingerprint = CUDA_KEYS.get(name, CUDA_KEYS[kind])
    return TrustKey(f"{base}/{file}", path, "NVIDIA", fingerprint)


def _install_rpm(facts: HostFacts, manager: Manager, name: str, family: Family) -> DriverPlan:
    base = _cuda_base(facts, name)
    content = (
        "# written by remotedl; `remotedl provision --undo` takes it away\n"
        f"[nvidia-cuda]\nname=NVIDIA driver and CUDA\nbaseurl={base}\nenabled=1\ngpgcheck=1\n"
        f"gpgkey=file://{CUDA_RPM_KEY}\n"
    )
    path = CUDA_ZYPP if family is Family.SUSE else CUDA_YUM
    repository = Step(
        "add-driver-repository",
        Stage.DRIVER,
        f"add NVIDIA's package repository ({base})",
        "nvidia-smi and CUDA's libraries are in it"
        if family is Family.SUSE
        else f"{facts.distro.name} has no driver of its own",
        (
            *trust(_cuda_key(base, name, "rpm", CUDA_RPM_KEY), family),
            WriteFile(path, content),
        ),
        leaves=(CUDA_RPM_KEY,),
        optional=True,
    )
    actions = list[Run]()
    modular = facts.tools.get("dnf") and (
        (family is Family.EL and facts.distro.major < 10) or family is Family.AMAZON
    )
    steps = [repository]
    if family is Family.EL:
        steps.append(_add_el_repositories(facts, manager))
    if family is Family.SUSE and _open(facts):
        package = _suse_module(facts)
        install = _install_step(f"{package}, SUSE's signed module", (manager.install((package,)),))
        return DriverPlan(False, steps=[repository, install])
    if family is not Family.SUSE:
        # Oracle's own kernel (UEK) has its headers in a package of its own name
        headers = "kernel-uek-devel" if "uek" in facts.machine.kernel else "kernel-devel"
        packages = (f"{headers}-{facts.machine.kernel}", *_drm_modules(facts, family))
        actions.append(manager.install(packages))
    if modular:
        stream = "open-dkms" if _open(facts) else f"{LAST_BEFORE_TURING}-dkms"
        actions.append(Run(("dnf", "-y", "module", "enable", f"nvidia-driver:{stream}")))
    package = "nvidia-open" if _open(facts) else "cuda-drivers"
    actions.append(manager.install((package,)))
    steps.append(_install_step(f"{package}, NVIDIA's packages", tuple(actions)))
    return DriverPlan(False, steps=steps)


def _add_el_repositories(facts: HostFacts, manager: Manager) -> Step:
    """EPEL has dkms; CRB (PowerTools of EL 8, CodeReady Builder of RHEL and Oracle) what dkms and
    the driver's libraries take. EPEL's own `crb` knows what it is called here; Oracle has none."""
    major = facts.distro.major
    if facts.distro.id == "ol":
        plugins = manager.install(("dnf-plugins-core",))
        repository = f"ol{major}_codeready_builder"
        enable: tuple[Run, ...] = (
            plugins,
            Run(("dnf", "config-manager", "--set-enabled", repository)),
        )
    else:
        enable = (Run(("/usr/bin/crb", "enable"), may_fail=True),)
    return Step(
        "add-el-repositories",
        Stage.DRIVER,
        "add EPEL, and enable CRB",
        "dkms, which builds the driver for each kernel, is in EPEL, and leans on CRB",
        (manager.install((_epel(facts),)), *enable),
        optional=True,
    )


# SUSE builds and signs the open module itself; its user space comes from NVIDIA's repository, at
# the very version of the module (sndirsch.github.io/nvidia, "G07").
SUSE_MODULE = "nvidia-open-driver-G07-signed-cuda-kmp"
SUSE_TOOLS = ("nvidia-compute-utils-G07", "nvidia-persistenced")


def _suse_module(facts: HostFacts) -> str:
    """Kernels of SUSE end with their flavour: 6.4.0-150700.53.22-default."""
    return f"{SUSE_MODULE}-{facts.machine.kernel.rpartition('-')[2] or 'default'}"


def _suse_tools(facts: HostFacts, manager: Manager) -> Step | None:
    """nvidia-smi and CUDA's libraries, once the module says which version they must have."""
    module = facts.packages.get(_suse_module(facts))
    if module is None or facts.installed(SUSE_TOOLS[0]) or family_of(facts.distro) != Family.SUSE:
        return None
    version = module.version.rpartition(":")[2].partition("_")[0]
    packages = [f"{name}=={version}" for name in SUSE_TOOLS]
    return Step(
        "install-driver-tools",
        Stage.DRIVER,
        f"install {', '.join(packages)}",
        f"the driver's module is there at {version}, and its tools must be of that version",
        (manager.install(packages),),
        optional=True,
    )


def _drm_modules(facts: HostFacts, family: Family) -> tuple[str, ...]:
    """Amazon Linux 2023 keeps the kernel's DRM modules, which the driver needs, in a package."""
    if family is not Family.AMAZON:
        return ()
    kernel = facts.machine.kernel
    series = ".".join(kernel.split(".")[:2])
    return (f"kernel{'' if series == '6.1' else series}-modules-extra-{kernel}",)


def _install_arch(facts: HostFacts, manager: Manager) -> DriverPlan:
    if facts.distro.id == "manjaro":
        text = "Manjaro has a driver package for each of its kernels, which its own tool chooses"
        hint = "on the host: sudo mhwd -a pci nonfree 0300; then: remotedl provision --reboot"
        return DriverPlan(False, notices=[Notice(text, hint)])
    if not _open(facts):
        text = "Arch has no driver for GPUs before Turing any more"
        return DriverPlan(False, notices=[Notice(text, "nvidia-580xx-dkms of the AUR, by hand")])
    plain = "-arch" in facts.machine.kernel
    packages = ("nvidia-open" if plain else "nvidia-open-dkms", "nvidia-utils")
    install = _install_step(f"{packages[0]}, Arch's packages", (manager.install(packages),))
    return DriverPlan(False, steps=[install])


def _install_step(what: str, actions: tuple[Run, ...]) -> Step:
    return Step(
        "install-driver",
        Stage.DRIVER,
        f"install NVIDIA's driver ({what})",
        "a GPU is on the bus, and no driver on the disk",
        actions,
        optional=True,
    )


def cuda_name(facts: HostFacts) -> str:
    """What NVIDIA calls this distribution in its repository's paths; "" where it has none."""
    family, distro = family_of(facts.distro), facts.distro
    if family is Family.DEBIAN and debian_major(distro):
        return f"debian{debian_major(distro)}"
    if family is Family.EL:
        return f"rhel{distro.major}"
    if family is Family.FEDORA:
        return f"fedora{distro.major}"
    if family is Family.AMAZON and distro.major == 2023:
        return "amzn2023"
    if family is Family.SUSE and (distro.major == 16 or distro.major > ROLLING):
        return "suse16"  # SLES, Leap and Tumbleweed alike
    if family is Family.SUSE and distro.major == 15:
        return f"{'opensuse' if 'opensuse' in distro.id else 'sles'}15"
    return ""


def _from_nvidia(facts: HostFacts) -> bool:
    """Debian 12 and 13, and Kali, have a driver of their own, which Blackwell is too new for."""
    family = family_of(facts.distro)
    if family is not Family.DEBIAN:
        return family not in (Family.UBUNTU, Family.ARCH)
    new = any(gpu.device >= FIRST_BLACKWELL_DEVICE for gpu in facts.nvidia_gpus)
    return 0 < debian_major(facts.distro) < 12 or new


def _cuda_base(facts: HostFacts, name: str) -> str:
    arch = "sbsa" if facts.machine.machine == "aarch64" else "x86_64"
    return f"{CUDA_REPOSITORY}/{name}/{arch}"


def _epel(facts: HostFacts) -> str:
    if facts.distro.id == "ol":
        return f"oracle-epel-release-el{facts.distro.major}"
    if facts.distro.id != "rhel":
        return "epel-release"
    release = f"epel-release-latest-{facts.distro.major}.noarch.rpm"
    return f"https://dl.fedoraproject.org/pub/epel/{release}"


def _open(facts: HostFacts) -> bool:
    """Open kernel modules do for all GPUs of this host (Turing and later)."""
    return all(gpu.open_modules for gpu in facts.nvidia_gpus)


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[0]
