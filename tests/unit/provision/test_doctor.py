"""What the doctor finds in recorded facts, and its last line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remotedl.provision.doctor import findings_of_host
from remotedl.provision.doctor_laptop import KeyFile, LaptopFacts, findings_of_laptop
from remotedl.provision.facts import ConfigFile, Driver, Engine, HostFacts, PciGpu, Space
from remotedl.provision.findings import Finding, Grade, LocalFix, Place, in_order, last_line
from remotedl.provision.frame import Section
from remotedl.provision.parse_engine import parse_containers
from remotedl.provision.steps import Run, Step, Wish
from tests.unit.provision import rendering


def facts_of(name: str) -> HostFacts:
    return rendering.facts_of(rendering.load(name))


def found(facts: HostFacts, **wish: bool) -> dict[str, Finding]:
    """Findings that are not good, by name."""
    all_of_them = findings_of_host(facts, Wish(**wish), "h1", facts.now)  # type: ignore[arg-type]
    return {f.name: f for f in all_of_them if f.grade is not Grade.GOOD}


@pytest.mark.parametrize("name", ["ready", "cdi-by-default"])
def test_a_host_that_is_ready(name: str) -> None:
    facts = facts_of(name)

    findings = findings_of_host(facts, Wish(), "h1", facts.now)

    assert [f.what for f in findings if f.grade in (Grade.BAD, Grade.WARN)] == []
    assert last_line(findings, "h1") == "ready"


@pytest.mark.parametrize(("case", "name", "grade", "mend"), [
    ("driver-mismatch", "driver-mismatch", Grade.BAD, "remotedl provision h1 --reboot"),
    ("driver-silent", "no-devices", Grade.BAD, "ssh h1 'sudo dmesg | grep -E \"NVRM|nouveau\"'"),
    ("nouveau", "driver-not-loaded", Grade.BAD, "remotedl provision h1"),
    ("driver-on-disk", "driver-not-loaded", Grade.BAD, "remotedl provision h1"),
    ("broken-daemon-json", "settings-broken", Grade.BAD,
     "ssh -t h1 sudoedit /etc/docker/daemon.json"),
    ("snap-docker", "snap-docker", Grade.WARN, "ssh h1 sudo snap remove docker, then: remotedl "
     "provision h1"),
    ("docker-out-of-reach", "refused", Grade.BAD, 'runtime = "native" in hosts.toml'),
    ("stopped-docker", "docker-down", Grade.BAD, "ssh h1 sudo journalctl -u docker -n 30"),
    ("interrupted-install", "packages-unfinished", Grade.WARN, "remotedl provision h1"),
    ("small-disk", "disk", Grade.NOTE, "remotedl image prune --host h1"),
    ("nearly-full", "disk", Grade.BAD, "remotedl image prune --host h1"),
    ("cdi-specification-missing", "specification-missing", Grade.WARN,
     "remotedl doctor h1 --fix"),
    ("lambda-stack", "nvml-may-be-lost", Grade.NOTE, "remotedl provision h1"),
    ("old-engine-gets-the-toolkit", "unprovisioned", Grade.WARN, "remotedl provision h1"),
    ("debian-12", "unprovisioned", Grade.BAD, "remotedl provision h1"),
    ("no-systemd", "refused", Grade.BAD, "install and start Docker yourself, or: "
     'runtime = "native" in hosts.toml needs no Docker'),
])  # fmt: skip
def test_what_is_wrong_is_named_with_its_mend(
    case: str, name: str, grade: Grade, mend: str
) -> None:
    finding = found(facts_of(case))[name]

    assert (finding.grade, finding.mend) == (grade, mend)


def test_an_engine_out_of_reach_is_one_finding_with_its_cause() -> None:
    troubles = found(facts_of("docker-out-of-reach"))

    assert "docker-permission" not in troubles
    assert "not in the group docker" in troubles["refused"].cause


def test_what_sudo_hides_is_not_guessed_at() -> None:
    facts = facts_of("docker-out-of-reach")

    blind = findings_of_host(facts, Wish(gpus=False), "h1", facts.now, blind=True)

    assert [f.name for f in blind if f.grade is Grade.BAD] == []


@pytest.mark.parametrize("case", ["broken-daemon-json", "nearly-full", "snap-docker"])
def test_what_doctor_and_plan_both_know_is_said_once(case: str) -> None:
    names = found(facts_of(case))

    assert "refused" not in names and "notice" not in names


def test_a_driver_that_is_missing_is_told_once() -> None:
    names = found(facts_of("snap-docker"))

    assert "driver-not-loaded" in names and "unprovisioned" not in names


def test_a_stolen_folder_is_told_once() -> None:
    engine = replace(facts_of("ready").engine, config_dir_stolen=True)
    findings = findings_of_host(replace(facts_of("ready"), engine=engine), Wish(), "h1", 0)

    assert [f.name for f in findings if ".docker" in f.what] == ["docker-config-stolen"]


def test_clocks_that_differ() -> None:
    facts = replace(facts_of("ready"), now=1_000)

    def grade(now: int) -> Grade | None:
        by_name = {f.name: f.grade for f in findings_of_host(facts, Wish(), "h1", now)}
        return by_name.get("clock")

    assert [grade(now) for now in (1_000, 1_031, 969, 1_301)] == [
        None, Grade.WARN, Grade.WARN, Grade.BAD,
    ]  # fmt: skip


def test_repairs_that_are_safe_come_with_a_step_and_others_do_not() -> None:
    engine = Engine(kind="docker", access="direct", version="29.8.1", config_dir_stolen=True)
    facts = replace(facts_of("ready"), engine=engine, limits={"fs/inotify/max_user_watches": 8192})

    findings = found(facts, gpus=False)

    assert findings["docker-config-stolen"].safe_to_fix and findings["inotify"].safe_to_fix
    assert not any(
        f.safe_to_fix for f in found(facts_of("driver-mismatch")).values() if f.grade is Grade.BAD
    )


@pytest.mark.parametrize(("unit", "command"), [
    ("enabled", "systemctl restart nvidia-cdi-refresh.service"),
    ("not-found", "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"),
    ("-", "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"),
])  # fmt: skip
def test_a_specification_is_written_by_the_service_where_there_is_one(
    unit: str, command: str
) -> None:
    facts = facts_of("cdi-specification-missing")
    units = {"nvidia-cdi-refresh.path": (unit, "")}
    facts = replace(facts, engine=replace(facts.engine, units=units))

    step = found(facts)["specification-missing"].fix

    assert isinstance(step, Step) and isinstance(step.actions[0], Run)
    assert " ".join(step.actions[0].argv) == command


def test_a_stolen_folder_goes_back_to_its_owner_by_name() -> None:
    # GNU chown takes "1000:" for a mistake
    engine = replace(facts_of("ready").engine, config_dir_stolen=True)

    step = found(replace(facts_of("ready"), engine=engine))["docker-config-stolen"].fix

    assert isinstance(step, Step) and isinstance(step.actions[0], Run)
    assert step.actions[0].argv == ("chown", "-R", "ubuntu:", "/home/ubuntu/.docker")


def test_repositories_of_the_old_days_and_doubled_ones() -> None:
    folder, site = "/etc/apt/sources.list.d", "https://nvidia.github.io/libnvidia-container"
    sources = {
        f"{folder}/nvidia-docker.list": (f"deb {site}/x /",),
        f"{folder}/z.list": (f"deb {site}/y /",),
    }

    findings = found(replace(facts_of("ready"), sources=sources))

    assert "nvidia-docker.list" in findings["stale-repositories"].mend
    assert findings["repository-twice"].mend.endswith("z.list")


def test_what_the_kernel_said() -> None:
    said = (
        "[ 1.0] NVRM: loading NVIDIA UNIX Open Kernel Module",
        "[ 9.5] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
        "[ 9.9] Out of memory: Killed process 2211 (python)",
    )

    findings = found(replace(facts_of("ready"), kernel_says=said))

    assert findings["gpu-off-the-bus"].grade is Grade.BAD
    assert "2211" in findings["out-of-memory"].what


def test_a_driver_upgrade_that_waits_for_a_reboot() -> None:
    facts = facts_of("ready")
    driver = replace(facts.driver, on_disk="590.1", loaded="580.1")

    assert "590.1" in found(replace(facts, driver=driver))["driver-pending"].what


def test_a_gpu_that_the_driver_does_not_see() -> None:
    facts = facts_of("ready")
    pci = (*facts.pci, PciGpu("0000:01:00.0", "0x10de", 0x2330))

    assert "2 GPUs" in found(replace(facts, pci=pci))["gpu-missing"].what


def test_no_gpu_is_no_trouble() -> None:
    facts = replace(facts_of("ready"), pci=(), gpus=(), driver=Driver())

    assert found(facts)["gpu"].grade is Grade.NOTE
    assert "gpu" not in found(facts, gpus=False)


def test_a_proxy_that_docker_is_not_told_of() -> None:
    facts = replace(facts_of("ready"), proxies=("http://proxy.example:3128",))

    finding = found(facts)["proxy-unknown-to-engine"]

    assert finding.grade is Grade.NOTE and "hosts.h1" in finding.mend
    told = replace(facts, engine=replace(facts.engine, http_proxy="http://proxy.example:3128"))
    assert "proxy-unknown-to-engine" not in found(told)


def test_a_container_that_is_open_to_the_network() -> None:
    recorded = (
        f"{'a' * 64}\tweb\trunning\tnginx\t\t\t\t0.0.0.0:80->80/tcp, :::80->80/tcp, 443/tcp\n"
        f"{'b' * 64}\tremotedl-x\trunning\ti\tada\tx\t\t127.0.0.1:49153->8888/tcp\n"
        f"{'c' * 64}\tolder\texited\ti\t\t\t\t\n"
    )
    ready = facts_of("ready")
    containers = parse_containers(Section(0, recorded))

    facts = replace(ready, engine=replace(ready.engine, containers=containers))

    (finding,) = [f for f in findings_of_host(facts, Wish(), "h1", 0) if f.name == "ports-open"]
    assert finding.what == "container web is open to the network on 80/tcp"
    assert finding.grade is Grade.NOTE


def test_settings_that_nobody_may_read_are_no_broken_ones() -> None:
    engine = Engine(settings=(ConfigFile("/etc/docker/daemon.json", None),))

    assert "settings-broken" not in found(HostFacts(engine=engine))


def test_inodes() -> None:
    space = Space("/var", "/dev/sda1", "/var", 10**12, 10**11, inodes_free=10)

    assert found(HostFacts(space={"/var": space}))["inodes"].mend == "ssh h1 df -i"


# ---- the laptop


def laptop(**facts: object) -> dict[str, Finding]:
    findings = findings_of_laptop(LaptopFacts(**facts))  # type: ignore[arg-type]
    return {f.name: f for f in findings if f.grade is not Grade.GOOD}


def test_keys_that_others_may_read_and_their_repair() -> None:
    key = KeyFile("/home/ada/.ssh/id_rsa", True, 0o644)
    folder = KeyFile("/home/ada/.ssh", True, 0o755, folder=True)

    finding = laptop(keys=(folder, key))["key-permissions"]

    assert finding.fix == LocalFix("/home/ada/.ssh/id_rsa", 0o600)
    assert finding.mend == "chmod 600 /home/ada/.ssh/id_rsa"


def test_a_folder_of_keys_that_others_may_write_to() -> None:
    folder = KeyFile("/home/ada/.ssh", True, 0o777, folder=True)

    assert laptop(keys=(folder,))["key-permissions"].fix == LocalFix("/home/ada/.ssh", 0o700)


def test_modes_mean_nothing_on_windows() -> None:
    assert "key-permissions" not in laptop(keys=(KeyFile("C:\\id_rsa", True, None),))


def test_agents_and_keys() -> None:
    assert "agent-unreachable" in laptop(agent="unreachable")
    assert "no-keys" in laptop(agent="none") and "no-keys" in laptop(agent="empty")
    assert laptop(agent="keys", agent_keys=2) == {}
    missing = laptop(agent="keys", keys=(KeyFile("/x/key", False),))
    assert missing["key-missing"].grade is Grade.BAD


def test_ports_watches_and_disk_of_the_laptop() -> None:
    findings = laptop(
        agent="keys", ports_taken=(8888,), watches=100, folders=60, disk_free=10, disk_path="/x"
    )

    assert set(findings) == {"port-taken", "inotify", "disk"}
    assert findings["port-taken"].grade is Grade.NOTE


# ---- the last line


def test_the_first_thing_to_do_is_the_worst_and_nearest() -> None:
    findings = [
        Finding("a", Place.DISK, Grade.WARN, "disk", mend="prune"),
        Finding("b", Place.GPU, Grade.BAD, "gpu", mend="reboot"),
        Finding("c", Place.LINK, Grade.BAD, "link", mend="ssh h1 true"),
        Finding("d", Place.LAPTOP, Grade.GOOD, "laptop"),
    ]

    assert [f.name for f in in_order(findings)] == ["c", "b", "a", "d"]
    assert last_line(findings, "h1") == "first: ssh h1 true    (link)"
    assert last_line(findings[3:], "h1") == "ready"
    assert last_line([Finding("e", Place.HOST, Grade.BAD, "arm")], "h1") == "not ready: arm"


@pytest.mark.parametrize(("tool", "start"), [
    ("service", "sudo service docker start"), ("rc-service", "sudo rc-service docker start"),
    ("nothing", "sudo dockerd &"),
])  # fmt: skip
def test_a_stopped_engine_without_systemd_is_not_looked_for_in_its_journal(
    tool: str, start: str
) -> None:
    facts = facts_of("stopped-docker")
    tools = {**facts.tools, tool: f"/usr/sbin/{tool}"}
    facts = replace(facts, tools=tools, init=replace(facts.init, systemd=False, pid1="init"))

    mends = [one.mend for one in findings_of_host(facts, Wish(gpus=False), "h1", facts.now)]

    assert any(start in mend for mend in mends)
    assert not any("journalctl" in mend for mend in mends)


def test_gpus_by_cdi_without_nvidia_ctk_are_ready_and_nothing_else_is_said() -> None:
    facts = facts_of("cdi-without-nvidia-ctk")
    everything = findings_of_host(facts, Wish(), "h1", facts.now)

    assert last_line(everything, "h1") == "ready"
    assert not any("cannot be used" in one.what for one in everything)


def test_a_gpu_that_containers_cannot_use_is_not_ready() -> None:
    facts = facts_of("driver-without-docker-offline")
    everything = findings_of_host(facts, Wish(), "h1", facts.now)

    assert last_line(everything, "h1") != "ready"


def test_a_disk_with_room_is_not_the_first_thing_to_do() -> None:
    facts = facts_of("small-disk")
    everything = findings_of_host(facts, Wish(gpus=False), "h1", facts.now)

    assert "image prune" not in last_line(everything, "h1")
