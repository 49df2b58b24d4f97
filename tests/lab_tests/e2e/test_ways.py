"""`up` over awkward ways and for awkward users; all on the host that is provisioned already."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from tests.lab.badlink import MakeBadLink, login_over
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab.laptop import Laptop
from tests.lab.sessions import Live, Page, eventually, live_session

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


@pytest.fixture
def traveller(live_bookworm: Live, laptop: Laptop) -> Laptop:
    """A laptop with a small project; `live_bookworm.host` is where it goes."""
    (laptop.folder / "hello.py").write_text("print('hello')\n")
    return laptop


def works(live: Live) -> None:
    """Jupyter answers, a job runs, a file comes back."""
    page: Page = live.jupyter
    assert page.get("/api/status").status_code == 200
    script = "echo hello from $(id -un || id -u) > back.txt; python hello.py"
    done = live.laptop.run("run", "h1", "--", "sh", "-c", script)
    assert done.stdout == "hello\n"
    back = live.laptop.folder / "back.txt"
    eventually(lambda: back.exists() and "hello from" in back.read_text())


@pytest.mark.parametrize("user", ["eve", "fay", "tia", "nox"])
def test_awkward_users(traveller: Laptop, live_bookworm: Live, user: str) -> None:
    """A chatty banner and .bashrc; fish; tcsh; a home on a noexec mount."""
    traveller.know("h1", live_bookworm.host.login_as(user))
    with live_session(live_bookworm.host, traveller) as live:
        works(live)
    traveller.run("down", "h1")


def test_two_users_on_one_host_at_once(traveller: Laptop, live_bookworm: Live) -> None:
    """The second one's sshd rules forbid forwarding, too: the tunnels go through a command."""
    traveller.know("h1", live_bookworm.host.login_as("wes"))
    with live_session(live_bookworm.host, traveller) as live:
        works(live)
        theirs = live_bookworm.jupyter
        assert theirs.get("/api/status").status_code == 200
        assert theirs.token != live.jupyter.token
        assert live.jupyter.get("/api/status", token=theirs.token).status_code == 403
        running = live_bookworm.host.sh("docker ps --format '{{.Names}}'").split()
        assert {live.container, live_bookworm.container} <= set(running)
        folder = f"{live_bookworm.workdir}/hello.py"
        assert live_bookworm.host.exec(["ls", folder], user="wes", check=False).returncode != 0
    traveller.run("down", "h1")
    assert live_bookworm.jupyter.get("/api/status").status_code == 200


def test_a_user_whose_sudo_asks_for_a_password(traveller: Laptop, live_bookworm: Live) -> None:
    traveller.know("h1", live_bookworm.host.login_as("bob"))
    up = traveller.start("up", "h1", "--no-open", "--yes", terminal=True)
    up.wait_for("(?i)password")
    up.type("bobbob\n")
    up.wait_for("token=", 120)
    assert "bobbob" not in up.text
    up.interrupt()
    assert up.wait(30) in (0, 130)


def test_through_a_slow_link(traveller: Laptop, live_bookworm: Live, bad_link: MakeBadLink) -> None:
    link = bad_link(live_bookworm.host, delay_s=0.02, bandwidth=12.5e6)  # 40 ms, 100 Mbit/s
    traveller.know("h1", login_over(link, live_bookworm.host))
    with live_session(live_bookworm.host, traveller) as live:
        works(live)
        mine = f"docker ps -aq --filter name={live.container}"
    traveller.run("down", "h1", "--rm", "--yes")
    assert live_bookworm.host.sh(mine) == ""
    assert "back.txt" in live_bookworm.host.sh(f"ls {live.workdir}")


def test_through_a_jump_host(traveller: Laptop, live_bookworm: Live, make_host: MakeHost) -> None:
    jump, host = make_host(name="jump", standin=False), live_bookworm.host
    host.login.write_home(traveller.home, "inner")
    jump.login.write_home(traveller.home, "gate")
    config = traveller.home / ".ssh/config"
    # Only the gate knows the inner host by this name.
    text = config.read_text().replace(f"HostName {host.address}", f"HostName {host.name}")
    config.write_text(text.replace("Host inner\n", "Host inner\n  ProxyJump gate\n"))
    (traveller.folder / "hosts.toml").write_text('[hosts.h1]\naddress = "inner"\n')
    with live_session(host, traveller) as live:
        works(live)
    traveller.run("down", "h1")


def test_a_link_that_is_cut_comes_back_by_itself(
    traveller: Laptop, live_bookworm: Live, bad_link: MakeBadLink
) -> None:
    link = bad_link(live_bookworm.host)
    traveller.know("h1", login_over(link, live_bookworm.host))
    with live_session(live_bookworm.host, traveller) as live:
        before = live.jupyter
        link.cut()
        eventually(lambda: live.status()["phase"] == "reconnecting")
        (traveller.folder / "meanwhile.txt").write_text("written while away\n")
        link.resume()
        eventually(lambda: live.status()["phase"] == "live", 60)
        assert live.jupyter == before
        assert before.get("/api/status").status_code == 200
        path = f"{live.workdir}/meanwhile.txt"
        eventually(
            lambda: live_bookworm.host.exec(["test", "-e", path], check=False).returncode == 0
        )
    traveller.run("down", "h1")


def clear_away_an_orphan(host: Host, laptop: Laptop) -> None:
    """A stopped container whose folder was deleted on the laptop."""
    name, image = "remotedl-gone-feedfe", "debian:bookworm-slim"
    known = {"project": "feedfeedfeedfeed", "owner": "tim", "folder": "/gone/away"}
    labels = [f"remotedl.{key}={value}" for key, value in known.items()]
    labels.append(f"remotedl.laptop={platform.node()}")
    words = " ".join(f"--label {label}" for label in labels)
    host.sh(f"docker create --name {name} {words} {image} true")
    assert name not in laptop.run("ps", "h1").text
    assert f"its folder is gone  next: remotedl ps --rm {name}" in laptop.run("ps", "h1", "-a").text
    assert laptop.run("ps", "h1", "--rm", name, check=False).code == 2, "nobody said yes"
    laptop.run("ps", "h1", "--rm", name, "--yes")
    assert host.sh(f"docker ps -aq --filter name={name}") == ""


def test_down_purge_takes_away_what_remotedl_put_there(
    traveller: Laptop, live_bookworm: Live, tmp_path: Path
) -> None:
    host = live_bookworm.host
    traveller.know("h1", host.login_as("tim"))
    with live_session(host, traveller) as live:
        assert "remotedl" in host.sh("ls -A /home/tim")
        (row,) = json.loads(traveller.run("ps", "h1", "--json").stdout)
        assert (row["name"], row["folder"]) == (live.container, str(traveller.folder))
        assert not row["folder_is_gone"] and row["running"]
        clear_away_an_orphan(host, traveller)
    traveller.run("down", "h1", "--purge", "--yes")
    assert host.sh("ls -A /home/tim | grep remotedl || true") == ""
    assert host.sh("docker ps -aq --filter label=remotedl.owner=tim") == ""
    assert host.sh("docker network ls -q --filter label=remotedl.owner=tim") == ""
    used = host.sh(f"docker inspect -f '{{{{.Config.Image}}}}' {live_bookworm.container}").strip()
    assert host.sh(f"docker images -q {used}")  # another project's image stays
