"""A host that is switched off and on again under a live session with a container."""

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
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends python3 >/dev/null
COPY supervisord /opt/remotedl/bin/
RUN chmod +x /opt/remotedl/bin/supervisord && ln -s /usr/bin/python3 /opt/remotedl/bin/python3
"""
SERVICES = """\
#!/usr/bin/python3
'''Answers as Jupyter would, with what it takes for its token; a second less to wait for.'''
import http.server

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = open("/run/remotedl/token", "rb").read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

http.server.ThreadingHTTPServer(("0.0.0.0", 8888), Answer).serve_forever()
"""
OFF_S = 10.0
"""Longer than a session takes to notice."""


def test_a_host_stopped_and_started_under_a_live_container(
    make_host: MakeHost, laptop: Laptop
) -> None:
    host = make_host(engine=True)
    (laptop.folder / "Dockerfile").write_text(DOCKERFILE)
    (laptop.folder / "supervisord").write_text(SERVICES)
    laptop.know("h1", host.login, gpus="none")
    services = {"jupyter": {"port": free_port()}, "tensorboard": {"enabled": False}}
    laptop.settings(project={"image": {"dockerfile": "Dockerfile"}, **services})
    laptop.run("up", "h1", "-d", "--no-open", timeout_s=200)
    before = status(laptop)
    assert token_by(before) in before["tunnels"][0]["url"]
    job = laptop.run("run", "-d", "--", "sleep", "900").stdout.strip()
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
    rows = json.loads(laptop.run("jobs", "--json").stdout)
    assert next(row["state"] for row in rows if row["id"] == job) in ("exited", "lost")
    told = [text for _, text in after["events"] if text.startswith("back after")]
    assert f"job {job}" in told[-1]
    assert laptop.run("run", "--", "cat", "here.txt").stdout == "written here"
    laptop.run("down")


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
