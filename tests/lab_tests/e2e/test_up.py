"""`remotedl up h1` from a bare host: what a user then has. One session a release, shared."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.lab.sessions import SOON_S, STAGES, UP_LIMIT_S, Live, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(UP_LIMIT_S + 60)]

LAB_LISTENERS = {"127.0.0.11", "10.213.255.1"}
"""Docker's name server and the lab's wheels: on every lab host, not ours."""


def test_up_killed_at_each_stage_and_run_again_reaches_the_same_end(live_trixie: Live) -> None:
    assert live_trixie.killed_at == STAGES
    assert live_trixie.status()["phase"] == "live"
    running = live_trixie.host.sh("docker ps --format '{{.Names}}'").split()
    assert running == [live_trixie.container]
    left = live_trixie.host.sh("find /home/ada -name '*.partial' -o -name '*.remotedl-tmp*'")
    assert left == ""


def test_jupyter_answers_through_the_tunnel_with_the_token_only(live: Live) -> None:
    assert live.jupyter.get("/api/status").status_code == 200
    assert live.jupyter.get("/api/status", token="wrong").status_code == 403
    assert live.jupyter.get("/api/status", token="").status_code == 403


def test_a_kernel_runs_a_cell_over_the_websocket(live: Live) -> None:
    kernel = live.jupyter.send("POST", "/api/kernels", {}).json()["id"]
    url = f"{live.jupyter.base.replace('http', 'ws')}/api/kernels/{kernel}/channels"
    with connect(f"{url}?token={live.jupyter.token}", open_timeout=SOON_S) as socket:
        socket.send(json.dumps(execute_request("print(6 * 7)")))
        said = ""
        while "42" not in said:
            message = json.loads(socket.recv(SOON_S))
            if message["msg_type"] == "stream":
                said += message["content"]["text"]
    assert live.jupyter.send("DELETE", f"/api/kernels/{kernel}", None).status_code == 204


def test_tensorboard_returns_what_a_job_wrote(live: Live) -> None:
    done = live.laptop.run("run", "h1", "--", "python", "train.py", timeout_s=120)
    assert done.code == 0

    def scalars() -> Any:
        return live.tensorboard.get("/data/plugin/scalars/tags", token="").json()

    tags = eventually(scalars, 60)
    assert isinstance(tags, dict)
    run, names = next(iter(tags.items()))
    tag = next(iter(names))
    path = f"/data/plugin/scalars/scalars?run={run}&tag={tag}"
    points = live.tensorboard.get(path, token="").json()
    assert len(points) > 1 and all(len(point) == 3 for point in points)


def test_run_passes_on_the_exit_code_and_both_outputs(live: Live) -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    done = live.laptop.run("run", "h1", "--", "python", "-c", script, check=False)
    assert (done.code, done.stdout) == (7, "out\n")
    assert "err\n" in done.stderr


def test_an_edit_on_the_laptop_is_seen_in_the_container(live: Live) -> None:
    (live.laptop.folder / "edited.py").write_text("print('first')\n")
    eventually(lambda: "first" in cat(live, "edited.py"))
    (live.laptop.folder / "edited.py").write_text("print('second')\n")
    eventually(lambda: "second" in cat(live, "edited.py"))


def test_a_notebook_saved_through_jupyter_is_seen_on_the_laptop(live: Live) -> None:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# seen"}]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    body = {"type": "notebook", "format": "json", "content": content}
    assert live.jupyter.send("PUT", "/api/contents/saved.ipynb", body).status_code == 201
    path = live.laptop.folder / "saved.ipynb"
    eventually(lambda: path.exists() and "# seen" in path.read_text())


def test_deletes_go_both_ways(live: Live) -> None:
    for name in ("laptop-deletes", "host-deletes"):
        (live.laptop.folder / name).write_text(name)
        eventually(lambda name=name: cat(live, name) == name)  # type: ignore[misc]
    (live.laptop.folder / "laptop-deletes").unlink()
    live.host.exec(["rm", f"{live.workdir}/host-deletes"])
    eventually(lambda: "laptop-deletes" not in live.in_container("ls"))
    eventually(lambda: not (live.laptop.folder / "host-deletes").exists())


def test_a_file_edited_on_both_sides_is_a_conflict_and_both_versions_exist(live: Live) -> None:
    here = live.laptop.folder / "both.txt"
    here.write_text("base\n")
    eventually(lambda: cat(live, "both.txt") == "base\n")
    live.up.freeze()  # neither side hears of the other
    try:
        here.write_text("laptop's\n")
        live.host.write(f"{live.workdir}/both.txt", "host's\n", owner="ada")
    finally:
        live.up.thaw()
    eventually(lambda: "both.txt" in str(live.status()["sync"]["conflicts"]), 60)
    assert here.read_text() == "laptop's\n"
    assert cat(live, "both.txt") == "host's\n"
    # No job starts on files that are not the saved ones, so that it is settled for those to come.
    live.laptop.run("sync", "resolve", "--host", "h1", "both.txt", "--laptop")
    assert cat(live, "both.txt") == "laptop's\n"


def test_nothing_listens_on_the_host_and_on_the_laptop_only_on_loopback(live: Live) -> None:
    on_host = {
        address
        for line in live.host.sh("ss -Hltn").splitlines()
        if (address := line.split()[3].rsplit(":", 1)[0]) not in LAB_LISTENERS
        and not line.split()[3].endswith(":22")
    }
    assert on_host <= {"127.0.0.1"}, "containerd has a port of its own there"
    assert live.host.sh(f"docker port {live.container}") == ""
    assert "docker-proxy" not in live.host.sh("ps axeww")
    listing = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    ours = [line for line in listing.splitlines() if f"pid={live.up.pid}," in line]
    assert ours and all(line.split()[3].startswith("127.0.0.1:") for line in ours)


def test_no_process_list_shows_the_token(live: Live) -> None:
    token = live.jupyter.token
    assert len(token) >= 32
    everywhere = {
        "laptop": subprocess.run(["ps", "axeww"], capture_output=True, text=True).stdout,
        "host": live.host.sh("ps axeww"),
        "labels": live.host.sh(f"docker inspect {live.container}"),
    }
    assert [where for where, text in everywhere.items() if token in text] == []


def test_files_made_by_the_container_belong_to_the_ssh_user(live: Live) -> None:
    live.laptop.run("run", "h1", "--", "sh", "-c", "mkdir -p made && echo x > made/file")
    owners = live.host.sh(f"stat -c %U:%G {live.workdir}/made {live.workdir}/made/file")
    assert owners.split() == ["ada:ada", "ada:ada"]


def test_a_second_up_plans_nothing_builds_nothing_and_keeps_the_container(live: Live) -> None:
    before = live.host.sh(f"docker inspect -f '{{{{.Id}}}}' {live.container}")
    token = live.jupyter.token
    live.up.interrupt()
    assert live.up.wait(30) in (0, 130)
    assert before == live.host.sh("docker ps -q --no-trunc")  # Ctrl-C leaves it running
    dry = live.laptop.run("up", "h1", "--dry-run")
    assert re.search(r"nothing|ready", dry.text)
    live.up = live.laptop.start("up", "h1", "--no-open")
    live.up.wait_for("token=", 60)
    assert "built" not in live.up.text.replace("building", "built") or "0 built" in live.up.text
    assert live.host.sh("docker ps -q --no-trunc") == before
    assert live.jupyter.token == token


def cat(live: Live, name: str) -> str:
    done = live.host.exec(["cat", f"{live.workdir}/{name}"], check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def execute_request(code: str) -> dict[str, Any]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "session": uuid.uuid4().hex,
        "username": "",
        "version": "5.4",
        "date": "2026-01-01T00:00:00Z",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }
