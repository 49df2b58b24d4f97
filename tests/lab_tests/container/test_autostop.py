"""The container stops when nobody uses it, and only then."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.sync.client import connect

from remotedl.config.models import ProjectConfig
from remotedl.container.autostop import Autostop
from remotedl.container.docker import DockerRuntime
from remotedl.container.payload.health import Connection
from remotedl.container.runtime import State, Wanted
from remotedl.container.spec import Image
from remotedl.engine import Engine
from tests.lab_tests.container.conftest import BARE, HOST, Place, fresh_project, until
from tests.support.local_remote import LocalRemote

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


class Warnings:
    """A Report that keeps what it was warned of."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def stage(self, name: str, detail: str = "") -> None: ...

    def progress(self, what: str, done: float, total: float | None, unit: str = "B") -> None: ...

    def note(self, text: str) -> None: ...

    def warn(self, text: str, hint: str = "") -> None:
        self.texts.append(text)

    def output(self, line: str) -> None: ...


@pytest.fixture
def roots_place(engine: Engine, base_image: Image, tmp_path: Path) -> Iterator[Place]:
    """A container of root, who may stop it."""
    remote = LocalRemote(tmp_path)
    runtime = DockerRuntime(remote, engine, fresh_project("idle"))
    wanted = Wanted(HOST, ProjectConfig(**BARE), base_image)
    yield Place(remote, runtime, wanted, runtime.ensure(wanted), "/workspace")
    runtime.remove()


def test_an_idle_container_is_stopped_and_up_starts_it_again(roots_place: Place) -> None:
    place = roots_place
    place.runtime.ensure(place.asking_for(autostop="1s"))
    until(lambda: place.runtime.status().state is State.STOPPED, "it is stopped")
    watch = Autostop(place.remote, place.running.folders.run)
    until(lambda: watch.status().ended is not None, "it says so")
    assert place.runtime.ensure(place.wanted).id == place.running.id
    assert not watch.status().watching


def test_it_is_never_stopped_during_a_job(roots_place: Place) -> None:
    place = roots_place
    place.runtime.ensure(place.asking_for(autostop="5s"))
    watch = Autostop(place.remote, place.running.folders.run)
    job = place.jobs.start(["sleep", "600"], cwd=place.folder)
    until(lambda: f"job {job}" in watch.status().busy, "the job is seen")
    seen = watch.status()
    assert seen.idle_s == 0
    assert seen.left_s == 5
    # Well over the limit, by the watch's own clock: it has looked again many times.
    stamp = place.run / "idle.json"
    looks = {stamp.stat().st_mtime_ns}
    until(lambda: looks.add(stamp.stat().st_mtime_ns) or len(looks) > 12, "it looked 12 times")
    assert place.runtime.status().state is not State.STOPPED
    place.jobs.stop(job)
    until(lambda: place.runtime.status().state is State.STOPPED, "it is stopped then")


def test_it_can_be_postponed_and_cancelled(roots_place: Place) -> None:
    place = roots_place
    place.runtime.ensure(place.asking_for(autostop="30s"))
    watch = Autostop(place.remote, place.running.folders.run)
    watch.postpone(600)
    place.runtime.resume(place.wanted.host)
    until(lambda: watch.status().busy == ("postponed",), "it waits")
    watch.cancel()
    assert not watch.status().watching
    assert place.runtime.status().state is not State.STOPPED


def test_a_user_who_may_not_stop_it_is_told(own_place: Place) -> None:
    report = Warnings()
    own_place.runtime.ensure(own_place.asking_for(autostop="2h"), report=report)
    assert any("autostop cannot stop the container" in text for text in report.texts)


def test_connections_and_computing_kernels_count_as_use(native_place: Place) -> None:
    place = native_place
    watching = replace(place.wanted, config=ProjectConfig(autostop="5s"))
    place.running = place.runtime.ensure(watching)
    watch = Autostop(place.remote, place.running.folders.run)
    with unix_socket(place):
        until(lambda: "somebody is connected" in watch.status().busy, "the connection is seen")
    kernel = _post(place, "/api/kernels")["id"]
    _execute(place, kernel, "import time\nwhile True: time.sleep(0.1)")
    until(lambda: watch.status().busy == ("1 kernels compute",), "only the kernel is left")
    _post(place, f"/api/kernels/{kernel}/interrupt")
    until(lambda: place.runtime.status().state is State.STOPPED, "it is stopped then", 60)
    place.running = place.runtime.ensure(place.wanted)
    assert not watch.status().watching


def test_a_shell_counts_as_use_for_as_long_as_it_is_open(roots_place: Place) -> None:
    place = roots_place
    place.runtime.ensure(place.asking_for(autostop="6s"))
    watch = Autostop(place.remote, place.running.folders.run)
    shell = place.runtime.shell(None)
    shell.sendall(b"sleep 600\n")
    until(lambda: "a command or a shell runs in it" in watch.status().busy, "the shell is seen")
    stamp = place.run / "idle.json"
    looks = {stamp.stat().st_mtime_ns}
    until(lambda: looks.add(stamp.stat().st_mtime_ns) or len(looks) > 12, "it looked 12 times")
    assert place.runtime.status().state is not State.STOPPED
    shell.close()


def test_a_connection_into_a_container_counts_as_use(roots_place: Place) -> None:
    place = roots_place
    place.runtime.ensure(place.asking_for(autostop="6s", ports=("7860",)))
    watch = Autostop(place.remote, place.running.folders.run)
    serve = "setsid python3 -m http.server --bind 127.0.0.1 7860 >/dev/null 2>&1 &"
    place.runtime.run(["sh", "-c", serve])
    until(lambda: place.get("/", 7860)[0] == 200, "the program answers at its socket")
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(f"{place.running.sockets}/7860")
        until(lambda: "somebody is connected" in watch.status().busy, "the connection is seen")
    until(lambda: "somebody is connected" not in watch.status().busy, "and its end")


def test_computing_counts_as_use(roots_place: Place) -> None:
    place = roots_place
    place.runtime.ensure(place.asking_for(autostop="6s"))
    watch = Autostop(place.remote, place.running.folders.run)
    detached = "setsid sh -c 'while :; do :; done' >/dev/null 2>&1 &"
    place.runtime.run(["sh", "-c", detached])
    until(lambda: "it computes" in watch.status().busy, "that it computes is seen")


def _post(place: Place, path: str) -> dict[str, str]:
    connection = Connection(f"{place.running.sockets}/8888", 30)
    headers = {"Authorization": f"token {place.running.token}"}
    connection.request("POST", path, body=b"{}", headers=headers)
    answer = connection.getresponse().read()
    connection.close()
    return dict(json.loads(answer or b"{}"))


def unix_socket(place: Place) -> socket.socket:
    """Connected to Jupyter."""
    end = socket.socket(socket.AF_UNIX)
    end.connect(f"{place.running.sockets}/8888")
    return end


def _execute(place: Place, kernel: str, code: str) -> None:
    """Start it, see that the kernel has begun, and go away."""
    address = f"ws://127.0.0.1/api/kernels/{kernel}/channels"
    headers = {"Authorization": f"token {place.running.token}"}
    with connect(
        address, sock=unix_socket(place), additional_headers=headers, open_timeout=30
    ) as socket_:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3"}
        header |= {"username": "", "session": uuid.uuid4().hex, "date": "2026-01-01T00:00:00Z"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        socket_.send(json.dumps({**message, "channel": "shell", "buffers": []}))
        while True:
            told = json.loads(socket_.recv(timeout=30))
            if told["header"]["msg_type"] == "execute_input":
                return
