"""Each host of the lab is what tests/lab/README.md promises."""

from __future__ import annotations

import subprocess
from urllib.parse import urlsplit

import pytest

from tests.lab.badlink import MakeBadLink, login_over
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab.users import CAST, User

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def over_ssh(host: Host, user: str, command: str) -> str:
    argv = host.login_as(user).ssh_argv(command)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_host_runs_systemd_and_an_engine(engine_host: Host) -> None:
    assert engine_host.sh("systemctl is-system-running") == "running\n"
    version = engine_host.sh("docker version --format '{{.Server.Version}}'")
    assert version.startswith({"bookworm": "20.10.", "trixie": "26.1."}[engine_host.release])
    assert engine_host.sh("docker run --rm debian:bookworm-slim echo nested") == "nested\n"


def test_names_resolve_on_the_host_and_in_its_containers(engine_host: Host) -> None:
    url = engine_host.sh("awk '/^deb / {print $2; exit}' /etc/apt/sources.list").strip()
    mirror = urlsplit(url).hostname
    assert engine_host.sh(f"getent hosts {mirror}")
    assert engine_host.sh(f"docker run --rm debian:bookworm-slim getent hosts {mirror}")


def test_a_bare_host_has_nothing_of_ours(make_host: MakeHost) -> None:
    host = make_host()
    absent = host.sh(
        "command -v docker curl gpg || true; python3 -c 'import ensurepip' 2>&1 || true"
    )
    assert "No module named" in absent and "/" not in absent.splitlines()[0]
    assert over_ssh(host, "ada", "sudo -n id -u") == "0\n"


@pytest.mark.parametrize("user", CAST, ids=lambda user: user.name)
def test_the_cast_can_log_in(bookworm_host: Host, user: User) -> None:
    assert f"/home/{user.name}\n" in over_ssh(bookworm_host, user.name, "pwd")
    sudo = bookworm_host.exec(["sudo", "-n", "id", "-u"], user=user.name, check=False)
    assert (sudo.stdout == "0\n") == (user.sudo == "free")


def test_sudo_takes_the_password(bookworm_host: Host) -> None:
    done = bookworm_host.exec(["sudo", "-S", "-p", "", "id", "-u"], user="bob", stdin=b"bobbob\n")
    assert done.stdout == "0\n"


def test_awkward_homes_are_awkward(bookworm_host: Host) -> None:
    bookworm_host.write("/home/nox/script", "#!/bin/sh\n", mode=0o755, owner="nox")
    assert bookworm_host.exec(["/home/nox/script"], user="nox", check=False).returncode == 126
    full = bookworm_host.exec(
        ["dd", "if=/dev/zero", "of=/home/tim/big", "bs=1M", "count=64"], user="tim", check=False
    )
    bookworm_host.exec(["rm", "/home/tim/big"])
    assert "No space left" in full.stderr


def test_power_and_address(make_host: MakeHost) -> None:
    host = make_host(release="trixie")
    host.write("/home/ada/kept", "kept", owner="ada")
    boot = host.read("/proc/sys/kernel/random/boot_id"), host.sh("stat -c %Y /proc/1")
    host.restart()
    assert host.sh("stat -c %Y /proc/1") != boot[1]
    before = host.address
    host.change_address()
    assert host.address != before
    assert over_ssh(host, "ada", "cat kept") == "kept"


def test_a_host_is_known_through_a_bad_link(bookworm_host: Host, bad_link: MakeBadLink) -> None:
    link = bad_link(bookworm_host)
    argv = login_over(link, bookworm_host).ssh_argv("id -un")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("ada\n", "")


def test_hosts_reach_each_other_by_name(make_host: MakeHost, bookworm_host: Host) -> None:
    inner = make_host(name="inner")
    assert inner.sh("getent hosts bookworm").split()[0] == bookworm_host.address
    assert bookworm_host.sh("getent hosts inner").split()[0] == inner.address
