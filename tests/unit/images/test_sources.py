"""Which files of the context a Dockerfile reads, as far as one has to ask about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.config.models import LocalImage
from remotedl.images.sources import chosen, copied_by, files_read
from remotedl.images.wish import ImageWish


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("FROM x\nRUN y\n", []),
        ("COPY a.txt b.txt /x/\nADD --chown=1:1 c /d\n", ["a.txt", "b.txt", "c"]),
        ("COPY \\\n  # why\n  ./a.txt \\\n b /x\n", ["a.txt", "b"]),
        ('copy ["a b", "c", "/x"]\n', ["a b", "c"]),
        ("COPY --from=build /a /b\nADD https://example.org/x /y\n", []),
        ("COPY ../../etc/passwd /x\n", ["etc/passwd"]),
        ("ONBUILD COPY a /x\n", ["a"]),
        ("COPY . /app\n", ["."]),
        ("COPY $SRC /app\n", ["."]),
        ("COPY <<EOF /app\nx\nEOF\n", ["."]),
        ("RUN --mount=type=bind,target=/x cat /x\n", ["."]),
        ("RUN --mount=target=/x cat /x\n", ["."]),
        ("RUN --mount=type=bind,from=build,target=/x --mount=type=cache,target=/c cat\n", []),
        ("# escape=`\nCOPY a `\n b /x\n", ["."]),
        ("COPY 'a /x\n", ["."]),
    ],
)
def test_what_is_copied(text: str, names: list[str]) -> None:
    assert copied_by(text) == frozenset(names)


def test_names_that_are_meant() -> None:
    names = ["a.py", "src/a.py", "src/deep/b.py", "srcs/c.py", "data/x.csv"]
    assert chosen(names, ["."]) == names
    assert chosen(names, ["src"]) == ["src/a.py", "src/deep/b.py"]
    assert chosen(names, ["*.py"]) == ["a.py"]
    assert chosen(names, ["s*/a.py", "dat?"]) == ["src/a.py", "data/x.csv"]


def test_files_of_a_wish(tmp_path: Path) -> None:
    for name in ("docker/Dockerfile", "src/a.py", "src/big.bin", "requirements.txt", "b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("COPY . /x\n")
    (tmp_path / "src" / ".dockerignore").write_text("*.bin\n")
    wish = ImageWish(
        image=LocalImage(dockerfile="docker/Dockerfile", context="src"),
        folder=tmp_path,
        requirements="requirements.txt",
    )
    recipes, copied = files_read(wish)
    named = [path.relative_to(tmp_path).as_posix() for path in recipes]
    assert named == [
        "requirements.txt",
        "docker/Dockerfile",
        "docker/Dockerfile.dockerignore",
        "src/.dockerignore",
    ]
    assert [path.relative_to(tmp_path).as_posix() for path in copied] == [
        "src/.dockerignore",
        "src/a.py",
    ]
    (tmp_path / ".devcontainer.json").write_text('{"image": "org/x"}')
    assert files_read(ImageWish(image="devcontainer", folder=tmp_path))[0] == (
        tmp_path / ".devcontainer.json",
    )
    assert files_read(ImageWish(image="base", folder=tmp_path)) == ((), ())
