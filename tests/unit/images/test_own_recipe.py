"""`image recipe`: one Dockerfile that stands alone, with all that it copies beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remotedl.errors import UsageError
from remotedl.images import catalogue
from remotedl.images.own_recipe import recipe_files, write_recipe


@pytest.mark.parametrize("name", catalogue.names())
def test_all_that_is_copied_is_there_and_nothing_needs_an_image_of_ours(name: str) -> None:
    files = recipe_files(name)
    text = files["Dockerfile"].decode()
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert any(path == source or path.startswith(source) for path in files), source
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    assert [stage for _, stage in stages] == [
        one.name
        for one in catalogue.lineage(catalogue.find(name)[0])  # type: ignore[index]
    ]
    assert stages[0][0] == "${BASE_IMAGE}" and "remotedl/" not in stages[0][0]
    assert [parent for parent, _ in stages[1:]] == [stage for _, stage in stages[:-1]]
    assert text.startswith("ARG BASE_IMAGE=debian:bookworm-slim\n")


def test_the_arguments_of_a_variant_are_its_defaults() -> None:
    text = recipe_files("pytorch:cu126")["Dockerfile"].decode()
    assert "ARG BASE_IMAGE=nvidia/cuda:12.6" in text
    assert re.search(r"^ARG TORCH_INDEX_URL=\S+/cu126$", text, re.MULTILINE)


def test_it_is_written_once_and_says_what_to_put_into_hosts_toml(tmp_path: Path) -> None:
    folder, lines = write_recipe(tmp_path, "fastai")
    assert (folder / "pytorch/requirements.txt").is_file()
    assert lines == (
        '[project]\nimage = { dockerfile = "docker/fastai/Dockerfile", context = "docker/fastai" }'
    )
    with pytest.raises(UsageError, match="there already"):
        write_recipe(tmp_path, "fastai")


@pytest.mark.parametrize("word", ["pytorhc", "pytorch:cu1", "org/name:1"])
def test_what_is_not_in_the_catalogue_is_named(word: str) -> None:
    with pytest.raises(UsageError):
        recipe_files(word)
