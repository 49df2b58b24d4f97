"""What only the native runtime has to cope with: the host's own Python."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from remotedl.config.models import HostConfig, Mirrors, ProjectConfig
from remotedl.container.jobs import Jobs
from remotedl.container.native import NativeRuntime
from remotedl.container.runtime import Change, State, Wanted
from remotedl.errors import ContainerError, JobsRunning
from remotedl.ssh.remote import Pty
from tests.lab_tests.container.conftest import (
    BARE,
    HOST,
    all_processes,
    fresh_project,
    until,
)
from tests.support.local_remote import LocalProcess, LocalRemote

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the host is Linux"),
]

SMALL = "supervisor>=4.3\n"
"""Enough for a runtime without services, and there in seconds."""
WANTED = Wanted(HOST, ProjectConfig(**BARE))
TOOLS = ("sh", "id", "cat", "mkdir", "readlink", "dirname", "test", "ln", "rm", "mv", "chmod")


class PathRemote(LocalRemote):
    """This machine with another PATH."""

    def __init__(self, home: Path, path: Path) -> None:
        super().__init__(home)
        self._path = path

    def start(
        self,
        argv: Sequence[str],
        *,
        sudo: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> LocalProcess:
        found = {"PATH": str(self._path), **(env or {})}
        program = shutil.which(argv[0], path=str(self._path)) or argv[0]
        return super().start([program, *argv[1:]], sudo=sudo, env=found, cwd=cwd, pty=pty)


def small(remote: LocalRemote, python: str = sys.executable) -> NativeRuntime:
    return NativeRuntime(remote, fresh_project(), host_python=python, requirements=SMALL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def remote(home: Path) -> LocalRemote:
    return LocalRemote(home)


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests that are not about venvs share one."""
    return tmp_path_factory.mktemp("venvs")


@pytest.fixture
def runtime(remote: LocalRemote, home: Path, venvs: Path) -> Iterator[NativeRuntime]:
    (home / ".remotedl").mkdir()
    (home / ".remotedl" / "native").symlink_to(venvs)
    made = small(remote)
    yield made
    made.remove()


def test_a_host_without_ensurepip_gets_the_laptops_pip(remote: LocalRemote, home: Path) -> None:
    python = _python_without(home, "ensurepip")
    runtime = small(remote, python)
    runtime.ensure(WANTED)
    assert runtime.run(["python", "-m", "pip", "--version"]).ok
    assert runtime.status().state is State.RUNNING
    runtime.remove()


def test_a_host_that_cannot_make_venvs_is_told_so(remote: LocalRemote, home: Path) -> None:
    with pytest.raises(ContainerError, match="cannot make venvs") as caught:
        small(remote, _python_without(home, "venv")).ensure(WANTED)
    assert "python3-venv" in caught.value.hint


def test_a_python_that_is_too_old_is_named(home: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    old = tools / "python3"
    fake = "import sys; sys.version_info = (3, 7, 3)"
    old.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && {{ echo Python 3.7.3; exit; }}\n'
        f'exec {sys.executable} -c "{fake}; import runpy; sys.argv = sys.argv[1:]; '
        'runpy.run_path(sys.argv[0], run_name=\'__main__\')" "$@"\n'
    )
    old.chmod(0o755)
    remote = PathRemote(home, tools)
    with pytest.raises(ContainerError, match=r"Python 3\.7\.3 is too old"):
        small(remote, "python3").ensure(WANTED)
    # A newer one beside it is taken.
    (tools / "python3.11").symlink_to(sys.executable)
    with empty_index() as index, pytest.raises(ContainerError, match="could not be installed"):
        small(remote, "python3").ensure(_from_index(index.url("")))


def test_a_half_made_venv_is_never_used(remote: LocalRemote, home: Path) -> None:
    runtime = small(remote)
    runtime.ensure(WANTED)
    runtime.stop()
    stamp = next(home.glob(".remotedl/native/*/.complete"))
    stamp.unlink()
    (stamp.parent / "bin" / "supervisord").write_text("half of it")
    runtime.ensure(WANTED)
    assert stamp.exists()
    assert runtime.status().state is State.RUNNING
    runtime.remove()


def test_packages_come_from_the_mirror_and_its_password_is_in_no_argv(
    remote: LocalRemote, home: Path
) -> None:
    refused = pytest.raises(ContainerError, match="could not be installed")
    with empty_index() as index, refused as caught:
        small(remote).ensure(_from_index(index.url("ada:opensesame@")))
    assert index.asked[0].startswith("/simple/")
    assert any(said.startswith("Basic ") for said in index.credentials)
    assert "opensesame" not in index.processes
    assert "opensesame" not in caught.value.message


class EmptyIndex(http.server.ThreadingHTTPServer):
    """A package index that has nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _NothingHere)
        self.asked: list[str] = []
        self.credentials: list[str] = []
        self.processes = ""

    def url(self, credentials: str) -> str:
        return f"http://{credentials}127.0.0.1:{self.server_port}/simple"


class _NothingHere(http.server.BaseHTTPRequestHandler):
    server: EmptyIndex

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.credentials.append(self.headers.get("Authorization", ""))
        self.server.processes += all_processes()
        self.send_error(404)

    def log_message(self, *args: object) -> None: ...


@contextmanager
def empty_index() -> Iterator[EmptyIndex]:
    server = EmptyIndex()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_projects_own_packages_are_there(remote: LocalRemote) -> None:
    runtime = small(remote)
    runtime.ensure(replace(WANTED, packages=("colorama==0.4.6",)))
    said = runtime.run(["python", "-c", "import colorama; print(colorama.__version__)"])
    assert said.text == "0.4.6\n"
    runtime.remove()


def test_a_home_with_a_long_path_gets_its_sockets_elsewhere_and_private(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 20) / "home"
    home.mkdir(parents=True)
    remote = LocalRemote(home)
    runtime = small(remote)
    try:
        running = runtime.ensure(WANTED)
        folder = Path(running.sockets)
        assert len(str(folder)) < 90
        assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (os.getuid(), 0o700)
        runtime.stop()
        assert runtime.ensure(WANTED).sockets == running.sockets, "kept over restarts"
        folder.chmod(0o777)
        runtime.stop()
        assert runtime.ensure(WANTED).sockets != running.sockets, "not once others can get in"
        last = Path(runtime.resume(HOST).sockets)
    finally:
        runtime.remove()
        remote.close()
    assert not last.exists()


def test_a_killed_keeper_leaves_nothing_that_a_new_one_would_trip_over(
    runtime: NativeRuntime, home: Path
) -> None:
    first = runtime.ensure(WANTED)
    folder = Path(first.folders.run)
    os.kill(json.loads((folder / "keep.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: runtime.status().state is State.STOPPED, "the keeper is gone")
    until((folder / "supervisord.pid").exists, "the supervisor, left alone, has come up")
    orphan = int((folder / "supervisord.pid").read_text())
    second = runtime.ensure(WANTED)
    assert second.id != first.id
    until(lambda: not Path(f"/proc/{orphan}").exists(), "the old supervisor is gone")
    assert runtime.status().state is State.RUNNING


def test_a_killed_supervisor_comes_back(runtime: NativeRuntime) -> None:
    folder = Path(runtime.ensure(WANTED).folders.run)
    pid_file = folder / "supervisord.pid"
    until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the supervisor runs")
    first = int(pid_file.read_text())
    os.kill(first, signal.SIGKILL)
    until(lambda: int(pid_file.read_text() or first) != first, "another supervisor runs")


def test_other_settings_start_it_anew_but_never_at_a_jobs_cost(
    runtime: NativeRuntime, remote: LocalRemote
) -> None:
    running = runtime.ensure(WANTED)
    changed = replace(WANTED, config=ProjectConfig(**BARE, env={"SEED": "7"}))
    assert runtime.plan(changed).change is Change.RECREATE
    jobs = Jobs(remote, runtime, running.folders.run)
    job = jobs.start(["sleep", "60"], cwd=running.folders.workdir)
    with pytest.raises(JobsRunning):
        runtime.ensure(changed)
    jobs.stop(job)
    again = runtime.ensure(changed)
    assert (again.change, again.token) == (Change.RECREATE, running.token)
    process = runtime.start(["sh", "-c", "echo $SEED"])
    assert process.recv(100) == b"7\n"
    process.wait(5)
    process.close()


def test_a_command_before_up_says_what_to_do(remote: LocalRemote) -> None:
    with pytest.raises(ContainerError, match="is not there") as caught:
        small(remote).start(["true"])
    assert caught.value.hint == "remotedl up"


def _from_index(index: str) -> Wanted:
    host = HostConfig(address="local", gpus="none", mirrors=Mirrors(pip=index))
    return replace(WANTED, host=host)


def _python_without(home: Path, module: str) -> str:
    """A python3 whose distribution has left `module` out."""
    shadow = home / "shadow"
    shadow.mkdir()
    code = f"import sys\nif {module!r} not in sys.argv: sys.modules[{module!r}] = None\n"
    (shadow / "sitecustomize.py").write_text(code)
    python = home / "python3"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={shadow} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)
