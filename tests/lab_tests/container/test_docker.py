"""What only a container has: an owner for its files, a spec, an engine that restarts it."""

from __future__ import annotations

import io
import os
import pwd
import signal
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remotedl.config.models import ProjectConfig
from remotedl.container.docker import DockerRuntime
from remotedl.container.gpus import GpuRequest, GpuWay
from remotedl.container.runtime import Answer, Change, Plan, State, Wanted
from remotedl.container.spec import Image, ProjectName
from remotedl.engine import Engine
from remotedl.errors import ContainerError, JobsRunning
from tests.lab.engine import docker
from tests.lab_tests.container.conftest import (
    BARE,
    HOST,
    USER,
    Place,
    fresh_project,
    inspected,
    until,
)
from tests.support.local_remote import LocalRemote

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


def test_files_made_in_the_container_belong_to_the_ssh_user(docker_place: Place) -> None:
    script = "touch /workspace/made /data/made $HOME/made && mkdir -p /workspace/deep/er"
    assert docker_place.runtime.run(["sh", "-c", script]).ok
    entry = pwd.getpwnam(USER)
    folders = docker_place.running.folders
    for folder in (folders.workdir, folders.data, folders.home):
        found = os.stat(f"{folder}/made")
        assert (found.st_uid, found.st_gid) == (entry.pw_uid, entry.pw_gid)
    assert os.stat(f"{folders.workdir}/deep/er").st_uid == entry.pw_uid


def test_the_user_has_a_name_and_a_home_and_the_image_keeps_its_users(docker_place: Place) -> None:
    script = "whoami; id -gn; echo $HOME; cd; pwd; getent passwd www-data | cut -d: -f1"
    said = docker_place.runtime.run(["sh", "-c", script]).text.split()
    assert said == [USER, USER, f"/home/{USER}", f"/home/{USER}", "www-data"]


def test_no_secret_is_in_what_the_engine_tells(docker_place: Place) -> None:
    told = inspected(docker_place.running.id)
    assert docker_place.running.token not in told
    assert "hush-hush" not in told


def test_the_container_testifies_and_is_checked(docker_place: Place) -> None:
    labels = docker("inspect", "-f", "{{json .Config.Labels}}", docker_place.running.id)
    assert f'"remotedl.owner":"{USER}"' in labels
    assert '"remotedl.spec":"' in labels
    until(lambda: docker_place.runtime.status().state is State.RUNNING, "it is healthy", 60)


def test_a_changed_spec_makes_it_anew_and_keeps_files_and_token(own_place: Place) -> None:
    (own_place.workdir / "kept.txt").write_text("kept")
    wanted = own_place.asking_for(env={"SEED": "7"})
    assert own_place.runtime.plan(wanted).why == ("env: SEED",)
    again = own_place.runtime.ensure(wanted)
    assert again.change is Change.RECREATE
    assert again.id != own_place.running.id
    assert again.token == own_place.running.token
    assert own_place.runtime.run(["sh", "-c", "cat kept.txt; echo $SEED"]).text == "kept7\n"


def test_two_users_of_one_host_each_have_a_container_of_the_same_folder(
    own_place: Place, engine: Engine, tmp_path: Path
) -> None:
    """One laptop folder, one host, two logins: the project's id is the same."""
    before = own_place.runtime.status()
    project = ProjectName(inspected_label(before.id, "remotedl.project"), "own")
    runtime = DockerRuntime(LocalRemote(tmp_path), engine, project)
    try:
        other = runtime.ensure(own_place.wanted)
        assert other.name == f"{before.name}-root"
        assert runtime.ensure(own_place.wanted).id == other.id
        assert own_place.runtime.ensure(own_place.wanted).id == before.id != other.id
        runtime.stop()
        assert own_place.runtime.status().state is State.RUNNING
    finally:
        runtime.remove()
    assert own_place.runtime.status().id == before.id


def inspected_label(container: str, label: str) -> str:
    return docker("inspect", "-f", f'{{{{index .Config.Labels "{label}"}}}}', container).strip()


def test_a_running_job_is_never_ended_unasked(own_place: Place) -> None:
    job = own_place.jobs.start(["sleep", "60"], cwd="/workspace")
    wanted = own_place.asking_for(env={"SEED": "7"})
    with pytest.raises(JobsRunning, match=f"job {job} runs in it"):
        own_place.runtime.ensure(wanted)
    assert own_place.jobs.running()[0].id == job
    assert own_place.runtime.status().id == own_place.running.id
    asked: list[Plan] = []

    def yes(plan: Plan) -> Answer:
        asked.append(plan)
        return Answer.GO

    own_place.runtime.ensure(wanted, consent=yes)
    assert asked[0].jobs == (job,)
    assert own_place.jobs.get(job).stopped


def test_what_a_recreate_would_lose_is_listed_and_can_be_kept(own_place: Place) -> None:
    made = docker(
        "exec", "-u", "0", own_place.running.id,
        "sh", "-c", "mkdir /opt/mine && echo 1 > /opt/mine/tool && touch /tmp/scratch",
    )  # fmt: skip
    assert made == ""
    wanted = own_place.asking_for(env={"SEED": "7"})
    assert own_place.runtime.plan(wanted).lost == ("/opt/mine/tool",)
    own_place.runtime.ensure(wanted, consent=lambda plan: Answer.COMMIT)
    name = own_place.running.name.removeprefix("remotedl-")
    kept = docker("images", "-q", f"remotedl/{name}:{own_place.running.id[:12]}")
    assert docker("run", "--rm", "--entrypoint", "cat", kept, "/opt/mine/tool") == "1"
    docker("rmi", "-f", kept)


def test_what_an_images_volume_holds_outlives_a_recreate(
    own_place: Place, engine: Engine, base_image: Image
) -> None:
    tag = f"remotedl-test-volume:{own_place.running.id[:12]}"
    text = f"FROM {base_image.ref}\nUSER 0\nRUN mkdir -m 777 /models && touch /models/first\n"
    docker("build", "-t", tag, "-", stdin=f"{text}VOLUME /models\n".encode())
    built = engine.images.get(tag)
    assert built is not None and built.volumes == ("/models",)
    image = Image(tag, built.id, base_image.tools, built.volumes)
    wanted = replace(own_place.wanted, image=image)
    names = []
    try:
        own_place.runtime.ensure(wanted)
        own_place.runtime.run(["sh", "-c", "echo trained > /models/weights"])
        again = replace(wanted, config=own_place.asking_for(env={"SEED": "7"}).config)
        assert own_place.runtime.plan(again).lost == ()
        assert own_place.runtime.ensure(again).change is Change.RECREATE
        found = own_place.runtime.run(["sh", "-c", "ls /models; cat /models/weights"])
        assert found.text == "first\nweights\ntrained\n"
    finally:
        own_place.runtime.remove()
        label = f"label=remotedl.project={own_place.runtime._project.id}"
        names = docker("volume", "ls", "-q", "--filter", label).split()
        docker("volume", "rm", *names)
        docker("rmi", "-f", tag)
    assert len(names) == 1


def test_a_volume_without_a_name_is_named_as_a_loss(own_place: Place, engine: Engine) -> None:
    """Such as a container of an earlier version has."""
    docker("rm", "-f", own_place.running.id)
    labels = [f"--label=remotedl.{name}" for name in (
        f"project={own_place.runtime._project.id}", f"owner={USER}", "spec=older"
    )]  # fmt: skip
    assert own_place.wanted.image is not None
    ref = own_place.wanted.image.ref
    docker("run", "-d", *labels, "-v", "/models", "--entrypoint", "sleep", ref, "600")
    assert "/models (a volume without a name)" in own_place.runtime.plan(own_place.wanted).lost


def test_a_mount_that_is_not_there_is_refused_before_anything_is_made(
    own_place: Place, engine: Engine
) -> None:
    runtime = DockerRuntime(own_place.remote, engine, fresh_project("mounts"))
    with pytest.raises(ContainerError, match="the mount /no/such/folder is not there"):
        runtime.ensure(own_place.asking_for(mounts=("/no/such/folder:/x",)))
    assert runtime.status().state is State.ABSENT


def test_extra_mounts_read_only_and_not(own_place: Place) -> None:
    home = own_place.running.user.home
    own_place.remote.run(["sh", "-c", "mkdir -p sets out; echo 1 > sets/a"])
    wanted = own_place.asking_for(mounts=(f"{home}/sets:/sets:ro", "~/out:/out"))
    own_place.runtime.ensure(wanted)
    said = own_place.runtime.run(["sh", "-c", "cat /sets/a; touch /out/b; touch /sets/c"])
    assert said.text == "1\n"
    assert "Read-only" in said.error_text


def test_an_engine_that_restarts_it_is_found_again(docker_place: Place) -> None:
    place = docker_place
    before = int(docker("inspect", "-f", "{{.RestartCount}}", place.running.id))
    os.kill(int(docker("inspect", "-f", "{{.State.Pid}}", place.running.id)), signal.SIGKILL)
    restarts = ("inspect", "-f", "{{.RestartCount}} {{.State.Running}}", place.running.id)
    until(lambda: docker(*restarts) == f"{before + 1} true", "the engine restarts it")
    again = place.runtime.ensure(place.wanted)
    assert (again.id, again.change) == (place.running.id, Change.KEEP)
    assert place.get("/api/status", token=place.running.token)[0] == 200


def test_a_job_under_which_the_container_died_is_lost_not_running(own_place: Place) -> None:
    job = own_place.jobs.start(["sleep", "60"], cwd="/workspace")
    docker("kill", own_place.running.id)
    assert own_place.jobs.get(job).state.value == "lost"


def test_limits_shared_memory_and_init(own_place: Place) -> None:
    wanted = own_place.asking_for(
                cpus=0.5, memory="512m", shm_size="1g",
    )  # fmt: skip
    running = own_place.runtime.ensure(wanted)
    said = docker(
        "inspect", "-f",
        "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.ShmSize}} "
        "{{.HostConfig.Init}} {{.HostConfig.RestartPolicy.Name}}", running.id,
    )  # fmt: skip
    assert said == f"500000000 {512 << 20} {1 << 30} true unless-stopped"


def test_two_projects_side_by_side(own_place: Place, docker_place: Place) -> None:
    assert own_place.running.id != docker_place.running.id
    assert own_place.running.token != docker_place.running.token
    assert own_place.running.sockets != docker_place.running.sockets


def test_names_that_strangers_have_are_told_and_nothing_is_touched(own_place: Place) -> None:
    running, image = own_place.running, own_place.wanted.image
    owner = docker("inspect", "-f", '{{index .Config.Labels "remotedl.owner"}}', running.id)
    names = own_place.runtime._project.container_names(owner)  # type: ignore[attr-defined]
    assert image is not None and names[0] == running.name
    docker("rm", "-f", running.id)
    theirs = [docker("create", "--name", name, image.ref) for name in names]
    try:
        with pytest.raises(ContainerError, match="that are not this project's") as caught:
            own_place.runtime.ensure(own_place.wanted)
        assert names[0] in caught.value.hint
        assert [docker("inspect", "-f", "{{.Id}}", name) for name in names] == theirs
    finally:
        docker("rm", "-f", *names)


def test_a_job_without_a_container_says_what_to_do_and_leaves_nothing(own_place: Place) -> None:
    own_place.runtime.stop()
    with pytest.raises(ContainerError, match="is exited") as caught:
        own_place.jobs.start(["true"], cwd="/workspace")
    assert caught.value.hint == "remotedl up"
    assert own_place.jobs.all() == []


# ---------------------------------------------------------------- GPUs


SMI = "#!/bin/sh\necho 'GPU 0: a double (UUID: GPU-0)'\n"
BROKEN = GpuRequest(GpuWay.RUNTIME, ("all",), "a test", runtime="no-such-runtime")


@pytest.fixture
def image_with_smi(base_image: Image) -> Iterator[Image]:
    """The base image with a double of nvidia-smi; it shows no GPU, only that it was run."""
    tag = f"remotedl-lab/smi-double:{os.getpid()}"
    made = docker("create", base_image.ref)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("usr/local/bin/nvidia-smi")
        entry.size, entry.mode = len(SMI), 0o755
        archive.addfile(entry, io.BytesIO(SMI.encode()))
    docker("cp", "-", f"{made}:/", stdin=packed.getvalue())
    docker("commit", made, tag)
    docker("rm", "-f", made)
    yield Image(tag, docker("image", "inspect", "-f", "{{.Id}}", tag))
    docker("rmi", "-f", tag)


def test_a_way_to_the_gpus_that_fails_is_replaced_by_one_that_works(
    own_place: Place, engine: Engine, image_with_smi: Image
) -> None:
    runtime = DockerRuntime(own_place.remote, engine, fresh_project("gpu"))
    works = GpuRequest(GpuWay.CDI, ("all",), "a double", env={"PROVED": "yes"})
    wanted = replace(
        own_place.wanted, image=image_with_smi, gpus=replace(BROKEN, fallbacks=(works,))
    )
    first = runtime.ensure(wanted)
    assert runtime.run(["sh", "-c", "echo $PROVED"]).text == "yes\n"
    again = runtime.ensure(wanted)
    assert (again.id, again.change) == (first.id, Change.KEEP)
    runtime.remove()


def test_gpus_that_no_container_gets_at_are_refused_and_nothing_stays(
    own_place: Place, engine: Engine
) -> None:
    project = fresh_project("nogpu")
    runtime = DockerRuntime(own_place.remote, engine, project)
    before = docker("ps", "-aq", "--filter", f"label=remotedl.project={project.id}")
    with pytest.raises(ContainerError, match="no container gets at a GPU") as caught:
        runtime.ensure(replace(own_place.wanted, gpus=BROKEN))
    assert "no-such-runtime" in caught.value.message
    assert docker("ps", "-aq", "--filter", f"label=remotedl.project={project.id}") == before == ""


def test_a_stopped_container_starts_though_its_network_was_pruned(
    engine: Engine, base_image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A network that no other test has a container on.
    monkeypatch.setattr("remotedl.container.separation.PREFIX", f"remotedl-{os.getpid()}-")
    remote = LocalRemote(tmp_path)
    runtime = DockerRuntime(remote, engine, fresh_project("pruned"))
    wanted = Wanted(HOST, ProjectConfig(**BARE), base_image)
    try:
        name = runtime.ensure(wanted).name
        network = docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", name)
        runtime.stop()
        docker("network", "rm", network)
        assert runtime.ensure(wanted).change is Change.START
        assert runtime.status().state is State.RUNNING
    finally:
        runtime.remove()
        remote.close()
