"""What is read out of a Dockerfile, and what a recipe's hash hangs on."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from remotedl.errors import ImageNotFound
from remotedl.images.order import (
    Order,
    Sources,
    base_images,
    failure,
    instruction_lines,
    no_base,
    unbuilt,
)
from remotedl.images.recipe import (
    ContextFile,
    context_files,
    context_tar,
    recipe_hash,
    without_mounts,
)

DOCKERFILE = """\
# a comment
ARG BASE_IMAGE=debian:12
ARG TAG="1"
FROM ${BASE_IMAGE} AS build

RUN one \\
 # a comment inside
 && two
FROM --platform=linux/amd64 registry.example:5000/x:$TAG
COPY --from=build /a /a
FROM build
FROM ${NOWHERE:-alpine}
"""


def test_the_images_that_it_starts_from() -> None:
    assert base_images(DOCKERFILE, {}) == {
        "debian:12": 4,
        "registry.example:5000/x:1": 9,
        "alpine": 12,
    }
    given = base_images(DOCKERFILE, {"BASE_IMAGE": "scratch", "TAG": "2"})
    assert given == {"registry.example:5000/x:2": 9, "alpine": 12}


def test_the_lines_that_instructions_begin_on() -> None:
    assert instruction_lines(DOCKERFILE) == (2, 3, 4, 6, 9, 10, 11, 12)


def test_a_failure_tells_the_line_the_reason_and_the_last_words() -> None:
    said = [f"line {number}" for number in range(50)]
    error = failure(Order("mine", "t", "r"), "RUN two", 6, "exit code: 1\n", said)
    assert "Dockerfile:6, RUN two: exit code: 1\n" in error.message
    assert error.message.endswith("line 49")
    assert "line 10" not in error.message


MINE = replace(
    Order("mine", "remotedl/mine:0123", "r"), replaced={"Dockerfile": DOCKERFILE.encode()}
)


@pytest.mark.parametrize(
    ("step", "where"),
    [
        (
            "[internal] load metadata for docker.io/library/debian:12",
            "Dockerfile:4, FROM debian:12",
        ),
        (
            "[internal] load metadata for docker.io/library/alpine:latest",
            "Dockerfile:12, FROM alpine",
        ),
        ("FROM registry.example:5000/x:1", "Dockerfile:9, FROM registry.example:5000/x:1"),
    ],
)
def test_a_base_image_that_is_not_there_is_named_as_the_dockerfile_has_it(
    step: str, where: str
) -> None:
    error = no_base(MINE, step, "manifest unknown")

    assert isinstance(error, ImageNotFound) and where in error.message
    assert "0123" not in error.message and error.hint == "mend that line, then: remotedl up"


def test_a_base_image_out_of_reach_is_one_to_fetch_another_way() -> None:
    error = no_base(MINE, "FROM debian:12", "dial tcp: lookup r: no such host")

    assert "remotedl image load debian:12" in error.hint


@pytest.mark.parametrize(
    "why",
    [
        "Dockerfile:2; ---; ERROR: failed to solve: dockerfile parse error on line 2: unknown "
        "instruction: RUNN (did you mean RUN?)",
        "dockerfile parse error line 2: unknown instruction: RUNN",
    ],
)
def test_a_dockerfile_that_cannot_be_read_is_told_by_its_line(why: str) -> None:
    error = unbuilt(MINE, why)

    assert "failed at Dockerfile:2: unknown instruction: RUNN" in error.message
    assert error.hint == "mend that line, then: remotedl up"


def test_whatever_else_a_builder_says_has_a_next_command() -> None:
    assert unbuilt(MINE, "the Dockerfile cannot be empty").hint


@pytest.mark.parametrize("said", [
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip."
    "HTTPSConnection object>: Failed to establish a new connection: [Errno 101] Network is "
    "unreachable')': /simple/torch/",
    "W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure "
    "resolving 'deb.debian.org'",
    "fatal: unable to access 'https://github.com/x/': Could not resolve host: github.com",
])  # fmt: skip
def test_a_build_without_a_way_out_is_told_the_ways_there_are(said: str) -> None:
    order = Order("x", "remotedl/x:1", "1")

    assert "--via-laptop" in failure(order, "RUN pip", 3, "exit code: 1", [said, "the end"]).hint
    assert "mend that line" in failure(order, "RUN pip", 3, "exit code: 1", ["the end"]).hint


def test_mounts_are_taken_out_for_the_classic_builder() -> None:
    text = (
        b"RUN --mount=type=cache,target=/c,id=x \\\n"
        b"    --mount=type=secret,id=pip,target=/etc/pip.conf \\\n"
        b"    umask 0 \\\n && pip install x\n"
        b"RUN --mount=type=tmpfs,target=/t make\n"
    )
    assert without_mounts(text) == b"RUN umask 0 \\\n && pip install x\nRUN make\n"


def test_a_proxy_goes_by_the_names_that_leave_no_trace() -> None:
    assert Sources().proxy_args == {}
    assert set(Sources(proxy="http://p:1").proxy_args) == {
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
    }


@pytest.mark.parametrize(("proxy", "host"), [
    ("http://user:hush@127.0.0.1:3128", True),
    ("http://localhost:3128", True),
    ("http://[::1]:3128", True),
    ("http://proxy.example:3128", False),
    ("", False),
])  # fmt: skip
def test_a_proxy_on_the_hosts_loopback_takes_the_hosts_network(proxy: str, host: bool) -> None:
    assert Sources(proxy=proxy).host_network is host


def test_secrets_are_not_in_a_repr() -> None:
    assert "hush" not in repr(Sources(pip_index="https://u:hush@x", proxy="http://u:hush@y"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "sub" / "run.sh").chmod(0o750)
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt").chmod(0o600)
    os.symlink("a.txt", tmp_path / "link")
    return tmp_path


def files(folder: Path) -> tuple[ContextFile, ...]:
    return context_files(folder, left_out=lambda name: False)


def hashed(folder: Path, **more: object) -> str:
    given = {"dockerfile": "Dockerfile", "build_args": {}, "parent": "p", "written": {}} | more
    return recipe_hash(files(folder), **given)  # type: ignore[arg-type]


def test_a_context_has_no_owner_no_time_and_plain_modes(folder: Path) -> None:
    archive = b"".join(context_tar(files(folder), {"Dockerfile": b"FROM x"}))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {one.name: one for one in tar}
    assert sorted(found) == ["Dockerfile", "a.txt", "link", "sub", "sub/run.sh"]
    assert found["a.txt"].mode == 0o644
    assert found["sub/run.sh"].mode == 0o755
    assert found["link"].linkname == "a.txt"
    assert {(one.uid, one.mtime) for one in found.values()} == {(0, 0)}


def test_the_same_content_has_the_same_hash_whatever_the_umask(folder: Path) -> None:
    before = hashed(folder)
    (folder / "a.txt").chmod(0o666)
    os.utime(folder / "a.txt", (1, 1))
    assert hashed(folder) == before


@pytest.mark.parametrize("change", ["content", "mode", "name", "link"])
def test_each_change_of_the_context_is_another_hash(folder: Path, change: str) -> None:
    before = hashed(folder)
    if change == "content":
        (folder / "a.txt").write_text("TEXT")
    elif change == "mode":
        (folder / "a.txt").chmod(0o700)
    elif change == "name":
        (folder / "a.txt").rename(folder / "b.txt")
    else:
        (folder / "link").unlink()
        os.symlink("sub", folder / "link")
    assert hashed(folder) != before


def test_arguments_parent_and_written_files_are_in_the_hash(folder: Path) -> None:
    seen = {
        hashed(folder),
        hashed(folder, build_args={"A": "1"}),
        hashed(folder, parent="q"),
        hashed(folder, written={"x": b"1"}),
        hashed(folder, written={"x": b"2"}),
        hashed(folder, dockerfile="D"),
    }
    assert len(seen) == 6
