"""From facts and wishes to a plan. Pure: the same facts give the same plan, anywhere.

A plan is complete as far as the facts go: later stages are foreseen and planned again once the
earlier ones are done. A host that is ready gets an empty plan; a host that remotedl cannot make
ready gets a refusal and no steps at all, so that nothing is changed for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remotedl.config.models import RuntimeKind, SudoMode
from remotedl.provision.facts import HostFacts
from remotedl.provision.managers import (
    APT_ENV,
    APT_OPTIONS,
    Family,
    Manager,
    family_of,
    is_set_up,
    manager_of,
)
from remotedl.provision.plan_driver import reboot
from remotedl.provision.plan_engine import (
    docker_urls,
    engine_installed,
    expected_release,
    plan_engine,
)
from remotedl.provision.plan_gpu import plan_gpu, toolkit_urls
from remotedl.provision.plan_settings import plan_settings
from remotedl.provision.steps import Kept, Notice, Plan, Refusal, Run, Stage, Step, TrustKey, Wish

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_PYTHON = (3, 8)
LISTS_STALE_S = 24 * 3600
KERNEL_GONE = "the kernel was upgraded, and the running one has no modules any more"
NATIVE_HINT = 'runtime = "native" in hosts.toml needs no root and no Docker'


def plan(facts: HostFacts, wish: Wish) -> Plan:
    """What is to be done to `facts` so that `wish` comes true."""
    if wish.runtime is RuntimeKind.NATIVE:
        return Plan(kept=(Kept(Stage.ENGINE, "the native runtime needs no Docker"),))
    if (refusal := refuse(facts)) is not None:
        return Plan(refusal=refusal)
    manager = manager_of(facts) if is_set_up(facts.distro) else None
    engine, notices, kept, refusal = plan_engine(facts, wish, manager)
    if refusal is not None:
        return Plan(notices=tuple(notices), refusal=refusal)
    gpu = plan_gpu(facts, wish, manager, expected_release(facts, engine))
    kept = [*kept, *gpu.kept]
    docker = plan_settings(facts, gpu.settings, engine)
    notices = [*notices, *gpu.notices, *docker.notices]
    if docker.refusal is not None:
        return Plan(notices=tuple(notices), refusal=docker.refusal)
    if gpu.settings == {} and not docker.steps and not _sets(gpu.steps):
        kept.append(Kept(Stage.SETTINGS, "Docker needs no settings for the GPU"))
    python, words = _plan_python(facts, manager)
    notices += words
    steps = [*python, *engine, *docker.steps, *gpu.steps, *_plan_group(facts, wish)]
    if any(_installs(step) for step in steps) and _kernel_gone(facts):
        steps = [replace(reboot(facts, KERNEL_GONE), optional=False)]
    if any(_installs(step) for step in steps):
        steps = [*_prepare(facts, steps), *steps]
    order = list(Stage)
    whole = Plan(
        steps=tuple(sorted(steps, key=lambda step: order.index(step.stage))),
        notices=tuple(notices),
        kept=tuple(kept),
    )
    return _within_rights(whole, facts, wish)


def urls_to_check(facts: HostFacts, wish: Wish) -> tuple[str, ...]:
    """What the plan would like to know about the network; empty for a host that is ready."""
    if wish.runtime is RuntimeKind.NATIVE or not is_set_up(facts.distro):
        return ()
    urls = () if facts.engine.works else docker_urls(facts, wish)
    return (*urls, *toolkit_urls(facts, wish))


def refuse(facts: HostFacts) -> Refusal | None:
    """Hosts that nothing is tried on. An engine that answers is enough to be taken as it is."""
    machine = facts.machine
    if facts.engine.works:
        return None
    small = machine.bits == 32 or machine.package_arch in ("i386", "armhf", "armel")
    if small or (machine.machine and machine.machine not in ARCHITECTURES):
        kind = machine.package_arch or machine.machine
        return Refusal(f"neither Docker nor the frameworks come for {kind}, which this system is")
    if not is_set_up(facts.distro) and not engine_installed(facts):
        packages = "Docker (the engine, its CLI and buildx)"
        if facts.nvidia_gpus:
            packages += " and nvidia-container-toolkit"
        return Refusal(
            f"{facts.distro.name} is none of the distributions that remotedl sets up",
            f"install {packages} as its documentation says, then: remotedl provision; "
            f"or: {NATIVE_HINT}",
        )
    if "rpm-ostree" in facts.tools or "transactional-update" in facts.tools:
        return Refusal(
            f"{facts.distro.name} has a read-only system that is changed as a whole",
            f"install Docker by its own means, then run this again; or: {NATIVE_HINT}",
        )
    return None


def _sets(steps: Sequence[Step]) -> bool:
    return any(step.stage is Stage.SETTINGS for step in steps)


def _installs(step: Step) -> bool:
    tools = ("apt-get", "dnf", "yum", "zypper", "pacman", "amazon-linux-extras")
    return any(isinstance(a, Run) and a.argv[0] in tools for a in step.actions)


def _prepare(facts: HostFacts, steps: list[Step]) -> list[Step]:
    """What must be so before any package is installed."""
    manager = manager_of(facts)
    if manager is not None and manager.tool == "pacman":
        return _upgrade(facts, manager)
    if manager is None or manager.tool != "apt-get":
        return []
    prepared = list[Step]()
    if facts.unfinished:
        actions = (
            Run(("dpkg", "--force-confdef", "--force-confold", "--configure", "-a"), env=APT_ENV),
            Run(("apt-get", *APT_OPTIONS, "--fix-broken", "install"), env=APT_ENV),
        )
        why = f"dpkg was killed half-way ({' '.join(facts.unfinished[0].split())})"
        prepared.append(
            Step(
                "finish-packages",
                Stage.PREPARE,
                "finish the interrupted installation",
                why,
                actions,
            )
        )
    if facts.lists_count == 0 or facts.lists_age > LISTS_STALE_S:
        why = "there are none" if facts.lists_count == 0 else "they are older than a day"
        prepared.append(
            Step(
                "refresh-packages",
                Stage.PREPARE,
                "fetch the package lists",
                why,
                (manager.refresh(),),
            )
        )
    wanted = [name for name in ("ca-certificates", "curl") if not facts.installed(name)]
    if wanted and any(_fetches(step) for step in steps):
        prepared.append(
            Step(
                "install-fetchers",
                Stage.PREPARE,
                f"install {', '.join(wanted)}",
                "package repositories over https take them",
                (manager.install(wanted),),
            )
        )
    return prepared


def _upgrade(facts: HostFacts, manager: Manager) -> list[Step]:
    """The whole system first, where it is not of today: Arch supports no partial upgrades."""
    if facts.lists_count and facts.lists_age <= LISTS_STALE_S and not facts.upgradable:
        return []
    why = "Arch supports no partial upgrades: a package of today is installed on a system of today"
    return [
        Step(
            "upgrade-system",
            Stage.PREPARE,
            "upgrade the whole system",
            why,
            (manager.refresh(),),
            confirm=f"Upgrade the whole system ({facts.distro.name})? {why}",
        )
    ]


def _kernel_gone(facts: HostFacts) -> bool:
    """An upgrade of Arch takes the running kernel's modules away: Docker cannot start until the
    host has started again, nor can a driver be built."""
    return family_of(facts.distro) is Family.ARCH and not facts.machine.modules


def _fetches(step: Step) -> bool:
    return any(isinstance(action, TrustKey) for action in step.actions)


def _plan_python(facts: HostFacts, manager: Manager | None) -> tuple[list[Step], list[Notice]]:
    """The sync's agent on the host is a program of Python's."""
    there = facts.python
    if there is None or there >= OLDEST_PYTHON:
        return [], []
    needed = f"the sync needs Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer there"
    if there > (0, 0) or manager is None:
        has = f"python3 is {there[0]}.{there[1]}" if there > (0, 0) else "there is no python3"
        hint = "install a newer one as python3 on the host, then: remotedl provision"
        return [], [Notice(f"{has} on this host, and {needed}", hint, grave=True)]
    package = "python" if manager.tool == "pacman" else "python3"
    run = manager.install((package,))
    return [Step("install-python", Stage.ENGINE, f"install {package}", needed, (run,))], []


def _plan_group(facts: HostFacts, wish: Wish) -> list[Step]:
    person = facts.person
    if not wish.join_group or person.uid == 0 or person.name in facts.engine.group_members:
        return []
    return [
        Step(
            "join-docker-group",
            Stage.SETTINGS,
            f"add {person.name} to the group docker",
            "asked for; whoever is in it is as good as root",
            (Run(("usermod", "-aG", "docker", person.name)),),
        )
    ]


def _within_rights(whole: Plan, facts: HostFacts, wish: Wish) -> Plan:
    """Without root, a plan that needs it is refused, or goes on without the GPU."""
    if not whole.steps or (facts.root_possible and wish.sudo is not SudoMode.NONE):
        return whole
    if facts.sudo == "root":
        return whole
    needed = [step for step in whole.steps if not step.optional and step.stage != Stage.PREPARE]
    why = "hosts.toml says sudo = none" if facts.root_possible else facts.why_no_root
    if needed:
        what = "; ".join(step.what for step in needed)
        return replace(
            whole, steps=(), refusal=Refusal(f"{why}, and root must: {what}", NATIVE_HINT)
        )
    notices = list(whole.notices)
    for without in dict.fromkeys(step.without for step in whole.steps):
        steps = [step for step in whole.steps if step.without == without]
        what = "; ".join(step.what for step in steps)
        text = f"{without}: {why}, and root must: {what}"
        notices.append(Notice(text, NATIVE_HINT, steps[0].finding))
    return replace(whole, steps=(), notices=tuple(notices))
