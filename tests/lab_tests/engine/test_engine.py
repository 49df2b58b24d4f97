"""The engine's methods against a real dockerd."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from remotedl.engine import (
    BuildOutput,
    BuildStep,
    Built,
    ChangeKind,
    Container,
    Engine,
    Health,
    Healthcheck,
    LayerProgress,
    Mount,
    NewContainer,
    Output,
    PortRequest,
)
from remotedl.errors import BuildFailed, EngineError, ImageNotFound, LinkLost
from remotedl.images.recipe import context_tar
from tests.lab_tests.engine.conftest import LABELS
from tests.support.local_remote import LocalRemote

pytestmark = pytest.mark.lab


def test_it_tells_what_it_is(here: Engine) -> None:
    report = here.report()
    assert "runc" in report.runtimes
    assert report.root_dir.startswith("/")
    assert report.cpus > 0
    assert report.memory > 0


def test_a_command_gets_its_input_and_gives_both_outputs_and_its_code(
    here: Engine, sleeper: Container
) -> None:
    done = here.execs.run(
        sleeper.id, ["sh", "-c", "cat; echo bad >&2; pwd; exit 7"], input=b"in\n", workdir="/tmp"
    )
    assert (done.code, done.stdout, done.stderr) == (7, b"in\n/tmp\n", b"bad\n")


def test_much_output_comes_whole(here: Engine, sleeper: Container) -> None:
    done = here.execs.run(sleeper.id, ["head", "-c", "9000000", "/dev/zero"])
    assert len(done.stdout) == 9_000_000


def test_a_terminal_has_its_size_and_takes_a_new_one(here: Engine, sleeper: Container) -> None:
    with here.execs.start(sleeper.id, ["sh"], stdin=True, tty=(100, 30)) as shell:
        shell.sendall(b"stty size; read x; stty size; exit 3\n")
        said = b""
        while b"30 100" not in said:
            piece = shell.read()
            assert piece is not None
            said += piece[1]
        shell.resize(80, 24)
        shell.sendall(b"\n")
        said += b"".join(data for _, data in shell)
        assert b"24 80" in said
        assert shell.exit_code() == 3


def test_outputs_are_told_apart_as_they_come(here: Engine, sleeper: Container) -> None:
    with here.execs.start(sleeper.id, ["sh", "-c", "echo a; cat; echo b >&2"], stdin=True) as run:
        assert run.read() == (Output.STDOUT, b"a\n")
        run.end_input()
        assert run.read() == (Output.STDERR, b"b\n")
        assert run.read() is None


def test_a_detached_command_runs_by_itself(here: Engine, sleeper: Container) -> None:
    began = here.execs.detach(sleeper.id, ["sh", "-c", "read x < /tmp/gate; exit 4"], user="0")
    here.execs.run(sleeper.id, ["mkfifo", "/tmp/gate"])
    waiting = here.execs.detach(sleeper.id, ["sh", "-c", "read x < /tmp/gate; exit 5"])
    assert here.execs.state(waiting).running
    here.execs.run(sleeper.id, ["sh", "-c", "echo go > /tmp/gate"])
    here.execs.run(sleeper.id, ["sh", "-c", "while pgrep -f 'read [x]'; do :; done"])
    assert not here.execs.state(began).running


def test_as_many_streams_as_fit_and_still_an_answer(here: Engine, sleeper: Container) -> None:
    """Streams leave one connection for questions: none of them waits for itself."""
    streams = [here.execs.start(sleeper.id, ["cat"], stdin=True, tty=(80, 24)) for _ in range(3)]
    for stream in streams:
        stream.resize(90, 25)
    assert here.containers.get(sleeper.id) is not None
    for stream in streams:
        stream.close()


def test_a_container_of_all_kinds_of_wishes(here: Engine, debian: str, tmp_path: str) -> None:
    new = NewContainer(
        image=debian,
        command=("sh", "-c", "touch /tmp/up; sleep 600"),
        labels=LABELS,
        env={"A": "b c=d"},
        user="1234:1235",
        mounts=(Mount(str(tmp_path), "/data", read_only=True),),
        ports=(PortRequest(8888),),
        shm_size=128 << 20,
        init=True,
        memory=256 << 20,
        cpus=0.5,
        healthcheck=Healthcheck(("test", "-e", "/tmp/up"), interval_s=0.5),
    )
    made = here.containers.create(new)
    try:
        here.containers.start(made.id)
        running = here.containers.get(made.id)
        assert running is not None
        assert running.running
        (port,) = running.ports
        assert (port.container_port, port.host_ip) == (8888, "127.0.0.1")
        assert port.host_port > 0
        assert running.mounts == (Mount(str(tmp_path), "/data", read_only=True),)
        assert running.env["A"] == "b c=d"
        assert here.execs.run(made.id, ["id", "-u"]).stdout == b"1234\n"
        shm = here.execs.run(made.id, ["df", "-k", "--output=size", "/dev/shm"]).stdout
        assert shm.split()[-1] == b"131072"
        events = here.events(labels=LABELS)
        assert any(event.action == "health_status: healthy" for event in _until_healthy(events))
        now = here.containers.get(made.id)
        assert now is not None
        assert now.health is Health.HEALTHY
    finally:
        assert here.containers.remove(made.id, force=True)
    assert here.containers.get(made.id) is None
    assert not here.containers.remove(made.id)


def _until_healthy(events: Iterator) -> Iterator:  # type: ignore[type-arg]
    for event in events:
        yield event
        if event.action.startswith("health_status"):
            return


def test_changes_and_a_commit_of_them(here: Engine, sleeper: Container) -> None:
    here.execs.run(sleeper.id, ["sh", "-c", "echo kept > /srv/f; rm /etc/issue"])
    changes = {change.path: change.kind for change in here.containers.changes(sleeper.id)}
    assert changes["/srv/f"] is ChangeKind.ADDED
    assert changes["/etc/issue"] is ChangeKind.DELETED
    tag = "remotedl-lab-test/snapshot:1"
    image_id = here.containers.commit(sleeper.id, tag, labels={"why": "test"})
    try:
        image = here.images.get(tag)
        assert image is not None
        assert image.id == image_id
        assert image.labels["why"] == "test"
    finally:
        here.images.remove(tag)


def test_logs_and_the_exit_code(here: Engine, debian: str) -> None:
    made = here.containers.create(
        NewContainer(image=debian, command=("sh", "-c", "echo 1; echo 2 >&2; exit 9"))
    )
    try:
        here.containers.start(made.id)
        assert here.containers.wait(made.id) == 9
        assert sorted(here.containers.logs(made.id).split()) == [b"1", b"2"]
    finally:
        here.containers.remove(made.id)


def test_a_mount_that_is_not_there_leaves_no_container(here: Engine, debian: str) -> None:
    new = NewContainer(image=debian, labels=LABELS, mounts=(Mount("/no/such/place", "/x"),))
    with pytest.raises(EngineError, match="the host has no /no/such/place") as caught:
        here.containers.create(new)
    assert "mounts" in caught.value.hint
    assert here.containers.find(LABELS) == ()


def build(engine: Engine, dockerfile: str, tag: str, **more: object) -> list[object]:
    context = context_tar((), {"Dockerfile": dockerfile.encode()})
    return list(engine.images.build(context, tag=tag, **more))  # type: ignore[arg-type]


def test_a_build_tells_its_steps_as_they_happen(here: Engine, debian: str) -> None:
    tag = "remotedl-lab-test/built:1"
    dockerfile = f"FROM {debian}\nARG WHO\nRUN echo hello $WHO; echo über\n"
    events = build(here, dockerfile, tag, labels={"l": "v"}, build_args={"WHO": "you"})
    try:
        assert BuildStep(3, 4, "RUN echo hello $WHO; echo über") in events
        assert BuildOutput("hello you") in events
        assert BuildOutput("über") in events
        (built,) = [event for event in events if isinstance(event, Built)]
        image = here.images.get(tag)
        assert image is not None
        assert (image.id, image.labels["l"]) == (built.image_id, "v")
        assert here.images.find({"l": "v"}) == (image,)
        assert any("echo hello" in line.created_by for line in here.images.history(tag))
    finally:
        here.images.remove(tag)


def test_a_build_that_fails_says_why_and_leaves_no_tag(here: Engine, debian: str) -> None:
    with pytest.raises(BuildFailed, match="returned a non-zero code: 3"):
        build(here, f"FROM {debian}\nRUN exit 3\n", "remotedl-lab-test/failed:1")
    assert here.images.get("remotedl-lab-test/failed:1") is None


def test_a_base_image_that_is_nowhere(here: Engine) -> None:
    with pytest.raises(EngineError, match="building"):
        build(here, "FROM localhost:1/nope:1\n", "remotedl-lab-test/failed:1")


def test_an_image_is_saved_and_loaded(here: Engine, debian: str) -> None:
    tag = "remotedl-lab-test/moved:1"
    build(here, f"FROM {debian}\nRUN echo moved > /moved\n", tag)
    archive = list(here.images.save(tag))
    here.images.remove(tag)
    events = list(here.images.load(iter(archive)))
    assert any(isinstance(event, Built) for event in events)
    assert here.images.get(tag) is not None
    assert here.images.remove(tag)
    assert not here.images.remove(tag)


def test_an_unknown_image(here: Engine) -> None:
    assert here.images.get("remotedl-lab-test/none:1") is None
    with pytest.raises(ImageNotFound):
        here.containers.create(NewContainer(image="remotedl-lab-test/none:1"))


def test_a_link_that_is_lost_in_the_middle_is_told_as_that(sleeper: Container) -> None:
    remote = LocalRemote()
    engine = Engine(lambda: remote.start(["docker", "system", "dial-stdio"]))
    stream = engine.execs.start(sleeper.id, ["cat"], stdin=True)
    reached = threading.Event()
    seen: list[BaseException] = []

    def read() -> None:
        reached.set()
        try:
            stream.read()
        except BaseException as exc:
            seen.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    reached.wait(5)
    remote.lose_link()
    reader.join(10)
    assert [type(exc) for exc in seen] == [LinkLost]
    with pytest.raises(LinkLost):
        engine.containers.get(sleeper.id)


def test_an_engine_that_is_not_there_says_so() -> None:
    remote = LocalRemote()
    engine = Engine(
        lambda: remote.start(["docker", "-H", "unix:///no.sock", "system", "dial-stdio"])
    )
    with pytest.raises(EngineError, match="does not run") as caught:
        engine.report()
    assert "doctor" in caught.value.hint


def test_an_engine_that_comes_back_is_dialled_anew(here: Engine) -> None:
    """What a restart of dockerd does to idle connections: they end, and none is used again."""
    remote = LocalRemote()
    dialled = []

    def dial():  # type: ignore[no-untyped-def]
        dialled.append(remote.start(["docker", "system", "dial-stdio"]))
        return dialled[-1]

    engine = Engine(dial)
    before = set(threading.enumerate())
    engine.ping()
    (idle,) = dialled
    readers = set(threading.enumerate()) - before
    idle.close()
    for reader in readers:  # the end of a connection is noticed by whoever reads it
        reader.join(10)
    engine.ping()
    assert len(dialled) == 2
    engine.close()


def test_over_ssh_with_sudo(there: Engine) -> None:
    """The whole way once, on each of the two engines."""
    report = there.report()
    assert report.version.startswith(("20.10", "26.1"))
    made = there.containers.create(
        NewContainer(image="debian:bookworm-slim", command=("sleep", "600"), labels=LABELS)
    )
    try:
        there.containers.start(made.id)
        done = there.execs.run(made.id, ["sh", "-c", "cat; exit 2"], input=b"x" * 100_000)
        assert (done.code, len(done.stdout)) == (2, 100_000)
        with there.execs.start(made.id, ["sh"], stdin=True, tty=(77, 22)) as shell:
            shell.sendall(b"stty size; exit\n")
            assert b"22 77" in b"".join(data for _, data in shell)
        assert [one.id for one in there.containers.find(LABELS)] == [made.id]
    finally:
        there.containers.remove(made.id, force=True)


def test_a_build_over_ssh(there: Engine) -> None:
    tag = "remotedl-lab-test/built:1"
    events = build(there, "FROM debian:bookworm-slim\nRUN echo hello\n", tag)
    assert BuildOutput("hello") in events
    assert not any(isinstance(event, LayerProgress) for event in events)
    assert there.images.remove(tag)
