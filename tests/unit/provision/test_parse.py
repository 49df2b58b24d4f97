"""The probe's answers, read: recorded ones, odd ones, and what is not there."""

from __future__ import annotations

import pytest

from remotedl.provision.facts import HostFacts
from remotedl.provision.frame import ProbeUnreadable, Section, read_frame
from remotedl.provision.parse import (
    parse_candidates,
    parse_distro,
    parse_facts,
    parse_locks,
    parse_net,
    parse_space,
    parse_sudo,
)
from remotedl.provision.parse_engine import parse_engine
from remotedl.provision.parse_gpus import parse_claims, parse_driver, parse_toolkit
from tests.unit.provision.rendering import CASES, SPECIFICATION, show_file

MIB = 1024 * 1024


def recorded(name: str) -> HostFacts:
    return parse_facts(read_frame((CASES / f"{name}.facts").read_bytes()))


def section(text: str, code: int = 0) -> Section:
    return Section(code, text)


def test_a_real_h100_is_read() -> None:
    facts = recorded("h100-in-a-container")

    (gpu,) = facts.gpus
    assert (gpu.index, gpu.name) == (0, "NVIDIA H100 80GB HBM3")
    assert gpu.memory_total == 81559 * MIB and gpu.memory_used == 1643 * MIB
    assert (gpu.utilisation, gpu.mig, gpu.temperature) == (0, False, 37)
    (process,) = gpu.processes
    assert (process.pid, process.name, process.user) == (399, "python3", "root")
    assert process.memory == 1634 * MIB and process.started == 1795293763
    driver = facts.driver
    assert (driver.loaded, driver.library, driver.cuda) == ("580.159.04", "580.159.04", "13.0")
    assert driver.open and driver.smi_works and driver.smi == "/usr/local/nvidia/bin/nvidia-smi"
    assert [(p.address, p.device, p.driver) for p in facts.nvidia_gpus] == [
        ("0000:00:06.0", 0x2330, "nvidia")
    ]
    assert facts.nvidia_gpus[0].open_modules
    assert facts.init.container == "docker" and not facts.init.systemd
    assert facts.cgroup == 2


@pytest.mark.parametrize(("name", "version", "buildx"), [
    ("debian-12-engine", "20.10.24+dfsg1", ""),
    ("debian-13-engine", "26.1.5+dfsg1", "0.13.1"),
])  # fmt: skip
def test_a_real_engine_is_read(name: str, version: str, buildx: str) -> None:
    facts = recorded(name)

    engine = facts.engine
    assert (engine.kind, engine.access, engine.version) == ("docker", "sudo", version)
    assert engine.buildx.lstrip("v").startswith(buildx) and bool(engine.buildx) == bool(buildx)
    assert engine.units["docker.service"] == ("enabled", "active")
    (other,) = engine.containers
    assert (other.name, other.state, other.owner, other.running) == ("other", "running", "", True)
    assert facts.sudo == "free" and facts.person.name == "ada"


def test_a_bare_host_is_read() -> None:
    facts = recorded("debian-12-bare")

    assert facts.distro.id == "debian" and facts.distro.major == 12
    assert facts.distro.codename == "bookworm"
    assert not facts.engine.works and facts.lists_count == 0
    assert "curl" not in facts.tools and facts.machine.package_arch == "amd64"
    assert facts.space["/var"].free > 1_000_000_000


def test_an_answer_without_its_end_is_refused() -> None:
    whole = (CASES / "debian-12-bare.facts").read_bytes()

    with pytest.raises(ProbeUnreadable):
        read_frame(whole.replace(b"@@end\n", b""))
    with pytest.raises(ProbeUnreadable):
        read_frame(b"bash: sh: command not found\n")


def test_noise_around_the_answer_is_no_part_of_it() -> None:
    whole = (CASES / "debian-12-bare.facts").read_bytes()

    assert read_frame(b"Welcome!\n@os 0\n|ID=evil\n" + whole + b"bye\n") == read_frame(whole)


def test_no_sections_mean_nothing_is_known() -> None:
    assert parse_facts({}) == HostFacts()


def test_os_release_with_quotes_comments_and_nonsense() -> None:
    text = (
        '# a comment\nID=\'rocky\'\nVERSION_ID="9.7"\nID_LIKE="rhel centos"\nNAME="A\\"B\nnonsense'
    )

    distro = parse_distro(section(text))

    assert (distro.id, distro.version, distro.like) == ("rocky", "9.7", ("rhel", "centos"))


@pytest.mark.parametrize(("said", "mode"), [
    ("root", "root"),
    ("free", "free"),
    ("sudo: a password is required", "password"),
    ("sudo: sorry, you must have a tty to run sudo", "password"),
    ("missing", "missing"),
    ("", "missing"),
    ("cyd is not in the sudoers file.", "missing"),
    ("Sorry, user cyd is not allowed to execute '/bin/true' as root on host.", "missing"),
])  # fmt: skip
def test_what_sudo_says(said: str, mode: str) -> None:
    assert parse_sudo(section(said))[0] == mode


def test_disks_with_blanks_in_names_and_btrfs_without_inodes() -> None:
    text = (
        "space /var/lib/docker //nas/my share 1000 400 600 40% /mnt/my share\n"
        "space / /dev/sda2 2000 1000 1000 50% /\ninodes / /dev/sda2 0 0 0 - /"
    )

    spaces = parse_space(section(text))

    assert spaces["/"].inodes_free is None and spaces["/"].free == 1000 * 1024
    assert len(spaces) >= 1


def test_locks_name_their_holder() -> None:
    text = "/var/lib/dpkg/lock-frontend 812 unattended-upgr\n/var/lib/apt/lists/lock 0 "

    locks = parse_locks(section(text))

    assert [(lock.pid, lock.holder) for lock in locks] == [(812, "unattended-upgr"), (0, "")]


def test_candidates_that_are_none() -> None:
    text = "docker.io:\n  Candidate: 26.1.5\ndocker-ce:\n  Candidate: (none)"

    assert parse_candidates(section(text)) == {"docker.io": "26.1.5", "docker-ce": ""}


@pytest.mark.parametrize(("line", "ok", "known", "why"), [
    ("https://x curl 0 200", True, True, "HTTP 200"),
    ("https://x curl 0 404", False, True, "HTTP 404"),
    ("https://x curl 6 000", False, True, "its name is not known"),
    ("https://x curl 60 000", False, True, "its certificate is not trusted"),
    ("https://x wget 0 000", True, True, "no answer"),
    ("https://x missing 0 000", False, False, "neither curl nor wget is there to ask"),
])  # fmt: skip
def test_what_became_of_a_url(line: str, ok: bool, known: bool, why: str) -> None:
    reach = parse_net(section(line))["https://x"]

    assert (reach.ok, reach.known, reach.why) == (ok, known, why)


# ---- engines


def engine(text: str) -> tuple[str, str, str]:
    found = parse_engine({"docker": section(text)})
    return found.kind, found.access, found.problem


@pytest.mark.parametrize(("text", "expected"), [
    ('way direct\nat \nWARNING: no swap\n{"ServerVersion": "29.1.0", "DockerRootDir": "/x"}',
     ("docker", "direct", "")),
    ('way direct\nat \n{"ServerVersion": "27.5.1", "SecurityOptions": ["name=rootless"]}',
     ("rootless", "direct", "")),
    ('way sudo\nat \n{"ServerVersion": "28.4.0", "DockerRootDir": "/var/snap/docker/x"}',
     ("snap", "sudo", "")),
    ('way direct\nat \n{"host": {}, "version": {"Version": "5.4.2"}}', ("podman", "direct", "")),
    ('way none\nat \n{"ServerErrors": ["permission denied"], "ClientInfo": {}}',
     ("absent", "none", "permission denied")),
    ("way none\nat \nCannot connect to the Docker daemon", ("absent", "none",
     "Cannot connect to the Docker daemon")),
    ('way direct\nat \n{"ServerVersion": ', ("absent", "none", "")),
    ("", ("absent", "none", "")),
])  # fmt: skip
def test_the_kinds_of_engines(text: str, expected: tuple[str, str, str]) -> None:
    assert engine(text) == expected


def test_settings_that_cannot_be_read_are_not_empty_ones() -> None:
    unread = show_file("file", "/etc/docker/daemon.json", None, 17)
    text = "\n".join([unread, show_file("file", "/x/daemon.json", b"{\n}\n", 18), "dropin /d"])

    found = parse_engine({"docker_files": section(text)})

    assert [(f.path, f.text, f.changed) for f in found.settings] == [
        ("/etc/docker/daemon.json", None, 17),
        ("/x/daemon.json", "{\n}\n", 18),
    ]
    assert found.dropins == ("/d",)


# ---- GPUs


@pytest.mark.parametrize("said", [
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.1",
    "No devices were found",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    "<nvidia_smi_log><gpu></nvidia_smi_log>",
])  # fmt: skip
def test_an_nvidia_smi_that_fails_is_quoted(said: str) -> None:
    smi = section(f"at /usr/bin/nvidia-smi\n{said}", 9)

    driver, gpus = parse_driver(section("module 580.1\nondisk 580.2"), smi, section(""))

    assert not driver.smi_works and gpus == ()
    assert (driver.loaded, driver.on_disk, driver.smi) == ("580.1", "580.2", "/usr/bin/nvidia-smi")
    assert driver.smi_said == (said if "<" not in said else "")


def test_two_gpus_with_values_that_are_not_available() -> None:
    log = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log><driver_version>470.1</driver_version><cuda_version>11.4</cuda_version>
<gpu id="00000000:3B:00.0"><product_name>Tesla K80</product_name><uuid>GPU-a</uuid>
<fb_memory_usage><total>11441 MiB</total><used>3 MiB</used></fb_memory_usage>
<utilization><gpu_util>N/A</gpu_util></utilization><processes></processes></gpu>
<gpu id="00000000:3C:00.0"><product_name>A100</product_name><uuid>GPU-b</uuid>
<mig_mode><current_mig>Enabled</current_mig></mig_mode>
<processes><process_info><pid>7</pid><process_name>python</process_name>
<used_memory>N/A</used_memory></process_info></processes></gpu></nvidia_smi_log>"""

    container = "c" * 64
    people = section(f"7 ada 17 {container} python")
    _, gpus = parse_driver(section(""), section(f"at /x\n{log}"), people)

    assert [(gpu.index, gpu.uuid, gpu.utilisation, gpu.mig) for gpu in gpus] == [
        (0, "GPU-a", None, False),
        (1, "GPU-b", None, True),
    ]
    (process,) = gpus[1].processes
    assert (process.user, process.container, process.memory) == ("ada", container, 0)


def test_claims_name_their_owner_and_bad_ones_are_none() -> None:
    text = (
        'ada {"user": "root", "gpus": ["0", "1"], "until": 1800000000, "project": "p"}\n'
        "bob {broken\ncyd {}"
    )

    (claim,) = parse_claims(section(text))

    assert (claim.user, claim.gpus, claim.until) == ("ada", ("0", "1"), 1800000000)


@pytest.mark.parametrize("name", ["a\x01b", "a\x1b[31mb", "a & b", "a\ufffeb"])
def test_a_program_with_an_odd_name_hides_no_gpu(name: str) -> None:
    gpu = f"<gpu><product_name>H100</product_name><x>{name}</x></gpu>"
    log = f"<nvidia_smi_log>{gpu}</nvidia_smi_log>"

    driver, gpus = parse_driver(section(""), section(f"at /usr/bin/nvidia-smi\n{log}"), section(""))

    assert driver.smi_works and [gpu.name for gpu in gpus] == ["H100"]


def test_the_toolkit_and_its_specifications() -> None:
    spec = show_file("spec", "/var/run/cdi/nvidia.yaml", SPECIFICATION.encode())
    text = f"NVIDIA Container Toolkit CLI version 1.20.1\n{spec}"

    found = parse_toolkit(section(text), {"nvidia-cdi-hook": "/usr/bin/nvidia-cdi-hook"})

    assert (found.version, found.cdi_hook, found.hook) == ("1.20.1", True, False)
    assert found.specs == ("/var/run/cdi/nvidia.yaml",)
    assert found.devices == ("nvidia.com/gpu=0", "nvidia.com/gpu=all")
