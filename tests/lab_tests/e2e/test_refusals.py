"""What goes wrong says what, where and what to type next, with its own exit status."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab.laptop import Laptop
from tests.lab.services import Registry
from tests.lab.sessions import Live, eventually, live_session
from tests.lab.sshd import MakeSshd, Sshd

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


def refused(laptop: Laptop, code: int, *words: str, argv: tuple[str, ...] = ("up", "h1")) -> str:
    """Run it; it must end with `code`, say each of `words`, and give a next command."""
    done = laptop.run(*argv, "--no-open", check=False, timeout_s=120)
    assert done.code == code, done.text
    assert "Traceback" not in done.text and "internal error" not in done.text
    assert [word for word in words if word not in done.text] == [], done.text
    assert "next: " in done.stderr, done.text
    return done.text


def untouched(host: Host, user: str = "ada") -> bool:
    """Nothing of remotedl lies in the user's home."""
    return host.sh(f"ls -A /home/{user} | grep -i remotedl || true") == ""


def test_an_unknown_key_is_refused_with_its_fingerprint(laptop: Laptop, sshd: Sshd) -> None:
    laptop.know("h1", sshd.login)
    (laptop.home / ".ssh/known_hosts").unlink()
    refused(laptop, 22, sshd.fingerprint, "--accept-new")
    assert not (laptop.home / ".ssh/known_hosts").exists()


def test_a_changed_key_stops_with_the_remedy(laptop: Laptop, make_sshd: MakeSshd) -> None:
    server = make_sshd()
    laptop.know("h1", server.login)
    server.new_host_key()
    refused(laptop, 21, "ssh-keygen", " -R ", server.login.known_name)
    # A key that changed is never accepted by --accept-new either.
    refused(laptop, 21, "ssh-keygen", " -R ", argv=("up", "h1", "--accept-new"))


def test_a_wrong_user_is_told_so(laptop: Laptop, sshd: Sshd) -> None:
    laptop.know("h1", sshd.login, user="nobody-here")
    refused(laptop, 23, "nobody-here")


def test_no_such_host(laptop: Laptop, sshd: Sshd) -> None:
    laptop.know("h1", sshd.login, address="no-such-host.invalid")
    refused(laptop, 24, "no-such-host.invalid")


def test_a_closed_port(laptop: Laptop, sshd: Sshd) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        laptop.know("h1", sshd.login, port=port)
        refused(laptop, 24, str(port))


def test_broken_toml(laptop: Laptop) -> None:
    (laptop.folder / "hosts.toml").write_text('[hosts.h1]\naddress = "x\n')
    refused(laptop, 10, "hosts.toml", "line 2")


def test_an_unknown_key_in_the_file(laptop: Laptop) -> None:
    (laptop.folder / "hosts.toml").write_text('[hosts.h1]\naddress = "x"\nusr = "ada"\n')
    refused(laptop, 10, "hosts.toml", "usr", "user")


def test_a_host_that_is_not_in_the_file(laptop: Laptop, sshd: Sshd) -> None:
    laptop.know("h1", sshd.login)
    refused(laptop, 11, "h2", argv=("up", "h2"))


def test_no_sudo_and_no_docker_leaves_the_host_alone(laptop: Laptop, bookworm_host: Host) -> None:
    laptop.know("h1", bookworm_host.login_as("cyd"))
    text = refused_with_any(laptop, {26, 31})
    assert "native" in text
    assert untouched(bookworm_host, "cyd")


def test_an_unknown_image(laptop: Laptop, live_bookworm: Live, registry: Registry) -> None:
    host = live_bookworm.host
    registry.open_on(host)
    laptop.know("h1", host.login)
    before = host.sh("docker ps -aq")
    image = registry.name("no-such-image:1")
    refused(laptop, 41, "no-such-image:1", argv=("up", "h1", "--image", image))
    assert host.sh("docker ps -aq") == before


def test_a_folder_that_is_not_writable(laptop: Laptop, live_bookworm: Live) -> None:
    host = live_bookworm.host
    host.sh("install -d -m 755 -o root /srv/locked")
    laptop.know("h1", host.login_as("ada"), workdir="/srv/locked/work")
    before = host.sh("docker ps -aq")
    refused(laptop, 50, "/srv/locked/work", "workdir")
    assert host.sh("docker ps -aq") == before


@pytest.fixture
def tiny_home(live_bookworm: Live) -> Iterator[Host]:
    """The host on which tim's home is a disk of 24 MB; emptied afterwards."""
    host = live_bookworm.host
    yield host
    host.sh("docker ps -aq --filter label=remotedl.owner=tim | xargs -r docker rm -f")
    host.sh("rm -rf /home/tim/.remotedl /home/tim/remotedl /home/tim/filler")


def test_a_full_home_on_the_host(laptop: Laptop, tiny_home: Host) -> None:
    laptop.know("h1", tiny_home.login_as("tim"))
    argv = ["dd", "if=/dev/zero", "of=/home/tim/filler", "bs=64k"]
    assert "No space" in tiny_home.exec(argv, user="tim", check=False).stderr
    (laptop.folder / "kept.txt").write_text("kept\n")
    text = refused_with_any(laptop, {50, 63})
    assert "pace" in text and "/home/tim" in text
    assert (laptop.folder / "kept.txt").read_text() == "kept\n"


def test_a_file_that_does_not_fit_on_the_host_is_named(laptop: Laptop, tiny_home: Host) -> None:
    laptop.know("h1", tiny_home.login_as("tim"))
    (laptop.folder / "big.bin").write_bytes(bytes(40_000_000))
    (laptop.folder / "small.py").write_text("print('small')\n")
    with live_session(tiny_home, laptop) as live:
        eventually(lambda: "big.bin" in str(live.status()["sync"]))
        assert tiny_home.read(f"{live.workdir}/small.py") == "print('small')\n"
    assert (laptop.folder / "big.bin").stat().st_size == 40_000_000


def test_a_full_disk_under_docker(laptop: Laptop, make_host: MakeHost) -> None:
    host = make_host(engine=True, engine_disk="64m", name="tiny")
    laptop.know("h1", host.login)
    text = refused_with_any(laptop, {31, 40, 41, 42})
    assert "/var/lib/docker" in text
    assert host.sh("docker ps -aq") == ""


def refused_with_any(laptop: Laptop, codes: set[int]) -> str:
    done = laptop.run("up", "h1", "--no-open", check=False, timeout_s=180)
    assert done.code in codes, done.text
    assert "Traceback" not in done.text and "internal error" not in done.text
    assert "next: " in done.stderr, done.text
    return done.text


def test_a_project_folder_that_is_gone(laptop: Laptop, sshd: Sshd, tmp_path: Path) -> None:
    done = laptop.run("--config", str(tmp_path / "none.toml"), "up", "h1", check=False)
    assert done.code == 11 and "none.toml" in done.text, done.text
