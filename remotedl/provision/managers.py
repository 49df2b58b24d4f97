"""Package managers: which one a distribution has, and its exact commands. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from remotedl.provision.facts import Distro, HostFacts
from remotedl.provision.steps import Run


class Family(StrEnum):
    """Distributions that are provisioned alike."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"
    EL = "el"
    """RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle Linux."""
    FEDORA = "fedora"
    AMAZON = "amazon"
    SUSE = "suse"
    ARCH = "arch"
    UNKNOWN = "unknown"


EL_IDS = ("rhel", "rocky", "almalinux", "centos", "ol")
SUSE_IDS = ("sles", "sled", "opensuse-leap", "opensuse-tumbleweed")


def family_of(distro: Distro) -> Family:
    """By ID, else by ID_LIKE: a derivative of Ubuntu says both ubuntu and debian."""
    for id_ in (distro.id, *distro.like):
        if id_ == "ubuntu":
            return Family.UBUNTU
        if id_ == "debian":
            return Family.UBUNTU if "ubuntu" in distro.like else Family.DEBIAN
        if id_ == "amzn":
            return Family.AMAZON
        if id_ in EL_IDS:
            return Family.EL
        if id_ == "fedora":
            return Family.FEDORA
        if id_ in SUSE_IDS or id_ in ("suse", "opensuse"):
            return Family.SUSE
        if id_ == "arch":
            return Family.ARCH
    return Family.UNKNOWN


EL_MAJORS = (8, 9, 10)
OLDEST: Mapping[Family, int] = {Family.DEBIAN: 11, Family.UBUNTU: 20, Family.SUSE: 15}


def is_set_up(distro: Distro) -> bool:
    """Whether remotedl knows the packages of this very distribution.

    A likeness is not enough where repositories are named by versions: Alibaba Cloud Linux 3 and
    TencentOS 3 say that they are like RHEL and are no release 3 of it.
    """
    family, major = family_of(distro), distro.major
    if family is Family.EL:
        return distro.id in EL_IDS and major in EL_MAJORS
    if family is Family.FEDORA:
        return distro.id == "fedora"
    if family is Family.AMAZON:
        return major in (2, 2023)
    if family is Family.SUSE:
        own = distro.id.startswith(("sle", "opensuse"))
        return own and (major == 0 or major >= OLDEST[family])
    if family in OLDEST and distro.id in ("debian", "ubuntu"):
        return major == 0 or major >= OLDEST[family]
    return family is not Family.UNKNOWN


DEBIAN_RELEASES: Mapping[str, int] = {"bullseye": 11, "bookworm": 12, "trixie": 13}
UBUNTU_RELEASES = ("focal", "jammy", "noble", "questing", "resolute")


def release_of(distro: Distro) -> str:
    """The codename of the Debian or Ubuntu that others' repositories know this system by.

    "" for a derivative that names no such release (Kali has "kali-rolling", which is its own).
    """
    own = distro.id in ("debian", "ubuntu") or distro.borrowed
    known = distro.codename in (*DEBIAN_RELEASES, *UBUNTU_RELEASES)
    return distro.codename if own or known else ""


def debian_major(distro: Distro) -> int:
    """12 of Debian 12 and of what is made of it (LMDE 6); 0 where nobody knows."""
    if distro.id == "debian":
        return distro.major
    return DEBIAN_RELEASES.get(release_of(distro), 0)


APT_ENV: Mapping[str, str] = {
    "DEBIAN_FRONTEND": "noninteractive",
    # needrestart would restart other people's services in the middle of our work
    "NEEDRESTART_SUSPEND": "1",
}
APT_OPTIONS = ("-q", "-y", "-o", "DPkg::Lock::Timeout=600")
KEEP_CONFIGS = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")


@dataclass(frozen=True, slots=True)
class Manager:
    """One package manager; every method gives commands and runs none."""

    tool: str
    """apt-get, dnf, yum, zypper or pacman."""

    def install(self, packages: Sequence[str]) -> Run:
        if self.tool == "apt-get":
            options = (*APT_OPTIONS, *KEEP_CONFIGS, "--no-install-recommends")
            return Run(("apt-get", *options, "install", *packages), env=APT_ENV)
        if self.tool == "zypper":
            return Run(("zypper", "--non-interactive", "install", "--no-recommends", *packages))
        if self.tool == "pacman":
            return Run(("pacman", "-S", "--noconfirm", "--needed", *packages))
        return Run((self.tool, "-y", "install", *packages))

    def remove(self, packages: Sequence[str]) -> Run:
        """Packages and their settings."""
        if self.tool == "apt-get":
            return Run(("apt-get", *APT_OPTIONS, "purge", *packages), env=APT_ENV)
        if self.tool == "zypper":
            return Run(("zypper", "--non-interactive", "remove", *packages))
        if self.tool == "pacman":
            return Run(("pacman", "-Rn", "--noconfirm", *packages))
        return Run((self.tool, "-y", "remove", *packages))

    def refresh(self, only: str = "") -> Run:
        """Fetch the package lists; `only` those of one repository file, where apt can."""
        if self.tool == "apt-get":
            settings = [f"Dir::Etc::sourcelist={only}", "Dir::Etc::sourceparts=-"]
            settings = [*settings, "APT::Get::List-Cleanup=0"] if only else []
            narrow = [word for setting in settings for word in ("-o", setting)]
            # one broken repository of somebody else's must not stop the rest
            return Run(("apt-get", *APT_OPTIONS, *narrow, "update"), env=APT_ENV, may_fail=not only)
        if self.tool == "zypper":
            return Run(("zypper", "--non-interactive", "refresh"))
        if self.tool == "pacman":
            # never -Sy alone: new lists with old packages are a partial upgrade, which Arch
            # does not support (a library and its users of different days)
            return Run(("pacman", "-Syu", "--noconfirm"))
        return Run((self.tool, "-y", "makecache"), may_fail=True)


def foresee(run: Run) -> Run | None:
    """What tells which packages `run` would add, remove and change, and does none of it."""
    tool, *words = run.argv
    if not {"install", "remove", "purge", "-S", "-Rn"} & set(words):
        return None
    if tool == "apt-get":
        return Run((tool, "--simulate", *words), root=False, env=run.env)
    if tool in ("dnf", "yum"):
        return Run((tool, "--assumeno", *(word for word in words if word != "-y")))
    if tool == "zypper":
        at = next(at for at, word in enumerate(words) if word in ("install", "remove"))
        return Run((tool, *words[: at + 1], "--dry-run", *words[at + 1 :]))
    if tool == "pacman":
        quiet = [word for word in words if word != "--noconfirm"]
        return Run((tool, *quiet, "--print", "--print-format", "%n"))
    return None


APT_LINE = re.compile(r"^(?:Inst|Remv|Purg) (\S+)", re.MULTILINE)
DNF_LINE = re.compile(r"^ (\S+)\s+(?:x86_64|aarch64|noarch|i686)\s+\S", re.MULTILINE)
ZYPPER_LIST = re.compile(
    r"^The following .*packages? (?:is|are) going to be .*:\n((?: .*\n?)+)", re.M
)


def foreseen(tool: str, text: str) -> tuple[str, ...]:
    """The packages in what the command of `foresee` said."""
    if tool == "apt-get":
        return tuple(APT_LINE.findall(text))
    if tool in ("dnf", "yum"):
        return tuple(DNF_LINE.findall(text))
    if tool == "zypper":
        return tuple(word for found in ZYPPER_LIST.findall(text) for word in found.split())
    return tuple(
        line.strip() for line in text.splitlines() if re.fullmatch(r"[\w@.+-]+", line.strip())
    )


def manager_of(facts: HostFacts) -> Manager | None:
    """None where there is no package manager that remotedl knows."""
    for tool in ("apt-get", "dnf", "dnf5", "yum", "zypper", "pacman"):
        if tool in facts.tools:
            return Manager("dnf" if tool == "dnf5" else tool)
    return None
