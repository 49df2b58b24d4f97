"""The recipes themselves: one folder each, nothing that belongs to one machine, sizes named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remotedl.images import catalogue

DOCKERFILES = Path(__file__).parents[3] / "dockerfiles"
FOLDERS = sorted(path.name for path in DOCKERFILES.iterdir() if path.is_dir())


def test_every_recipe_has_a_folder_and_every_folder_a_recipe() -> None:
    assert sorted([*catalogue.names(), "thin"]) == FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_each_has_its_parts(name: str) -> None:
    folder = DOCKERFILES / name
    text = (folder / "Dockerfile").read_text()
    assert (folder / "README.md").read_text().startswith(f"# {name}\n")
    assert (folder / "requirements.txt").is_file()
    assert f"remotedl.catalogue={name}" in text
    assert re.search(r"^ARG BASE_IMAGE=", text, re.M)
    assert "ARG PIP_INDEX_URL" in text


@pytest.mark.parametrize("name", FOLDERS)
def test_no_package_host_and_no_syntax_line_to_fetch(name: str) -> None:
    text = (DOCKERFILES / name / "Dockerfile").read_text()
    assert "pypi" not in text
    assert "# syntax=" not in text


@pytest.mark.parametrize("name", [name for name in FOLDERS if name != "thin"])
def test_every_requirement_has_a_version_that_was_tried(name: str) -> None:
    locked = set()
    for recipe in catalogue.lineage(_recipe(name)):
        text = (DOCKERFILES / recipe.name / "constraints.txt").read_text()
        locked |= {_name(line) for line in text.splitlines() if "==" in line}
    wanted = (DOCKERFILES / name / "requirements.txt").read_text().splitlines()
    asked = {_name(line) for line in wanted if line and not line.startswith("#")}
    assert asked - locked - {"setuptools"} == set()


@pytest.mark.parametrize("recipe", catalogue.RECIPES, ids=lambda recipe: recipe.name)
def test_gpu_variants_are_pinned_and_sizes_grow_upwards(recipe: catalogue.Recipe) -> None:
    assert [variant.name for variant in recipe.variants] == ["cpu", "cu126", "cu130"]
    for variant in recipe.variants[1:]:
        assert re.search(r"nvidia/cuda:[\d.]+-runtime-.*@sha256:[0-9a-f]{64}$", variant.base_image)
    assert 0 < recipe.cpu_size < recipe.gpu_size
    for parent in catalogue.lineage(recipe)[:-1]:
        assert parent.cpu_size < recipe.cpu_size


def _name(line: str) -> str:
    name = re.split(r"[<>=!~;\[ ]", line.strip(), maxsplit=1)[0]
    return name.lower().replace("_", "-")


def _recipe(name: str) -> catalogue.Recipe:
    found = catalogue.find(name)
    assert found is not None
    return found[0]


def test_no_program_of_an_image_listens_on_all_addresses() -> None:
    """Its port would be open to the host's other containers and users; the door needs loopback."""
    files = [path for path in DOCKERFILES.rglob("*") if path.is_file()]
    told = {path.name: path.read_text(encoding="utf-8") for path in files}
    assert "display.sh" in told
    for name, text in told.items():
        assert not re.search(r"0\.0\.0\.0|^EXPOSE|--bind[= ]?all|--ip=\*", text, re.M), name
