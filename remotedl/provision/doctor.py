"""What is wrong with a host, from its facts. Pure: no wire, no clock; nothing is repaired here.

A finding says what is seen, why, and the command that mends it. `fix` is set only where the
repair cannot cost anybody anything: a specification written anew, an owner put right, a limit
raised. Everything that installs, restarts or reboots is left to `provision`, which asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from remotedl.provision.facts import HostFacts, Space
from remotedl.provision.findings import Finding, Grade, Place
from remotedl.provision.managers import APT_ENV
from remotedl.provision.plan import plan
from remotedl.provision.plan_engine import started_by_hand
from remotedl.provision.plan_gpu import describe_gpus
from remotedl.provision.plan_settings import HANGS, MTU_FINDING, needs_mtu
from remotedl.provision.settings import SettingsBroken, read_settings
from remotedl.provision.steps import Plan, Run, Stage, Step, Wish
from remotedl.provision.symptoms import recognise

SKEW_WARN_S = 30
SKEW_BAD_S = 300
WATCHES_NEEDED = 65_536
WATCHES_WANTED = 524_288
IMAGES_WANT = 20_000_000_000
NEARLY_NOTHING = 2_000_000_000
MEMORY_WANTED = 2_000_000_000
ENGINE_SILENT = ("docker-permission", "docker-down")
"""Symptoms of an engine that does not answer this user."""
DRIVER_SILENT = {"driver-not-loaded", "driver-mismatch", "driver-silent"}
OF_DRIVER = (Stage.PREPARE, Stage.DRIVER, Stage.REBOOT)
"""What a plan of nothing but the driver is made of: the finding about the driver says it all."""
STALE_LISTS = ("nvidia-docker.list", "libnvidia-container.list", "nvidia-container-runtime.list")


def findings_of_host(
    facts: HostFacts, wish: Wish, host: str, now: int, *, blind: bool = False
) -> list[Finding]:
    """Everything that the facts tell. `now`: the laptop's clock, seconds since 1970.

    `blind`: sudo was refused, so that an engine that only root reaches was not seen. What is
    missing is not known then, and the refusal is the one finding about it.
    """
    found = [
        *_system(facts, host, now),
        *_packages(facts, host),
        *_way_out(facts, wish, host),
        *_disks(facts, host),
        *(_engine(facts, host) if facts.engine.works or not blind else ()),
        *(_gpus(facts, host) if wish.gpus else ()),
        *_kernel(facts, host),
    ]
    if blind and not facts.engine.works:
        return found
    return _once(found, plan(facts, wish), host)


# ---- the system


def _system(facts: HostFacts, host: str, now: int) -> Iterator[Finding]:
    what = f"{facts.distro.name}, {facts.machine.machine}, kernel {facts.machine.kernel}"
    yield Finding("system", Place.HOST, Grade.GOOD, what)
    skew = abs(now - facts.now) if facts.now else 0
    if skew > SKEW_WARN_S:
        yield Finding(
            "clock",
            Place.HOST,
            Grade.BAD if skew > SKEW_BAD_S else Grade.WARN,
            f"the clocks of host and laptop are {skew} s apart",
            "certificates, package signatures and the sync's modification times go by the clock",
            f"ssh {host} sudo timedatectl set-ntp true",
        )
    if not facts.person.home_writable and facts.person.home:
        yield Finding(
            "home",
            Place.HOST,
            Grade.BAD,
            f"{facts.person.home} is not writable",
            "the agent, the journal of jobs and the workdir lie there",
            f"ssh {host} ls -ld '~'",
        )
    if 0 < facts.memory_total < MEMORY_WANTED:
        what = f"{facts.memory_total / 1e9:.1f} GB of memory"
        yield Finding("memory", Place.HOST, Grade.WARN, what, "JupyterLab alone takes 0.3 GB")
    watches = facts.limits.get("fs/inotify/max_user_watches", 0)
    if 0 < watches < WATCHES_NEEDED:
        yield _few_watches(watches, host)
    if facts.reboot_wanted:
        packages = ", ".join(facts.reboot_packages[:3]) or "an upgrade"
        what = f"the host waits for a reboot ({packages})"
        yield Finding("reboot", Place.HOST, Grade.NOTE, what, mend=f"ssh {host} sudo reboot")


def _few_watches(watches: int, host: str) -> Finding:
    return Finding(
        "inotify",
        Place.HOST,
        Grade.WARN,
        f"only {watches} folders can be watched on the host (inotify)",
        "a project with more folders is synced by looking through it again and again",
        f"remotedl doctor {host} --fix",
        Step(
            "raise-watches",
            Stage.SETTINGS,
            f"let {WATCHES_WANTED} folders be watched, until the next reboot",
            f"{watches} are few",
            (Run(("sysctl", "-w", f"fs.inotify.max_user_watches={WATCHES_WANTED}")),),
        ),
    )


def _packages(facts: HostFacts, host: str) -> Iterator[Finding]:
    if facts.cloud_init == "running":
        what = "cloud-init still sets this machine up"
        yield Finding("cloud-init", Place.HOST, Grade.NOTE, what, "its first boot is not over")
    for lock in facts.locks[:1]:
        what = f"{lock.holder or 'a program'} (process {lock.pid}) installs packages"
        yield Finding("packages-locked", Place.HOST, Grade.NOTE, what, "provisioning waits for it")
    if facts.unfinished:
        yield Finding(
            "packages-unfinished",
            Place.HOST,
            Grade.WARN,
            "an installation of packages was interrupted",
            "power, a lost connection or a full disk",
            f"remotedl provision {host}",
            Step(
                "finish-packages",
                Stage.PREPARE,
                "finish the interrupted installation",
                "dpkg was killed half-way",
                (Run(("dpkg", "--force-confold", "--configure", "-a"), env=APT_ENV),),
            ),
        )
    stale = [path for path in facts.sources if path.rpartition("/")[2] in STALE_LISTS]
    if stale:
        yield Finding(
            "stale-repositories",
            Place.TOOLKIT,
            Grade.WARN,
            f"repositories of the old nvidia-docker are configured ({', '.join(stale)})",
            "they moved to nvidia-container-toolkit.list and may clash with it",
            f"ssh {host} sudo rm {' '.join(stale)}",
        )
    yield from _repository_twice(facts, host)


def _way_out(facts: HostFacts, wish: Wish, host: str) -> Iterator[Finding]:
    """A proxy that the host's own programs use, and Docker is not told of."""
    engine = facts.engine
    told = wish.proxy or engine.http_proxy or engine.https_proxy
    if facts.proxies and engine.works and not told:
        yield Finding(
            "proxy-unknown-to-engine",
            Place.ENGINE,
            Grade.NOTE,
            f"the host goes out through {facts.proxies[0]}, which Docker is not told of",
            "Docker reads neither /etc/environment nor the package manager's settings",
            f'proxy = "{facts.proxies[0]}" under [hosts.{host}], then: remotedl provision {host}',
        )


def _repository_twice(facts: HostFacts, host: str) -> Iterator[Finding]:
    for site in ("nvidia.github.io/libnvidia-container", "download.docker.com/linux"):
        files = [p for p, lines in facts.sources.items() if any(site in line for line in lines)]
        if len(files) > 1 and files[0].startswith("/etc/apt"):
            yield Finding(
                "repository-twice",
                Place.ENGINE if "docker" in site else Place.TOOLKIT,
                Grade.WARN,
                f"{site} stands in {' and '.join(files)}",
                "apt refuses both where they name different keys (Signed-By)",
                f"ssh {host} sudo rm {files[-1]}",
            )


def _disks(facts: HostFacts, host: str) -> Iterator[Finding]:
    images = facts.engine.root_dir or "/var/lib/docker"
    seen = set[str]()
    for path in (images, "/var/lib/containerd", "/var", facts.person.home, "/"):
        space = facts.space.get(path)
        if space is None or space.mount in seen:
            continue
        seen.add(space.mount)
        yield from _one_disk(space, host, of_images=path not in (facts.person.home, "/"))


def _one_disk(space: Space, host: str, *, of_images: bool) -> Iterator[Finding]:
    free = f"{space.free / 1e9:.1f} GB free on {space.mount}"
    full = space.total > 0 and space.free < NEARLY_NOTHING
    if full or (of_images and space.free < IMAGES_WANT):
        yield Finding(
            "disk",
            Place.DISK,
            Grade.BAD if full else Grade.NOTE,
            free,
            "a deep-learning image takes 5 to 20 GB, and twice that while it unpacks",
            f"remotedl image prune --host {host}",
        )
    elif space.inodes_free is not None and space.inodes_free < 50_000:
        what = f"{space.inodes_free} inodes free on {space.mount}"
        cause = "many small files; images hold hundreds of thousands"
        yield Finding("inodes", Place.DISK, Grade.WARN, what, cause, f"ssh {host} df -i")
    else:
        yield Finding("disk", Place.DISK, Grade.GOOD, free)


# ---- the engine


def _engine(facts: HostFacts, host: str) -> Iterator[Finding]:
    engine = facts.engine
    for file in engine.settings:
        try:
            read_settings(file.text or "")
        except SettingsBroken as exc:
            yield Finding(
                "settings-broken",
                Place.ENGINE,
                Grade.BAD,
                f"{file.path} is {exc}",
                "Docker runs on what it read before, and will not start again",
                f"ssh -t {host} sudoedit {file.path}",
            )
    if engine.config_dir_stolen:
        yield _stolen_config(facts, host)
    if not engine.works:
        for symptom in recognise(engine.problem)[:1]:
            mend = symptom.mend.format(host=host)
            if symptom.name == "docker-down" and not facts.init.systemd:
                mend = started_by_hand(facts)
            what, cause = symptom.meaning, symptom.cause
            yield Finding(symptom.name, Place.ENGINE, Grade.BAD, what, cause, mend)
        return
    through = " through sudo" if engine.access == "sudo" else ""
    name = {"docker": "Docker", "rootless": "rootless Docker", "snap": "Docker from snap"}
    what = f"{name.get(engine.kind, 'Podman')} {engine.version} answers{through}"
    yield Finding("engine", Place.ENGINE, Grade.GOOD, what)
    if needs_mtu(facts):
        yield Finding(
            MTU_FINDING,
            Place.ENGINE,
            Grade.BAD,
            f"{HANGS}: Docker's networks send packets of {engine.mtu} bytes, the host's network "
            f"card carries {facts.uplink_mtu}",
            "what is larger is lost without a word, as behind a VPN or in a cloud's network",
            f"remotedl provision {host}",
        )
    yield from _open_ports(facts, host)
    if engine.kind == "snap":
        yield Finding(
            "snap-docker",
            Place.ENGINE,
            Grade.WARN,
            "Docker comes from snap",
            "it mounts folders under /home only, and knows GPUs only by the nvidia runtime",
            f"ssh {host} sudo snap remove docker, then: remotedl provision {host}",
        )


def _open_ports(facts: HostFacts, host: str) -> Iterator[Finding]:
    """Containers of others: those of remotedl publish nothing."""
    for container in facts.engine.containers:
        if container.running and container.open_ports:
            ports = ", ".join(container.open_ports)
            yield Finding(
                "ports-open",
                Place.PORTS,
                Grade.NOTE,
                f"container {container.name} is open to the network on {ports}",
                "what Docker publishes passes by ufw and firewalld",
                f"ssh {host} docker port {container.name}, then publish it as 127.0.0.1:HOST:PORT",
            )


def _stolen_config(facts: HostFacts, host: str) -> Finding:
    folder = f"{facts.person.home}/.docker"
    return Finding(
        "docker-config-stolen",
        Place.ENGINE,
        Grade.WARN,
        f"{folder} belongs to somebody else",
        "docker was run with sudo before the user ran it",
        f"remotedl doctor {host} --fix",
        Step(
            "give-config-back",
            Stage.SETTINGS,
            f"give {folder} to {facts.person.name}",
            "docker cannot read its settings",
            (Run(("chown", "-R", f"{facts.person.name}:", folder)),),
        ),
    )


# ---- GPUs


def _gpus(facts: HostFacts, host: str) -> Iterator[Finding]:
    driver = facts.driver
    if not facts.nvidia_gpus and not facts.gpus:
        yield Finding("gpu", Place.GPU, Grade.NOTE, "no NVIDIA GPU: everything runs on the CPU")
        return
    for gpu in facts.gpus:
        used = f"{gpu.memory_used / 1e9:.1f} of {gpu.memory_total / 1e9:.1f} GB in use"
        yield Finding("gpu", Place.GPU, Grade.GOOD, f"GPU {gpu.index}: {gpu.name}, {used}")
        if gpu.mig:
            what = f"GPU {gpu.index} is cut into MIG partitions"
            yield Finding("mig", Place.GPU, Grade.NOTE, what, "whole GPUs cannot be asked for")
    if not driver.smi_works:
        yield from _silent_driver(facts, host)
    elif driver.on_disk and driver.loaded and driver.on_disk != driver.loaded:
        yield Finding(
            "driver-pending",
            Place.GPU,
            Grade.WARN,
            f"driver {driver.on_disk} is on the disk, {driver.loaded} in the kernel",
            "the driver was upgraded; its tools fail as soon as they meet the old module",
            f"remotedl provision {host} --reboot",
        )
    if len(facts.gpus) not in (0, len(facts.nvidia_gpus)) and facts.nvidia_gpus:
        yield Finding(
            "gpu-missing",
            Place.GPU,
            Grade.BAD,
            f"{len(facts.nvidia_gpus)} GPUs are on the bus, the driver sees {len(facts.gpus)}",
            "one of them crashed, or is held by another driver (vfio-pci, nouveau)",
            f"ssh {host} 'sudo dmesg | grep -E \"NVRM|Xid\"'",
        )
    yield from _toolkit(facts, host)


def _silent_driver(facts: HostFacts, host: str) -> Iterator[Finding]:
    found = recognise(facts.driver.smi_said)
    if found:
        symptom = found[0]
        mend = symptom.mend.format(host=host)
        cause = "nouveau holds it" if facts.driver.nouveau else symptom.cause
        yield Finding(symptom.name, Place.GPU, Grade.BAD, symptom.meaning, cause, mend)
        return
    said = (facts.driver.smi_said.splitlines() or [""])[0]
    if facts.driver.loaded:
        what = f"NVIDIA's driver does not answer{': ' + said if said else ''}"
        mend = f"ssh {host} 'sudo dmesg | grep NVRM'"
        yield Finding("driver-silent", Place.GPU, Grade.BAD, what, mend=mend)
        return
    cause = "no driver is installed"
    if facts.driver.nouveau:
        cause = "nouveau holds the GPU"
    elif facts.driver.on_disk and facts.secure_boot:
        cause = "Secure Boot may have refused it"
    elif facts.driver.on_disk:
        cause = f"version {facts.driver.on_disk} is on the disk"
    what, mend = "NVIDIA's driver is not loaded", f"remotedl provision {host}"
    yield Finding("driver-not-loaded", Place.GPU, Grade.BAD, what, cause, mend)


def _toolkit(facts: HostFacts, host: str) -> Iterator[Finding]:
    engine, toolkit = facts.engine, facts.toolkit
    if not toolkit.version:
        return  # `_provisioning` says what it takes
    what = f"NVIDIA Container Toolkit {toolkit.version}"
    yield Finding("toolkit", Place.TOOLKIT, Grade.GOOD, what)
    if facts.driver.smi_works and toolkit.cdi_hook and not toolkit.specs:
        yield _missing_specification(facts, host)
    by_runtime = "nvidia" in engine.runtimes and engine.release < (29, 2)
    if engine.works and by_runtime and engine.cgroup_driver == "systemd" and not engine.cdi_devices:
        yield Finding(
            "nvml-may-be-lost",
            Place.TOOLKIT,
            Grade.NOTE,
            "a systemctl daemon-reload on this host takes the GPU from running containers",
            "devices granted by the runtime are unknown to systemd's cgroups; CDI has no such flaw",
            f"remotedl provision {host}",
        )


def _missing_specification(facts: HostFacts, host: str) -> Finding:
    return Finding(
        "specification-missing",
        Place.TOOLKIT,
        Grade.WARN,
        "no CDI specification describes the GPUs",
        "the service that writes it did not run",
        f"remotedl doctor {host} --fix",
        describe_gpus(facts),
    )


def _kernel(facts: HostFacts, host: str) -> Iterator[Finding]:
    """What the kernel said since it booted; the newest of each kind."""
    said = set[str]()
    for line in reversed(facts.kernel_says):
        for symptom in recognise(line):
            if symptom.name in said or symptom.name == "driver-mismatch":
                continue
            said.add(symptom.name)
            mend = symptom.mend.format(host=host)
            what = f"{symptom.meaning}: {line.strip()[:120]}"
            grade = Grade.BAD if symptom.name == "gpu-off-the-bus" else Grade.WARN
            yield Finding(symptom.name, Place.GPU, grade, what, symptom.cause, mend)


def _once(found: list[Finding], whole: Plan, host: str) -> list[Finding]:
    """With what the plan tells, each cause once."""
    troubles = {one.name: one for one in found if one.grade is not Grade.GOOD}
    fresh = [n for n in whole.notices if n.finding not in troubles]
    if whole.refusal is not None and whole.refusal.finding in troubles:
        whole = replace(whole, refusal=None)
    if DRIVER_SILENT & troubles.keys() and all(one.stage in OF_DRIVER for one in whole.steps):
        whole = replace(whole, steps=())
    whole = replace(whole, steps=tuple(s for s in whole.steps if s.finding not in troubles))
    missing = list(_provisioning(replace(whole, notices=tuple(fresh)), host))
    silent = next((one for one in found if one.name in ENGINE_SILENT), None)
    if whole.refusal is not None and silent is not None:
        # What docker said is why; what it would take is what the refusal says.
        found = [one for one in found if one is not silent]
        missing[0] = replace(missing[0], cause=silent.cause)
    return [*found, *missing]


def _provisioning(found: Plan, host: str) -> Iterator[Finding]:
    """What `remotedl provision` would do is what is missing."""
    if found.refusal is not None:
        refusal = found.refusal
        yield Finding("refused", Place.HOST, Grade.BAD, refusal.reason, mend=refusal.hint)
    elif found.steps:
        lead = next((one for one in found.steps if one.stage is not Stage.PREPARE), found.steps[0])
        what = f"1 step is missing: {lead.what}"
        if len(found.steps) > 1:
            what = f"{len(found.steps)} steps are missing: {lead.what}, …"
        needed = any(not step.optional for step in found.steps)
        grade = Grade.BAD if needed else Grade.WARN
        why = lead.why
        mend = f"remotedl provision {host}"
        yield Finding("unprovisioned", Place.ENGINE, grade, what, why, mend)
    for notice in found.notices:
        grade = Grade.BAD if notice.grave else Grade.NOTE
        yield Finding("notice", Place.HOST, grade, notice.text, mend=notice.hint)
