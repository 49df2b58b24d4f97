"""A live session whose host, engine or container ends under it, and comes back."""

from __future__ import annotations

import io
import json
import tarfile
import time
from typing import Any

import pytest

from remotedl.session.status import Phase
from tests.lab.engine import docker
from tests.lab.fixtures import MakeHost
from tests.lab.host import Host
from tests.lab.laptop import Laptop
from tests.lab.sessions import Page, eventually
from tests.lab_tests.session.trip import free_port

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

DOCKERFILE = """\
FROM debian:bookworm-slim
LABEL remotedl.catalogue="test"
COPY supervisord /opt/remotedl/bin/
RUN chmod +x /opt/remotedl/bin/supervisord
"""
SERVICES = """\
#!/usr/bin/perl
# Answers as Jupyter would, with what it takes for its token. Every Debian has Perl.
use IO::Socket::UNIX;
unlink "/run/remotedl/s/8888";
my $door = IO::Socket::UNIX->new(Local => "/run/remotedl/s/8888", Listen => 16) or die;
$SIG{PIPE} = "IGNORE";  # who asks may hang up
while (1) {
    my $client = $door->accept or next;
    while (<$client>) { last if /^\\r?\\n$/ }
    open(my $file, "<", "/run/remotedl/token");
    my $token = <$file>;
    print $client "HTTP/1.0 200 OK\\r\\nContent-Length: " . length($token) . "\\r\\n\\r\\n$token";
    close $client;
}
"""
OFF_S = 3.0


def test_a_host_stopped_and_started_under_a_live_container(
    make_host: MakeHost, laptop: Laptop
) -> None:
    host = make_host(engine=True)
    before = live(host, laptop)
    assert token_by(before) in before["tunnels"][0]["url"]
    began = time.monotonic()

    host.stop()
    eventually(lambda: status(laptop)["phase"] == Phase.RECONNECTING)
    noticed = time.monotonic() - began
    (laptop.folder / "here.txt").write_text("written here")
    put_into_what_is_off(host, f"{before['workdir']}/there.txt", b"written there")
    page = Page(f"http://127.0.0.1:{before['tunnels'][0]['port']}", "").get("/api")
    assert (page.status_code, "reconnecting to h1" in page.text) == (503, True)
    time.sleep(max(OFF_S - noticed, 0))
    host.start()
    started = time.monotonic()
    eventually(lambda: status(laptop)["phase"] == Phase.LIVE, 90)
    print(f"noticed {noticed:.1f} s after the stop began, back {time.monotonic() - started:.1f} s")

    after = status(laptop)
    kept = ("pid", "container", "workdir")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert after["tunnels"][0]["url"] == before["tunnels"][0]["url"]
    assert token_by(after) == token_by(before)
    assert len(host.sh("docker ps -aq").split()) == 1, "it is the same container"
    eventually((laptop.folder / "there.txt").exists)
    eventually(lambda: host.read(f"{before['workdir']}/here.txt") == "written here")
    assert host.sh(f"stat -c %U {before['workdir']}/there.txt") == "ada\n"
    assert any(text.startswith("back after") for _, text in after["events"])
    laptop.run("down")


def test_a_container_that_ends_under_a_live_session_is_told_and_brought_back(
    make_host: MakeHost, laptop: Laptop
) -> None:
    host = make_host(engine=True)
    before = live(host, laptop)
    name, token = before["container"], token_by(before)

    # Its restart, and the engine's: the same socket, so that no session has to learn anything.
    for restart in (f"docker restart -t 1 {name}", "systemctl restart docker"):
        host.sh(restart)
        assert token_by(before) == token
    assert host.sh(f"docker port {name}") == "", "nothing is published"

    host.sh(f"docker kill {name}")
    eventually(lambda: status(laptop)["phase"] == Phase.DOWN)
    down = status(laptop)
    assert "killed from outside (signal KILL); exit status 137" in down["detail"]
    assert down["warnings"][0][1] == "remotedl up h1"
    assert "container down" in laptop.run("status").stdout
    job = laptop.run("run", "--no-after-sync", "--", "true", check=False)
    assert (job.code, "next: remotedl up h1" in job.stderr) == (50, True), job.stderr

    again = laptop.run("up", "h1", "-d", "--no-open", timeout_s=120)
    assert "starting it again" in again.stderr
    after = status(laptop)
    assert (after["phase"], after["pid"]) == (Phase.LIVE, before["pid"])
    assert token_by(after) == token

    host.sh(f"docker rm -f {name}")
    eventually(lambda: "removed" in status(laptop)["detail"])
    host.exec(["pkill", "-u", "ada", "sshd"], check=False)  # and the link, on top of it
    eventually(lambda: any("back after" in text for _, text in status(laptop)["events"]))
    assert status(laptop)["phase"] == Phase.DOWN
    laptop.run("up", "h1", "-d", "--no-open", timeout_s=120)
    assert status(laptop)["phase"] == Phase.LIVE
    assert token_by(before) == token
    laptop.run("down")


def live(host: Host, laptop: Laptop) -> dict[str, Any]:
    """A session in the background with a container that is there in seconds."""
    (laptop.folder / "Dockerfile").write_text(DOCKERFILE)
    (laptop.folder / "supervisord").write_text(SERVICES)
    laptop.know("h1", host.login, gpus="none")
    services = {"jupyter": {"port": free_port()}, "tensorboard": {"enabled": False}}
    laptop.settings(project={"image": {"dockerfile": "Dockerfile"}, **services})
    laptop.run("up", "h1", "-d", "--no-open", timeout_s=200)
    return status(laptop)


def status(laptop: Laptop) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(laptop.run("status", "--json").stdout)[0]
    return found


def token_by(session: dict[str, Any]) -> str:
    """What answers at the laptop's port, and which token it has."""
    port = session["tunnels"][0]["port"]
    answer = eventually(lambda: Page(f"http://127.0.0.1:{port}", "").get("/api"))
    return str(answer.text).strip()  # type: ignore[attr-defined]


def put_into_what_is_off(host: Host, path: str, data: bytes) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode, entry.uid, entry.gid = len(data), 0o644, 1000, 1000
        entry.mtime = int(time.time())
        archive.addfile(entry, io.BytesIO(data))
    docker("cp", "-a", "-", f"{host.container}:/", stdin=packed.getvalue())
