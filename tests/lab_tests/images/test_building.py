"""A project's own images on real engines: the classic builder (bookworm) and buildx (trixie)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from remotedl.config.models import LocalImage
from remotedl.errors import BuildFailed, ConfigError, EngineError, ImageNotFound, ImageUnfit
from remotedl.images import HostCapabilities, ImageRef, ImageWish
from remotedl.images.buildx import has_buildx
from remotedl.images.keeping import made_here
from tests.lab_tests.images.conftest import OURS, Place

pytestmark = pytest.mark.lab

Project = Callable[[dict[str, str]], Path]
LOCAL = LocalImage()


def wish(folder: Path, **more: object) -> ImageWish:
    return ImageWish(image=LOCAL, folder=folder, **more)  # type: ignore[arg-type]


def test_each_host_has_the_builder_that_it_is_tested_for(
    bookworm_place: Place, trixie_place: Place
) -> None:
    through_sudo = HostCapabilities(docker_sudo=True)
    assert not has_buildx(bookworm_place.remote, through_sudo)
    assert has_buildx(trixie_place.remote, through_sudo)


def test_a_dockerfile_is_built_once(place: Place, project: Project) -> None:
    folder = project(
        {
            "Dockerfile": "FROM debian:bookworm-slim\nARG WHO=nobody\n"
            f"COPY sub/ /srv/\nRUN echo hello $WHO > /srv/who\n{OURS}",
            "sub/run.sh": "#!/bin/sh\necho ran\n",
            "left-out": "x",
            ".dockerignore": "left-out\n",
        }
    )
    first = place.ensure(wish(folder, build_args={"WHO": "you"}))
    assert first.fresh
    assert any("hello" in line for line in place.told.lines)
    assert any(unit == "steps" and total for _, _, total, unit in place.told.moves)
    assert place.run(first.reference, "cat", "/srv/who", "/srv/run.sh")[1].startswith(
        b"hello you\n"
    )
    second = place.ensure(wish(folder, build_args={"WHO": "you"}))
    assert not second.fresh
    assert not place.told.built
    assert second.id == first.id
    (folder / "left-out").write_text("changed")
    assert not place.ensure(wish(folder, build_args={"WHO": "you"})).fresh
    (folder / "sub" / "more").write_text("changed")
    third = place.ensure(wish(folder, build_args={"WHO": "you"}))
    assert third.fresh
    assert third.id != first.id


def test_a_dockerfile_that_fails_tells_its_line_and_its_last_words(
    place: Place, project: Project
) -> None:
    folder = project(
        {
            "Dockerfile": "FROM debian:bookworm-slim\n\n# a comment\n"
            "RUN for i in $(seq 30); do echo line $i; done; \\\n    echo the end; exit 3\n"
        }
    )
    before = made_here(place.engine)
    with pytest.raises(BuildFailed) as caught:
        place.ensure(wish(folder))
    assert "Dockerfile:4, RUN for i in" in caught.value.message
    assert "line 30" in caught.value.message
    assert caught.value.message.rstrip().endswith("the end")
    assert "line 5\n" not in caught.value.message
    assert re.search(r"(code: 3|exit code: 3)", caught.value.message)
    assert "remotedl up" in caught.value.hint
    assert made_here(place.engine) == before


def test_a_dockerfile_that_is_none(place: Place, project: Project) -> None:
    with pytest.raises(BuildFailed, match=r"(?i)unknown instruction"):
        place.ensure(wish(project({"Dockerfile": "FROM debian:bookworm-slim\nRUNN x\n"})))


def test_a_base_image_that_cannot_be_had(place: Place, project: Project) -> None:
    with pytest.raises(EngineError) as caught:
        place.ensure(wish(project({"Dockerfile": "FROM 127.0.0.1:1/nope:1\n"})))
    assert "127.0.0.1:1/nope:1" in caught.value.message


def test_no_disk_and_nothing_is_begun(place: Place, project: Project) -> None:
    folder = project({"Dockerfile": f"FROM debian:bookworm-slim\n{OURS}RUN echo no disk\n"})
    with pytest.raises(EngineError, match=r"has 0\.0 GB left") as caught:
        place.ensure(wish(folder), disk_free=1000)
    assert caught.value.hint == "remotedl image prune"
    assert not place.told.lines


def test_the_disk_is_looked_at(place: Place) -> None:
    from remotedl.images.disk import free_bytes

    free = free_bytes(place.remote, place.engine.report().root_dir)
    assert free is not None
    assert free > 1_000_000


SHOWS_INDEX = """\
FROM debian:bookworm-slim
ARG PIP_INDEX_URL
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \\
    echo "conf: $(cat /etc/pip.conf 2>/dev/null) env: $PIP_INDEX_URL proxy: $http_proxy"
"""
HUSH = "https://me:hush-hush@pip.example/simple"


def test_an_index_with_a_password_leaves_no_trace_with_buildx(
    trixie_place: Place, project: Project
) -> None:
    place = trixie_place
    folder = project({"Dockerfile": SHOWS_INDEX + OURS})
    proxy = "http://me:proxy-hush@proxy.example:3128"
    ref = place.ensure(wish(folder, pip_index=HUSH, proxy=proxy))
    told = "\n".join(place.told.lines)
    assert f"index-url = {HUSH}" in told
    assert f"proxy: {proxy}" in told
    assert "hush" not in everything_about(place, ref)
    code, said = place.run(ref.reference, "grep", "-rIl", "hush-hush", "/etc", user="0")
    assert (code, said) == (1, b"")
    assert place.remote.sudo(["sh", "-c", "ls -d /dev/shm/remotedl.* /tmp/tmp.*"], check=False).code
    again = place.ensure(wish(folder, pip_index="https://other.example", proxy="http://other"))
    assert not again.fresh, "where packages come from is no part of what an image is"


def test_an_index_with_a_password_is_refused_by_the_classic_builder(
    bookworm_place: Place, project: Project
) -> None:
    folder = project({"Dockerfile": SHOWS_INDEX + OURS})
    with pytest.raises(EngineError, match="holds a password") as caught:
        bookworm_place.ensure(wish(folder, pip_index=HUSH))
    assert "hush-hush" not in caught.value.message
    proxy = "http://me:proxy-hush@proxy.example:3128"
    ref = bookworm_place.ensure(wish(folder, pip_index="https://pip.example/simple", proxy=proxy))
    told = "\n".join(bookworm_place.told.lines)
    assert "env: https://pip.example/simple" in told
    assert f"proxy: {proxy}" in told
    assert "hush" not in everything_about(bookworm_place, ref)


def everything_about(place: Place, ref: ImageRef) -> str:
    """What any user of the engine sees of an image."""
    history = " ".join(line.created_by for line in place.engine.images.history(ref.reference))
    return history + str(place.engine.images.get(ref.reference))


def test_a_devcontainer(place: Place, project: Project) -> None:
    dockerfile = (
        f"ARG BASE\nFROM $BASE AS one\n{OURS}RUN touch /one\nFROM one AS two\nRUN touch /two\n"
    )
    table = {
        "build": {
            "dockerfile": "Dockerfile",
            "context": "..",
            "target": "one",
            "args": {"BASE": "debian:bookworm-slim"},
        },
        "forwardPorts": [3000],
        "postCreateCommand": "pip install -e .",
        "features": {},
    }
    folder = project(
        {
            ".devcontainer/devcontainer.json": json.dumps(table),
            ".devcontainer/Dockerfile": dockerfile,
        }
    )
    ref = place.ensure(ImageWish(image="devcontainer", folder=folder))
    assert ref.forward_ports == (3000,)
    assert ref.post_create == "pip install -e ."
    assert any("features" in warning for warning in place.told.warnings)
    assert place.run(ref.reference, "ls", "/one", "/two")[0] != 0
    assert place.run(ref.reference, "ls", "/one")[0] == 0


def test_a_devcontainer_that_is_not_there(local: Place, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \.devcontainer/devcontainer\.json"):
        local.ensure(ImageWish(image="devcontainer", folder=tmp_path))


def test_an_image_for_another_machine(local: Place, debian: str) -> None:
    with pytest.raises(ImageUnfit, match="is built for amd64; the host is arm64"):
        local.ensure(ImageWish(image=debian), architecture="arm64")


def test_a_foreign_image_with_too_new_a_cuda(local: Place, project: Project, debian: str) -> None:
    folder = project({"Dockerfile": f"FROM {debian}\nENV CUDA_VERSION=13.0.1\n{OURS}"})
    image = local.ensure(wish(folder)).reference
    with pytest.raises(ImageUnfit, match=r"runs CUDA 12\.2 at most"):
        local.ensure(ImageWish(image=image), driver="535.54.03", gpus=1)
    assert local.ensure(ImageWish(image=image), driver="580.65.06", gpus=1).reference == image
    assert local.ensure(ImageWish(image=image, gpus=False), driver="535.54.03", gpus=1)


def test_an_unknown_word_is_not_pulled_in_silence(local: Place) -> None:
    with pytest.raises((ImageNotFound, EngineError), match="did you mean pytorch"):
        local.ensure(ImageWish(image="pytroch"))


def test_rebuild_takes_nothing_from_the_cache(place: Place, project: Project) -> None:
    random = "RUN head -c 16 /dev/urandom > /made\n"
    folder = project({"Dockerfile": f"FROM debian:bookworm-slim\n{OURS}{random}"})
    first, again = place.ensure(wish(folder)), place.ensure(wish(folder))
    assert (first.id, first.fresh, again.fresh) == (again.id, True, False)
    other = place.ensure(wish(folder), rebuild=True)
    assert other.fresh and other.id != first.id
    made = [place.run(ref.id, "cat", "/made")[1] for ref in (first, other)]
    assert made[0] != made[1], "the step itself ran again"
