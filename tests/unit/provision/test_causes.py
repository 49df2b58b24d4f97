"""What a step is recorded to have done, while others work on the same host."""

from __future__ import annotations

import pytest

from remotedl.provision.apply import closed
from remotedl.provision.causes import Causes, causes_of, short, within
from remotedl.provision.journal import Entry, entry_text, parse_entry
from remotedl.provision.managers import Manager, foresee, foreseen
from remotedl.provision.snapshot import Changes, Snapshot
from remotedl.provision.steps import Run, Stage, Step

START = Run(("systemctl", "enable", "--now", "docker.service"))


def step(name: str, *actions: Run) -> Step:
    return Step(name, Stage.ENGINE, name, "", actions)


@pytest.mark.parametrize("arch", [":amd64", ".x86_64", ""])
def test_what_an_admin_does_meanwhile_is_not_the_steps(arch: str) -> None:
    before = Snapshot(
        packages={f"bash{arch}": "5", f"old{arch}": "1"},
        groups={"wheel": ("root",)},
        users=frozenset({"root", "gpu"}),
        units=frozenset({"sshd.service"}),
        paths={"/var/lib/docker": False},
    )
    after = Snapshot(
        packages={f"bash{arch}": "6", f"docker-ce{arch}": "29", f"htop{arch}": "3"},
        automatic=frozenset({"htop"}),
        groups={"wheel": ("root", "alice"), "docker": (), "alice": ()},
        users=frozenset({"root", "gpu", "alice"}),
        units=frozenset({"sshd.service", "docker.service", "postgresql.service"}),
        paths={"/var/lib/docker": True},
    )
    may = causes_of(step("install-docker", START), ("docker-ce", "containerd.io"))
    entry = Entry(1, "install-docker", "", "gpu", 0, named=("docker-ce",), before=before, may=may)

    done = closed(entry, after)

    assert done.changes == Changes(
        packages_added={f"docker-ce{arch}": "29"},
        groups_added=("docker",),
        units_enabled=("docker.service",),
        paths_made=("/var/lib/docker",),
    )
    assert parse_entry(entry_text(done)) == done


def test_a_user_is_joined_only_to_what_the_step_names() -> None:
    may = causes_of(step("join-docker-group", Run(("usermod", "-aG", "docker", "ada"))), ())
    pairs = (("docker", "ada"), ("docker", "bob"), ("wheel", "ada"))

    assert within(Changes(members_added=pairs), may) == Changes(members_added=pairs[:1])


def test_an_interrupted_installation_is_that_of_others() -> None:
    finish = step("finish-packages", Run(("dpkg", "--configure", "-a")))

    assert causes_of(finish, ("vim",)) == Causes()


def test_an_entry_of_an_earlier_version_may_have_caused_nothing_more() -> None:
    text = entry_text(Entry(1, "start-docker", "", "gpu", 0)).replace('"may"', '"was"')

    assert parse_entry(text).may == Causes()


@pytest.mark.parametrize(("tool", "look", "said", "names"), [
    ("apt-get", "apt-get --simulate", "Inst runc [1]\nInst docker.io (26 x)\nConf runc\nRemv x [1]",
     ["runc", "docker.io", "x"]),
    ("dnf", "dnf --assumeno install docker-ce", """\
Dependencies resolved.
================================================================================
 Package                    Architecture  Version              Repository  Size
================================================================================
Installing:
 docker-ce                  x86_64        3:29.8.1-1.el9       docker-ce    27 M
Installing dependencies:
 container-selinux          noarch        4:2.240.0-1.el9      appstream    58 k
 a-package-with-a-very-long-name
                            x86_64        1.0-1                base         58 k

Transaction Summary
================================================================================
Install  3 Packages
Operation aborted.
""", ["docker-ce", "container-selinux", "a-package-with-a-very-long-name"]),
    ("zypper", "zypper --non-interactive install --dry-run", """\
Resolving package dependencies...

The following 2 NEW packages are going to be installed:
  containerd docker

The following package is going to be REMOVED:
  podman

2 new packages to install, 1 to remove.
""", ["containerd", "docker", "podman"]),
    ("pacman", "pacman -S --needed docker-ce --print --print-format %n", ":: x y\nrunc\ndocker\n",
     ["runc", "docker"]),
])  # fmt: skip
def test_what_will_be_installed_is_asked_of_the_package_manager(
    tool: str, look: str, said: str, names: list[str]
) -> None:
    asked = foresee(Manager(tool).install(("docker-ce",)))

    assert asked is not None and " ".join(asked.argv).startswith(look)
    assert list(foreseen(tool, said)) == names


def test_nothing_is_asked_of_what_installs_nothing() -> None:
    assert foresee(START) is None
    assert foresee(Run(("apt-get", "-q", "update"))) is None


@pytest.mark.parametrize(("name", "bare"), [
    ("docker.io:amd64", "docker.io"), ("docker.io", "docker.io"), ("containerd.io.x86_64",
     "containerd.io"), ("python3.11", "python3.11"), ("libstdc++6:i386", "libstdc++6"),
])  # fmt: skip
def test_names_without_their_architecture(name: str, bare: str) -> None:
    assert short(name) == bare
