"""NVIDIA: the driver, the Container Toolkit, what Docker must know of them. Pure.

The driver comes from the distribution's own signed packages where it has them (they load under
Secure Boot), else from NVIDIA's repository. All toolkit packages are at one version. daemon.json
is merged, never overwritten; an engine that finds GPUs by CDI on its own is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from remotedl.provision.cdi import GPU_KIND
from remotedl.provision.facts import HostFacts, version_pair
from remotedl.provision.keys import NVIDIA_TOOLKIT
from remotedl.provision.managers import Family, Manager, family_of
from remotedl.provision.plan_driver import driver_steps, driver_urls
from remotedl.provision.plan_engine import trust
from remotedl.provision.plan_settings import CDI_POSSIBLE, known_settings
from remotedl.provision.settings import CDI_ON, NVIDIA_RUNTIME, cdi_setting, has_runtime
from remotedl.provision.steps import Kept, Notice, Run, Stage, Step, TrustKey, Wish, WriteFile

TOOLKIT_REPOSITORY = "https://nvidia.github.io/libnvidia-container"
TOOLKIT = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
TOOLKIT_KEY = "/etc/apt/keyrings/nvidia-container-toolkit.asc"
TOOLKIT_RPM_KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-nvidia-container-toolkit"
TOOLKIT_SOURCE = "/etc/apt/sources.list.d/nvidia-container-toolkit.list"
TOOLKIT_YUM = "/etc/yum.repos.d/nvidia-container-toolkit.repo"
TOOLKIT_ZYPP = "/etc/zypp/repos.d/nvidia-container-toolkit.repo"
CDI_SPEC = "/etc/cdi/nvidia.yaml"
PODMAN_CDI = (5, 4)
"""The first podman that heeds CDI requests over its socket (podman#25171)."""
JIT_CDI = (1, 18)
"""From this toolkit on the nvidia runtime works by CDI, and touches no cgroups."""
CDI_BY_DEFAULT = (28, 2)
"""Docker's code and release notes say 28.2.0; dockerd's page says 28.3.0."""


@dataclass(slots=True)
class GpuPlan:
    steps: list[Step] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    settings: dict[str, object] | None = None
    """What daemon.json must hold for the GPU; None where it is not looked at."""


def toolkit_urls(facts: HostFacts, wish: Wish) -> tuple[str, ...]:
    """What must answer for the toolkit to be installed; empty where it is not to be."""
    if not wish.gpus or not facts.nvidia_gpus or facts.toolkit.version or _way_there(facts):
        return ()
    base = (wish.nvidia_mirror or TOOLKIT_REPOSITORY).rstrip("/")
    return (f"{base}/gpgkey", *driver_urls(facts, wish))


def plan_gpu(
    facts: HostFacts, wish: Wish, manager: Manager | None, release: tuple[int, int]
) -> GpuPlan:
    """Everything that GPUs take beyond an engine of version `release`, there or to come."""
    done = GpuPlan()
    if not wish.gpus:
        done.kept.append(Kept(Stage.DRIVER, "no GPU is asked for"))
        return done
    if not facts.nvidia_gpus and not facts.driver.smi_works:
        _no_gpu(facts, done)
        return done
    if manager is None:
        _by_hand(facts, done)
        return done
    driver = driver_steps(facts, wish, manager)
    done.steps += driver.steps
    done.notices += driver.notices
    done.kept += driver.kept
    if not driver.usable and not driver.steps:
        return done
    if why := _way_there(facts):
        done.kept.append(Kept(Stage.TOOLKIT, why))
        return done
    if facts.engine.kind in ("rootless", "snap", "podman"):
        _foreign_engine(facts, wish, manager, done)
        return done
    _toolkit(facts, wish, manager, done)
    if facts.toolkit.version or any(step.stage is Stage.TOOLKIT for step in done.steps):
        _settings(facts, done, release)
    return done


def _way_there(facts: HostFacts) -> str:
    """How containers get at the GPUs although there is no nvidia-ctk, which only sets that up."""
    engine = facts.engine
    if facts.toolkit.version or not engine.works:
        return ""
    old_podman = engine.kind == "podman" and engine.release < PODMAN_CDI
    by_cdi = (engine.kind == "podman" and not old_podman) or bool(engine.cdi_dirs)
    known = {*engine.cdi_devices, *facts.toolkit.devices}
    if by_cdi and any(name.startswith(f"{GPU_KIND}=") for name in known):
        return "the engine finds the GPUs by CDI"
    if "nvidia" in engine.runtimes and "nvidia-container-runtime" in facts.tools:
        return "the engine has the nvidia runtime"
    return ""


def _by_hand(facts: HostFacts, done: GpuPlan) -> None:
    """A system whose packages are not known: what is missing is said, and nothing is done."""
    if why := _way_there(facts):
        done.kept.append(Kept(Stage.TOOLKIT, why))
        return
    missing = [] if facts.driver.smi_works else ["NVIDIA's driver"]
    missing += [] if facts.toolkit.version else ["nvidia-container-toolkit"]
    if missing:
        text = f"the GPU cannot be used in containers: {' and '.join(missing)} is not there"
        text += f", and {facts.distro.name} is none of the distributions that remotedl sets up"
        hint = "install it as its documentation says, then: remotedl provision"
        done.notices.append(Notice(text, hint, grave=True))
    elif facts.engine.kind == "docker":
        _settings(facts, done, facts.engine.release)


def _no_gpu(facts: HostFacts, done: GpuPlan) -> None:
    done.kept.append(Kept(Stage.DRIVER, "there is no NVIDIA GPU on this host"))
    if facts.machine.tegra:
        done.notices.append(Notice("a Jetson: its GPU is used through NVIDIA's own system image"))
    elif any(gpu.vendor == "0x1002" for gpu in facts.pci):
        done.notices.append(Notice("the AMD GPU is not used: remotedl knows NVIDIA's only"))


def _foreign_engine(facts: HostFacts, wish: Wish, manager: Manager, done: GpuPlan) -> None:
    """Engines whose settings are not root's to write: what is root's is done, the rest said."""
    kind = facts.engine.kind
    if kind == "snap":
        if "nvidia" not in facts.engine.runtimes and not facts.toolkit.specs:
            text = "Docker from snap does not know the GPU, and remotedl leaves its settings alone"
            hint = "sudo snap remove docker, then: remotedl provision"
            done.notices.append(Notice(text, hint, finding="snap-docker"))
        return
    if kind == "podman" and facts.engine.release < PODMAN_CDI:
        text = f"podman {facts.engine.version} hands out no GPUs over its socket (5.4 does)"
        hint = 'a newer podman, or a rootless Docker; or: runtime = "native" in hosts.toml'
        done.notices.append(Notice(text, hint))
        return
    if facts.toolkit.version or facts.root_for_the_asking:
        _toolkit(facts, wish, manager, done)
    elif not facts.toolkit.version:
        text = "the GPU cannot be used in containers: the Container Toolkit is not there"
        done.notices.append(
            Notice(
                text, 'ask who is root there to provision it; or: runtime = "native" in hosts.toml'
            )
        )
        return
    if kind == "podman":
        _podman(facts, done)
    elif facts.toolkit.version:
        _rootless(facts, done)


def _podman(facts: HostFacts, done: GpuPlan) -> None:
    """podman reads the host's own CDI specifications, and takes no other way to a GPU."""
    if facts.toolkit.specs or not facts.toolkit.version:
        return
    if facts.root_for_the_asking:
        _specification(facts, done)
        return
    text = "podman does not know the GPU yet: no CDI specification describes it"
    hint = f"on the host: sudo nvidia-ctk cdi generate --output={CDI_SPEC}"
    done.notices.append(Notice(text, hint))


def _rootless(facts: HostFacts, done: GpuPlan) -> None:
    """Its daemon.json is the user's. A toolkit before 1.18 would set cgroups, which only root may:
    told not to, it serves rootless engines and no longer root's own."""
    engine, toolkit = facts.engine, facts.toolkit
    if engine.cdi_devices:
        return
    hints = list[str]()
    if "nvidia" not in engine.runtimes:
        hints.append(
            "nvidia-ctk runtime configure --runtime=docker "
            "--config=$HOME/.config/docker/daemon.json; systemctl --user restart docker"
        )
    if version_pair(toolkit.version) < JIT_CDI and not toolkit.no_cgroups:
        hints.append("sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups=true --in-place")
    if hints:
        text = "rootless Docker does not know the GPU yet, and remotedl leaves its settings alone"
        done.notices.append(Notice(text, "on the host: " + "; ".join(hints)))


# ---- the toolkit


def _toolkit(facts: HostFacts, wish: Wish, manager: Manager, done: GpuPlan) -> None:
    versions = {facts.packages[n].version for n in TOOLKIT if facts.installed(n)}
    if facts.toolkit.version and len(versions) <= 1:
        why = f"Container Toolkit {facts.toolkit.version} is there"
        done.kept.append(Kept(Stage.TOOLKIT, why))
        return
    if facts.toolkit.version:
        why = f"its packages are at different versions ({', '.join(sorted(versions))})"
        what = "bring the Container Toolkit to one version"
        run = manager.install(TOOLKIT)
        done.steps.append(Step("align-toolkit", Stage.TOOLKIT, what, why, (run,), optional=True))
        return
    family = family_of(facts.distro)
    if family is Family.ARCH:
        done.steps.append(_install_toolkit(manager, ("nvidia-container-toolkit",)))
        return
    url = next(iter(toolkit_urls(facts, wish)), "")
    reach = facts.net.get(url)
    if reach is not None and reach.known and not reach.ok:
        done.notices.append(
            Notice(
                f"the GPU cannot be used in containers: NVIDIA's repository is out of reach "
                f"({url}: {reach.why})",
                "remotedl provision --via-laptop, or set mirrors.nvidia or proxy in hosts.toml",
                grave=True,
            )
        )
        return
    done.steps += [_add_repository(wish, manager, family), _install_toolkit(manager, TOOLKIT)]


def _add_repository(wish: Wish, manager: Manager, family: Family) -> Step:
    base = (wish.nvidia_mirror or TOOLKIT_REPOSITORY).rstrip("/")
    mirror = bool(wish.nvidia_mirror)
    key = TrustKey(f"{base}/gpgkey", TOOLKIT_RPM_KEY, "NVIDIA", NVIDIA_TOOLKIT, mirror)
    first = "# written by remotedl; `remotedl provision --undo` takes it away\n"
    if family in (Family.DEBIAN, Family.UBUNTU):
        line = f"deb [signed-by={TOOLKIT_KEY}] {base}/stable/deb/$(ARCH) /\n"
        return Step(
            "add-toolkit-repository",
            Stage.TOOLKIT,
            f"add NVIDIA's package repository ({base})",
            "nvidia-ctk is not there",
            (
                Run(("install", "-d", "-m", "0755", "/etc/apt/keyrings")),
                replace(key, path=TOOLKIT_KEY),
                WriteFile(TOOLKIT_SOURCE, first + line),
                manager.refresh(only=TOOLKIT_SOURCE),
            ),
            leaves=("/etc/apt/keyrings", TOOLKIT_KEY),
            optional=True,
        )
    content = (
        f"{first}[nvidia-container-toolkit]\nname=NVIDIA Container Toolkit\n"
        f"baseurl={base}/stable/rpm/$basearch\nenabled=1\nrepo_gpgcheck=1\ngpgcheck=0\n"
        f"gpgkey=file://{key.path}\nsslverify=1\n"
    )
    path = TOOLKIT_ZYPP if family is Family.SUSE else TOOLKIT_YUM
    return Step(
        "add-toolkit-repository",
        Stage.TOOLKIT,
        f"add NVIDIA's package repository ({base})",
        "nvidia-ctk is not there",
        (*trust(key, family), WriteFile(path, content)),
        leaves=(key.path,),
        optional=True,
    )


def _install_toolkit(manager: Manager, packages: tuple[str, ...]) -> Step:
    return Step(
        "install-toolkit",
        Stage.TOOLKIT,
        f"install {', '.join(packages)}",
        "nvidia-ctk is not there",
        (manager.install(packages),),
        leaves=("/etc/nvidia-container-runtime", "/etc/nvidia-container-toolkit", CDI_SPEC),
        optional=True,
    )


# ---- what Docker must know


def _settings(facts: HostFacts, done: GpuPlan, release: tuple[int, int]) -> None:
    """As little as the engine's version takes."""
    if release == (0, 0):
        return
    done.settings = {}
    settings = known_settings(facts)
    if release < CDI_BY_DEFAULT and not has_runtime(settings):
        done.settings.update(NVIDIA_RUNTIME)
    cdi = cdi_setting(settings)
    if (CDI_POSSIBLE <= release < CDI_BY_DEFAULT and not cdi) or (
        release >= CDI_BY_DEFAULT and cdi is False
    ):
        done.settings.update(CDI_ON)
    if release >= CDI_POSSIBLE:
        _specification(facts, done)


def _specification(facts: HostFacts, done: GpuPlan) -> None:
    """A CDI specification; toolkits from 1.18 on keep it fresh by a service of their own.

    Not foreseen: that service writes it as soon as toolkit and driver are both there.
    """
    if facts.toolkit.specs or not facts.toolkit.version or not facts.driver.smi_works:
        return
    done.steps.append(describe_gpus(facts))


def describe_gpus(facts: HostFacts) -> Step:
    """By the toolkit's own service where it is there: it keeps the file fresh, and in /var/run."""
    unit = facts.engine.units.get("nvidia-cdi-refresh.path", ("-", ""))[0]
    if unit in ("-", "not-found"):
        run = Run(("nvidia-ctk", "cdi", "generate", f"--output={CDI_SPEC}"))
    else:
        run = Run(("systemctl", "restart", "nvidia-cdi-refresh.service"))
    return Step(
        "describe-gpus",
        Stage.SETTINGS,
        "write the CDI specification of the GPUs",
        "neither /etc/cdi nor /var/run/cdi holds one",
        (run,),
        leaves=("/etc/cdi", CDI_SPEC),
        optional=True,
    )
