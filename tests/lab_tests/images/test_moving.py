"""Pulling, loading, keeping and pruning images on real engines."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remotedl.config.models import LocalImage
from remotedl.engine import Engine, Image, NewContainer, RegistryAuth
from remotedl.errors import EngineError, ImageNotFound, ImageUnfit, UsageError
from remotedl.images import ImageWish
from remotedl.images.keeping import made_here, plan_prune, prune, snapshot
from remotedl.images.newer import newer_bases
from remotedl.images.recipe import context_tar
from remotedl.images.transfer import layers_known, load, size_above
from remotedl.report import SILENT
from tests.lab.badlink import BadLink
from tests.lab.host import Host
from tests.lab.services import Registry
from tests.lab_tests.images.conftest import OURS, Guarded, Place, Told
from tests.support.local_remote import LocalRemote

pytestmark = pytest.mark.lab

Project = Callable[[dict[str, str]], Path]
ADA = RegistryAuth("ada", "hush", "127.0.0.1")


def make(engine: Engine, tag: str, dockerfile: str) -> Image:
    """A small image that no room of ours made."""
    context = context_tar((), {"Dockerfile": dockerfile.encode()})
    for _ in engine.images.build(context, tag=tag):
        pass
    image = engine.images.get(tag)
    assert image is not None
    return image


@pytest.fixture
def guarded(local: Place, debian: str, guarded_registry: Guarded) -> Iterator[str]:
    """The name of an image that only ada may pull, and that the engine has not."""
    name = guarded_registry.name("secret:1")
    make(local.engine, name, f"FROM {debian}\n{OURS}RUN head -c 5000000 /dev/urandom > /blob\n")
    for _ in local.engine.images.push(name, auth=ADA):
        pass
    local.engine.images.remove(name)
    yield name
    local.engine.images.remove(name, force=True)


def docker_config(folder: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The laptop's docker configuration, with ada's password for `server`."""
    folder.mkdir()
    auth = base64.b64encode(b"ada:hush").decode()
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {server: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return path


def test_no_credentials_and_then_the_laptops_own(
    local: Place,
    guarded: str,
    guarded_registry: Guarded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    with pytest.raises(ImageNotFound) as caught:
        local.ensure(ImageWish(image=guarded))
    assert "docker login" in caught.value.hint
    server = f"127.0.0.1:{guarded_registry.port}"
    docker_config(tmp_path / "docker", server, monkeypatch)
    ref = local.ensure(ImageWish(image=guarded))
    assert ref.fresh
    moved = [(done, total) for what, done, total, unit in local.told.moves if unit == "B"]
    assert moved[-1][0] == moved[-1][1]
    assert moved[-1][0] >= 5_000_000
    assert not local.ensure(ImageWish(image=guarded)).fresh


def test_a_dockerfile_from_a_private_image(
    local: Place,
    guarded: str,
    guarded_registry: Guarded,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = f"127.0.0.1:{guarded_registry.port}"
    docker_config(tmp_path / "docker", server, monkeypatch)
    folder = project({"Dockerfile": f"FROM {guarded}\nRUN test -s /blob\n{OURS}"})
    assert local.ensure(ImageWish(image=LocalImage(), folder=folder)).fresh


def test_a_tag_that_does_not_exist(
    local: Place, guarded_registry: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = f"127.0.0.1:{guarded_registry.port}"
    docker_config(tmp_path / "docker", server, monkeypatch)
    with pytest.raises(ImageNotFound, match="nope:1") as caught:
        local.ensure(ImageWish(image=guarded_registry.name("nope:1")))
    assert "image" in caught.value.hint


def test_a_pull_that_broke_off_goes_on(
    here: Engine, debian: str, guarded_registry: Guarded
) -> None:
    """The link is cut in the middle of a pull; the next one ends it, and all is there."""
    there = guarded_registry.name("big:1")
    steps = "".join(f"RUN head -c 20000000 /dev/urandom > /blob{n}\n" for n in range(3))
    made = make(here, there, f"FROM {debian}\n{steps}")
    for _ in here.images.push(there, auth=ADA):
        pass
    here.images.remove(there)
    line = BadLink(("127.0.0.1", guarded_registry.port), bandwidth=10e6)
    name = f"127.0.0.1:{line.port}/big:1"
    remote = LocalRemote()
    cut = Engine(lambda: remote.start(["docker", "system", "dial-stdio"]))
    try:
        assert any(event.status == "Downloading" for event in cut.images.pull(name, auth=ADA))
        remote.lose_link()
        assert here.images.get(name) is None
        line.bandwidth = None
        assert list(here.images.pull(name, auth=ADA))[-1].status.startswith("Status: Downloaded")
        pulled = here.images.get(name)
        assert pulled is not None
        assert pulled.layers == made.layers
    finally:
        line.close()
        here.images.remove(name)


def test_only_the_layers_that_are_missing_are_sent(
    here: Engine, debian: str, place: Place, tmp_path: Path
) -> None:
    low = f"FROM {debian}\nRUN head -c 30000000 /dev/urandom > /low\n"
    lower = make(here, "remotedl-lab-test/lower:1", low)
    upper = make(here, "remotedl-lab-test/upper:1", f"{low}RUN head -c 1000000 /dev/zero > /up\n")
    told = Told()
    try:
        first = load(here, place.engine, lower.tags[0], architecture="amd64", report=told)
        assert first.sent > 30_000_000
        assert len({total for _, done, total, _ in told.moves if done < 30_000_000}) == 1
        second = load(
            here,
            place.engine,
            upper.tags[0],
            architecture="amd64",
            report=told,
            remote=place.remote,
        )
        assert (second.layers_sent, second.layers_there) == (1, len(lower.layers))
        assert second.sent < 5_000_000
        assert told.moves[-1][1:3] == (second.sent, second.sent)
        assert place.run(upper.tags[0], "sh", "-c", "stat -c %s /low /up")[1] == (
            b"30000000\n1000000\n"
        )
        again = load(here, place.engine, upper.tags[0], architecture="amd64", report=told)
        assert again.sent == 0
    finally:
        for engine in (here, place.engine):
            engine.images.remove("remotedl-lab-test/upper:1", force=True)
            engine.images.remove("remotedl-lab-test/lower:1", force=True)


def test_what_the_laptop_has_not_or_has_for_another_machine(here: Engine, debian: str) -> None:
    with pytest.raises(ImageNotFound, match="the laptop's Docker has no image nope:1"):
        load(here, here, "nope:1", architecture="amd64", report=SILENT)
    with pytest.raises(ImageUnfit, match="the host is arm64"):
        load(here, here, debian, architecture="arm64", report=SILENT)


def test_an_image_too_big_for_the_hosts_disk_is_not_sent(
    here: Engine, bookworm_place: Place, tmp_path: Path
) -> None:
    class Full(LocalRemote):
        """Its df tells of a full disk."""

        def run(self, argv, **more):  # type: ignore[no-untyped-def]
            return super().run(["printf", "head\\n/dev/x 9 9 1000 99%% /var/lib/docker\\n"], **more)

    made = make(here, "remotedl-lab-test/big:1", "FROM scratch\nCOPY Dockerfile /\n")
    told = Told()
    try:
        with pytest.raises(EngineError, match=r"loading .* has 0\.0 GB left"):
            load(
                here,
                bookworm_place.engine,
                made.tags[0],
                architecture="amd64",
                report=told,
                remote=Full(tmp_path),
            )
        assert told.moves == []
    finally:
        here.images.remove(made.tags[0], force=True)


def test_layers_are_known_from_below(here: Engine, debian: str) -> None:
    image = here.images.get(debian)
    assert image is not None
    assert size_above(image, len(image.layers), (image,)) == 0
    assert size_above(image, 0, ()) == image.size
    assert layers_known(image, (image,)) == len(image.layers)
    assert layers_known(image, ()) == 0


def test_a_snapshot_is_an_image_to_name(local: Place, project: Project, debian: str) -> None:
    engine = local.engine
    folder = project({"Dockerfile": f"FROM {debian}\n{OURS}"})
    image = local.ensure(ImageWish(image=LocalImage(), folder=folder))
    made = engine.containers.create(
        NewContainer(image=image.reference, command=("sh", "-c", "echo kept > /srv/f; sleep 600"))
    )
    engine.containers.start(made.id)
    while engine.execs.run(made.id, ["test", "-s", "/srv/f"]).code:
        pass
    try:
        kept = snapshot(engine, made, "lab-work", SILENT)
        assert kept.reference == "remotedl/lab-work:latest"
        assert "/srv/f" in {change.path for change in kept.changes}
        ref = local.ensure(ImageWish(image="remotedl/lab-work"))
        assert local.run(ref.reference, "cat", "/srv/f")[1] == b"kept\n"
        with pytest.raises(UsageError, match="no name for an image"):
            snapshot(engine, made, "Not A Name", SILENT)
    finally:
        engine.containers.remove(made.id, force=True)
        engine.images.remove("remotedl/lab-work:latest", force=True)


def test_prune_takes_only_what_is_ours_and_unused(bookworm_place: Place, project: Project) -> None:
    """On a lab host, whose images are nobody else's."""
    place, engine = bookworm_place, bookworm_place.engine
    prune(engine, SILENT, plan_prune(engine, snapshots=True))  # what other tests built on it
    assert made_here(engine) == ()
    folder = project({"Dockerfile": f"FROM debian:bookworm-slim\n{OURS}RUN echo prune\n"})
    unused = place.ensure(ImageWish(image=LocalImage(), folder=folder))
    (folder / "Dockerfile").write_text(f"FROM debian:bookworm-slim\n{OURS}RUN echo used\n")
    used = place.ensure(ImageWish(image=LocalImage(), folder=folder))
    theirs = make(engine, "theirs:1", f"FROM {used.reference}\nRUN echo theirs\n")
    assert theirs.labels["remotedl.recipe"], "a label is inherited, and proves nothing"
    holder = engine.containers.create(NewContainer(image=used.reference))
    try:
        kept = snapshot(engine, holder, "lab-kept", SILENT)
        listed = {made.reference: made for made in made_here(engine)}
        assert listed[used.reference].used_by == (holder.name,)
        assert listed[kept.reference].snapshot
        assert "theirs:1" not in listed
        whole = engine.images.get(unused.reference)
        plan = plan_prune(engine)
        why = {made.reference: reason for made, reason in plan.stays}
        assert [made.reference for made in plan.goes] == [unused.reference]
        assert why[used.reference] == f"used by {holder.name}"
        assert why[kept.reference].startswith("a snapshot")
        assert plan_prune(engine, keep={unused.id}).goes == (), "the user loaded it"
        freed = prune(engine, SILENT, plan)
        assert whole is not None
        assert 0 <= freed < whole.size / 2, "its base stays, and is not given back"
        left = {made.reference for made in made_here(engine)}
        assert unused.reference not in left
        assert {used.reference, kept.reference} <= left
        assert engine.images.get("theirs:1") is not None
        assert engine.images.get("debian:bookworm-slim") is not None
    finally:
        engine.containers.remove(holder.id)
        engine.images.remove("theirs:1")
    prune(engine, SILENT, plan_prune(engine, snapshots=True))
    assert made_here(engine) == ()


def test_pulls_on_a_host_show_their_progress(
    here: Engine, debian: str, bookworm_host: Host, bookworm_place: Place, registry: Registry
) -> None:
    """Debian's own registry, pulled by the host over its own network."""
    registry.open_on(bookworm_host)
    name = registry.name("public:1")
    engine = bookworm_place.engine
    make(engine, name, f"FROM debian:bookworm-slim\n{OURS}RUN head -c 9000000 /dev/urandom > /b\n")
    for _ in engine.images.push(name):
        pass
    engine.images.remove(name)
    ref = bookworm_place.ensure(ImageWish(image=name))
    assert ref.fresh
    told = bookworm_place.told
    assert any(unit == "B" and done >= 9_000_000 for _, done, _, unit in told.moves)
    assert any(unit == "layers" for *_, unit in told.moves)
    engine.images.remove(name)


def test_credentials_are_never_on_the_host(
    bookworm_place: Place, bookworm_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_config(tmp_path / "docker", "127.0.0.1:1", monkeypatch)
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:1"):
        bookworm_place.ensure(ImageWish(image="127.0.0.1:1/secret:1"))
    found = bookworm_host.sh("ls -a /root/.docker /home/*/.docker 2>/dev/null; true")
    assert "config.json" not in found
    assert "hush" not in subprocess.run(["ps", "-eww"], capture_output=True, text=True).stdout


def test_rebuild_pulls_its_base_again_where_that_comes_from_a_registry(
    here: Engine, local: Place, debian: str, guarded_registry: Guarded,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base = guarded_registry.name("base:1")
    docker_config(tmp_path / "docker", f"127.0.0.1:{guarded_registry.port}", monkeypatch)

    def publish(text: str) -> None:
        make(here, base, f"FROM {debian}\n{OURS}RUN echo {text} > /version\n")
        for _ in here.images.push(base, auth=ADA):
            pass
        here.images.remove(base)

    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {base}\nRUN cp /version /seen\n")
    wish = ImageWish(image=LocalImage(), folder=folder)
    publish("old")
    assert local.run(local.ensure(wish).id, "cat", "/seen")[1] == b"old\n"
    old = here.images.get(base)
    assert old is not None
    publish("new")
    here.images.tag(old.id, base)
    assert local.run(local.ensure(wish).id, "cat", "/seen")[1] == b"old\n"
    assert local.run(local.ensure(wish, rebuild=True).id, "cat", "/seen")[1] == b"new\n"
    here.images.remove(base, force=True)


def test_a_newer_base_is_told(
    here: Engine, local: Place, debian: str, guarded_registry: Guarded, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base = guarded_registry.name("moving:1")
    docker_config(tmp_path / "docker", f"127.0.0.1:{guarded_registry.port}", monkeypatch)
    ids = []
    for text in ("old", "new"):
        ids.append(make(here, base, f"FROM {debian}\n{OURS}RUN echo {text} > /version\n").id)
        for _ in here.images.push(base, auth=ADA):
            pass
    here.images.tag(ids[0], base)
    image = here.images.get(ids[0])
    assert image is not None
    (found,) = [one for one in newer_bases(here, image, local.told) if one.name == base]
    assert found.kind == "image" and found.has != found.newest
    newest = here.images.get(ids[1])
    assert newest is not None
    assert any(found.newest in digest for digest in newest.digests)
    here.images.remove(base, force=True)
