"""The same questions to both runtimes: a container, and a native venv in its stead."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from remotedl.container.jobs import JobState, Position
from remotedl.container.payload.health import Connection
from remotedl.container.runtime import Change, State
from remotedl.errors import JobNotFound, LinkLost
from remotedl.ssh.remote import Pty
from tests.lab_tests.container.conftest import Place, all_processes, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


# ---------------------------------------------------------------- services


def test_jupyter_answers_to_its_token_only(place: Place) -> None:
    token = place.running.token
    assert place.get("/api/status", token=token)[0] == 200
    assert place.get("/api/status", token="0" * 64)[0] == 403
    assert place.get("/api/status")[0] == 403


def test_jupyter_refuses_a_foreign_name_with_its_token_too(place: Place) -> None:
    """A page whose name was bound to 127.0.0.1 (DNS rebinding)."""
    for host, status in (("localhost:8888", 200), ("evil.example:8888", 403)):
        connection = Connection(f"{place.running.sockets}/8888", 10)
        headers = {"Authorization": f"token {place.running.token}", "Host": host}
        connection.request("GET", "/api/status", headers=headers)
        assert connection.getresponse().status == status
        connection.close()


def test_tensorboard_answers(place: Place) -> None:
    until(lambda: place.get("/data/environment", port=6006)[0] == 200, "TensorBoard answers")


def test_a_second_ensure_keeps_everything(place: Place) -> None:
    again = place.runtime.ensure(place.wanted)
    assert again.change is Change.KEEP
    assert (again.id, again.token) == (place.running.id, place.running.token)
    assert again.sockets == place.running.sockets
    assert place.runtime.plan(place.wanted).change is Change.KEEP


@pytest.mark.parametrize("service", ["jupyter", "tensorboard"])
def test_a_killed_service_comes_back(place: Place, service: str) -> None:
    port = {"jupyter": 8888, "tensorboard": 6006}[service]
    path = {"jupyter": "/api", "tensorboard": "/data/environment"}[service]
    until(lambda: place.get(path, port)[0] == 200, f"{service} answers")
    os.kill(_pid_of(place, service), signal.SIGKILL)
    until(lambda: place.get(path, port)[0] != 200, f"{service} is gone")
    until(lambda: place.get(path, port)[0] == 200, f"{service} is back")


@pytest.mark.parametrize("service", ["jupyter", "tensorboard"])
def test_no_service_listens_on_a_port(place: Place, service: str) -> None:
    """Looked at where it would: in the network of the process itself."""
    path = {"jupyter": "/api", "tensorboard": "/data/environment"}[service]
    port = {"jupyter": 8888, "tensorboard": 6006}[service]
    until(lambda: place.get(path, port)[0] == 200, f"{service} answers")
    pid = _pid_of(place, service)
    inodes = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    for table in ("tcp", "tcp6"):
        rows = [row.split() for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()]
        assert not [row for row in rows[1:] if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


def test_the_sockets_are_the_users_alone(place: Place) -> None:
    folder = Path(place.running.sockets)
    assert folder.stat().st_mode & 0o077 == 0
    assert folder.stat().st_uid == place.running.user.uid
    assert (folder / "8888").stat().st_mode & 0o077 == 0


def test_a_port_of_a_program_comes_out_at_its_socket_at_once(place: Place) -> None:
    """No container, and no kernel, is started anew for a port."""
    before = place.get("/api/status", token=place.running.token)[1]
    port = free_port()
    serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    job = place.jobs.start(serve, cwd=place.folder)
    try:
        config = place.wanted.config.model_copy(update={"ports": (str(port),)})
        again = place.runtime.ensure(replace(place.wanted, config=config))
        assert again.change is Change.KEEP
        until(lambda: place.get("/", port)[0] == 200, "the program is reached")
        place.runtime.ensure(place.wanted)
        until(lambda: place.get("/", port)[0] == 0, "the door is closed")
    finally:
        place.jobs.stop(job)
    after = place.get("/api/status", token=place.running.token)[1]
    assert json.loads(after)["started"] == json.loads(before)["started"]


def test_no_secret_is_in_any_argv(place: Place) -> None:
    seen = all_processes()
    assert place.running.token not in seen
    assert "hush-hush" not in seen


def test_what_remotedl_keeps_is_the_users_alone(place: Place) -> None:
    for path in (place.run, place.run / "token", place.run / "env.json"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_logs_are_kept_on_the_host(place: Place) -> None:
    assert "is running at" in place.runtime.service_log("jupyter", 200)
    assert place.running.token not in (place.run / "logs" / "jupyter.log").read_text()


# ---------------------------------------------------------------- commands


def test_a_command_runs_in_the_projects_folder_with_its_environment(place: Place) -> None:
    process = place.runtime.start(["sh", "-c", "pwd; echo $API_KEY; echo oh >&2; exit 7"])
    out = b"".join(iter(lambda: process.recv(4096), b""))
    assert out == f"{place.folder}\nhush-hush\n".encode()
    assert process.recv_stderr(4096) == b"oh\n"
    assert process.wait(10) == 7
    process.close()


def test_a_command_reads_its_stdin(place: Place) -> None:
    process = place.runtime.start(["cat"])
    process.sendall(b"both ways")
    process.shutdown_write()
    assert b"".join(iter(lambda: process.recv(4), b"")) == b"both ways"
    assert process.wait(10) == 0
    process.close()


def test_a_shell_has_a_terminal_that_can_be_resized(place: Place) -> None:
    shell = place.runtime.shell(Pty("xterm-256color", 100, 30))
    shell.sendall(b"stty size; echo $TERM\n")
    seen = _read_until(shell.recv, b"xterm-256color\r\n")
    assert b"30 100" in seen
    shell.resize(81, 24)
    shell.sendall(b"stty size; exit 3\n")
    assert b"24 81" in _read_until(shell.recv, b"")
    assert shell.wait(10) == 3
    shell.close()


def test_python_is_the_one_with_the_everyday_stack(place: Place) -> None:
    code = "import numpy, sklearn, tensorboardX; print('fine')"
    result = place.runtime.run(["python", "-c", code])
    assert result.text == "fine\n", result.error_text


def test_cells_run_on_the_server_so_that_no_output_is_lost_with_the_browser(place: Place) -> None:
    """What that set-up does is tested in images/test_jupyter.py; here, that both have it."""
    listed = place.runtime.run(["jupyter", "server", "extension", "list"])
    lines = (listed.text + listed.error_text).splitlines()
    for extension in ("jupyter_server_documents", "remotedl_jupyter"):
        assert any(extension in line and "enabled" in line for line in lines), lines
        assert any(extension in line and "OK" in line for line in lines), lines


# ---------------------------------------------------------------- jobs


def test_a_job_keeps_its_streams_apart_and_passes_its_exit_code(place: Place) -> None:
    job = place.jobs.start(["sh", "-c", "echo out; echo err >&2; exit 7"], cwd=place.folder)
    assert place.output(job) == (b"out\n", b"err\n", 7)
    assert place.jobs.get(job).state is JobState.EXITED


def test_a_jobs_files_have_the_usual_modes(place: Place) -> None:
    """What we note about a job is private; what the job writes is as from any terminal."""
    job = place.jobs.start(["sh", "-c", "umask; touch made"], cwd=place.folder)
    out, _, code = place.output(job)
    assert (int(out, 8), code) == (0o022, 0)


def test_a_job_sees_the_projects_environment(place: Place) -> None:
    command = ["sh", "-c", "echo $API_KEY $MINE $REMOTEDL_JOB"]
    job = place.jobs.start(command, cwd=place.folder, env={"MINE": "7"})
    assert place.output(job)[0] == f"hush-hush 7 {job}\n".encode()


def test_a_jobs_output_comes_while_it_runs(place: Place) -> None:
    gate = place.workdir / "gate"
    script = "echo first; while [ ! -e gate ]; do sleep 0.05; done; echo second"
    job = place.jobs.start(["sh", "-c", script], cwd=place.folder)
    seen: list[bytes] = []

    def saw(data: bytes) -> None:
        seen.append(data)
        if b"first" in data:
            gate.touch()

    place.jobs.follow(job, saw, seen.append)
    assert b"".join(seen) == b"first\nsecond\n"
    gate.unlink()


def test_following_goes_on_where_a_lost_link_broke_off(place: Place) -> None:
    script = "for i in 1 2 3; do echo $i; done; while [ ! -e gate2 ]; do sleep 0.05; done; echo 4"
    job = place.jobs.start(["sh", "-c", script], cwd=place.folder)
    position, seen = Position(), bytearray()

    class Broken(Exception):
        pass

    def first_link(data: bytes) -> None:
        seen.extend(data)
        if seen.endswith(b"3\n"):
            position.offset += len(data)  # it was taken before the link broke
            raise Broken

    with pytest.raises(Broken):
        place.jobs.follow(job, first_link, seen.extend, position=position)
    (place.workdir / "gate2").touch()
    place.jobs.follow(job, seen.extend, seen.extend, position=position)
    assert bytes(seen) == b"1\n2\n3\n4\n"


def test_the_last_lines_and_what_there_is_now(place: Place) -> None:
    job = place.jobs.start(["sh", "-c", "seq 100; exec sleep 60"], cwd=place.folder)
    out = bytearray()
    until(lambda: place.jobs.get(job).state is JobState.RUNNING, "it runs")
    until(lambda: (place.run / f"jobs/{job}/output.log").stat().st_size > 290, "all is written")
    stands = place.jobs.follow(job, out.extend, out.extend, tail=3, wait=False)
    assert bytes(out) == b"98\n99\n100\n"
    assert stands.state is JobState.RUNNING
    place.jobs.stop(job)


def test_stopping_a_job_ends_all_of_its_processes(place: Place) -> None:
    mark = f"{60_000 + os.getpid()}"
    job = place.jobs.start(["sh", "-c", f"sleep {mark} & sleep {mark} & wait"], cwd=place.folder)
    until(lambda: all_processes().count(f"sleep {mark}") >= 2, "both sleep")
    ended = place.jobs.stop(job)
    assert (ended.state, ended.code, ended.stopped) == (JobState.EXITED, 143, True)
    assert f"sleep {mark}" not in all_processes()


ESCAPES = {
    "in another session": "setsid sleep {mark} >/dev/null 2>&1 &",
    "without its mark": "env -i setsid sleep {mark} >/dev/null 2>&1 &",
    "as a daemon": "(setsid sh -c 'sleep {mark} & exit' >/dev/null 2>&1 &)",
}


@pytest.mark.parametrize("way", ESCAPES)
def test_what_a_job_put_in_the_background_ends_with_it(place: Place, way: str) -> None:
    mark = f"{70_000 + os.getpid()}"
    script = ESCAPES[way].format(mark=mark) + "\nsleep 600"
    job = place.jobs.start(["sh", "-c", script], cwd=place.folder)
    until(lambda: f"sleep {mark}" in all_processes(), "it sleeps")
    assert place.jobs.stop(job).code == 143
    assert f"sleep {mark}" not in all_processes()


def test_what_an_ended_job_left_behind_ends_with_stop_and_not_before(place: Place) -> None:
    mark = f"{80_000 + os.getpid()}"
    script = "env -i setsid sleep {mark} >/dev/null 2>&1 & setsid sleep {mark} & exit 3"
    job = place.jobs.start(["sh", "-c", script.format(mark=mark)], cwd=place.folder)
    until(lambda: place.jobs.get(job).state is JobState.EXITED, "it has ended")
    assert all_processes().count(f"sleep {mark}") == 2
    other = place.jobs.start(["sleep", "600"], cwd=place.folder)
    ended = place.jobs.stop(job)
    assert (ended.code, ended.stopped) == (3, False)
    assert f"sleep {mark}" not in all_processes()
    assert place.jobs.stop(other).code == 143


def test_a_job_that_ignores_term_is_killed(place: Place) -> None:
    job = place.jobs.start(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], cwd=place.folder
    )
    until(lambda: (place.run / f"jobs/{job}/output.log").read_bytes() == b"ready\n", "it is ready")
    ended = place.jobs.stop(job, grace_s=0.3)
    assert ended.code == 137


def test_a_command_that_is_not_there_is_a_job_that_failed(place: Place) -> None:
    job = place.jobs.start(["no-such-command"], cwd=place.folder)
    assert place.output(job) == (b"", b"no-such-command: command not found\n", 127)
    job = place.jobs.start(["true"], cwd="/no/such/folder")
    assert place.output(job)[2] == 126


def test_two_jobs_at_once_get_ids_of_their_own(place: Place) -> None:
    ids: list[str] = []

    def start() -> None:
        ids.append(place.jobs.start(["true"], cwd=place.folder))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 4
    assert set(ids) <= {job.id for job in place.jobs.all()}


def test_a_job_leaves_what_it_put_in_the_background(place: Place) -> None:
    script = "(sleep 1; echo late > late.txt) & echo done"
    job = place.jobs.start(["sh", "-c", script], cwd=place.folder)
    assert place.output(job)[2] == 0
    until(lambda: (place.workdir / "late.txt").exists(), "the rest went on")


def test_a_job_notes_what_it_was_told(place: Place) -> None:
    job = place.jobs.start(["true"], cwd=place.folder, note={"files": "abc"})
    assert place.jobs.get(job).note == {"files": "abc"}
    place.output(job)
    place.jobs.remove(job)
    with pytest.raises(JobNotFound):
        place.jobs.get(job)


def test_a_job_whose_folder_is_purged_ends_with_its_command(place: Place) -> None:
    gate = place.workdir / "gate3"
    job = place.jobs.start(
        ["sh", "-c", "while [ ! -e gate3 ]; do sleep 0.05; done"], cwd=place.folder
    )
    mark = f"job.py start {place.runtime.inside} {job}"
    assert mark in all_processes()
    shutil.rmtree(place.run / "jobs" / job)
    gate.touch()
    until(lambda: mark not in all_processes(), "its runner is gone")
    gate.unlink()


def test_no_such_job(place: Place) -> None:
    with pytest.raises(JobNotFound, match="no job 999"):
        place.jobs.follow("999", lambda _: None, lambda _: None)
    with pytest.raises(JobNotFound):
        place.jobs.stop("999")


def test_a_link_that_breaks_while_following_is_said(place: Place) -> None:
    job = place.jobs.start(["sh", "-c", "echo on; exec sleep 60"], cwd=place.folder)
    other = type(place.remote)(Path(place.running.user.home))
    follower = type(place.jobs)(other, place.runtime, place.running.folders.run)
    with pytest.raises(LinkLost):
        follower.follow(job, lambda _: other.lose_link(), lambda _: None)
    assert place.jobs.get(job).state is JobState.RUNNING
    place.jobs.stop(job)


# ---------------------------------------------------------------- stop and start again


def test_stopped_and_started_again_it_is_the_same(place: Place) -> None:
    job = place.jobs.start(["sleep", "60"], cwd=place.folder)
    mark = f"sleep {90_000 + os.getpid()}"
    left = place.jobs.start(["sh", "-c", f"setsid {mark} >/dev/null 2>&1 &"], cwd=place.folder)
    until(lambda: place.jobs.get(left).state is JobState.EXITED, "it has ended")
    assert mark in all_processes()
    place.runtime.stop()
    assert mark not in all_processes()
    assert place.runtime.status().state is State.STOPPED
    assert place.jobs.get(job).stopped
    assert place.runtime.plan(place.wanted).change is Change.START
    again = place.runtime.ensure(place.wanted)
    place.running = again
    assert again.change is Change.START
    assert place.get("/api/status", token=again.token)[0] == 200


def test_a_session_that_comes_back_finds_it_as_it_is(place: Place) -> None:
    before = place.runtime.status()
    back = place.runtime.resume(place.wanted.host)
    assert (back.id, back.token) == (before.id, place.running.token)
    assert back.change is Change.KEEP
    assert back.sockets == place.running.sockets


def _pid_of(place: Place, service: str) -> int:
    """On this machine: what the supervisor of this place runs."""
    mark = {"jupyter": "jupyter-lab", "tensorboard": "board.py"}[service]
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            argv = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            environ = Path(f"/proc/{name}/environ").read_bytes()
            here = os.stat(f"/proc/{name}/cwd")
        except OSError:
            continue
        ours = any(part.endswith(f"/{mark}".encode()) for part in argv[:2])
        same = (here.st_dev, here.st_ino) == (
            os.stat(place.workdir).st_dev,
            os.stat(place.workdir).st_ino,
        )
        if ours and same and environ:
            return int(name)
    raise AssertionError(f"{service} does not run")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
        return port


def _read_until(recv: object, mark: bytes) -> bytes:
    seen = b""
    while data := recv(4096):  # type: ignore[operator]
        seen += data
        if mark and mark in seen:
            break
    return seen
