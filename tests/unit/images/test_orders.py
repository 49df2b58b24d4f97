"""The orders for what projects ask for, made of files on the laptop."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.errors import ConfigError
from remotedl.images import catalogue
from remotedl.images.choose import Variant
from remotedl.images.order import failure
from remotedl.images.orders import catalogue_order, local_order, requirements_order, thin_order
from remotedl.images.wish import ImageRef

CPU = Variant("cpu", "debian:bookworm-slim", ("amd64",))


def test_a_catalogue_image_stands_on_its_parent() -> None:
    (base,) = catalogue.lineage(_recipe("base"))
    order = catalogue_order(base, CPU, CPU.base_image, {"BASE_IMAGE": "mine:1"})
    assert order.build_args == {"BASE_IMAGE": "mine:1"}
    assert order.tag.startswith("remotedl/base:")
    assert order.recipe.startswith(order.tag.rpartition(":")[2])
    upper = catalogue_order(_recipe("pytorch"), CPU, order.tag, {"BASE_IMAGE": "mine:1"})
    assert upper.build_args["BASE_IMAGE"] == order.tag


def test_images_of_one_parent_share_it() -> None:
    """Arguments are for the image that declares them; base is the same under all of them."""
    base = _recipe("base")
    tags = {
        catalogue_order(base, variant, "x", {"TENSORFLOW": "mine", "JAX": "mine"}).tag
        for name in catalogue.names()
        for variant in _recipe(name).variants
        if variant.name == "cpu"
    }
    assert len(tags) == 1
    jax = catalogue_order(_recipe("jax"), CPU, "x", {"JAX": "mine", "TENSORFLOW": "other"})
    assert jax.build_args == {"BASE_IMAGE": "x", "JAX": "mine"}


def test_a_readme_is_no_part_of_a_recipe() -> None:
    order = catalogue_order(_recipe("base"), CPU, "x", {})
    assert "README.md" not in {one.name for one in order.context}
    assert "requirements.txt" in {one.name for one in order.context}


def test_recipes_are_the_same_on_laptops_without_modes() -> None:
    for name in catalogue.names():
        order = catalogue_order(_recipe(name), CPU, "x", {})
        modes = {one.mode for one in order.context if not one.name.endswith("/")}
        assert modes == {0o644}


def test_lineage_is_lowest_first() -> None:
    assert [one.name for one in catalogue.lineage(_recipe("fastai"))] == [
        "base",
        "pytorch",
        "fastai",
    ]


def test_words_of_the_catalogue() -> None:
    found = catalogue.find("pytorch:cu126")
    assert found is not None
    assert (found[0].name, found[1]) == ("pytorch", "cu126")
    assert catalogue.find("pytorch/pytorch:2") is None
    assert catalogue.names() == tuple(sorted(catalogue.names()))


def test_the_thin_layer_brings_its_files_and_knows_its_base_by_id() -> None:
    one, other = thin_order("org/x:1", "sha256:1"), thin_order("org/x:1", "sha256:2")
    assert one.tag != other.tag
    assert one.tag.startswith("remotedl/jupyter-on-x-1:")
    names = {file.name for file in one.context}
    assert {"Dockerfile", "recipe/install.sh", "recipe/jupyter/install.sh"} <= names


def test_a_local_dockerfile_may_lie_outside_its_context(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "src" / "a").write_text("a")
    order = local_order(tmp_path, "docker/Dockerfile", "src", "", {})
    assert order.dockerfile_text() == b"FROM x\n"
    assert [one.name for one in order.context] == ["a"]


def test_dockerignore_is_obeyed_and_may_leave_out_the_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "big").write_text("x")
    (tmp_path / ".dockerignore").write_text("big\nDockerfile\n")
    order = local_order(tmp_path, "Dockerfile", ".", "", {})
    assert [one.name for one in order.context] == [".dockerignore"]
    assert order.dockerfile_text() == b"FROM x\n"


def test_what_remotedl_keeps_in_a_project_is_no_part_of_its_image(tmp_path: Path) -> None:
    """Or each `up` after a sync would build another one, and make the container anew."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . .\n")
    before = local_order(tmp_path, "Dockerfile", ".", "", {})
    (tmp_path / ".remotedl" / "trash").mkdir(parents=True)
    (tmp_path / ".remotedl" / "trash" / "old.bin").write_text("x")
    after = local_order(tmp_path, "Dockerfile", ".", "", {})
    assert after.recipe == before.recipe
    assert [one.name for one in after.context] == ["Dockerfile"]


def test_a_local_dockerfile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        local_order(tmp_path, "Dockerfile", ".", "", {})
    with pytest.raises(ConfigError, match="is no folder"):
        local_order(tmp_path, "Dockerfile", "nope", "", {})


def test_a_folder_of_any_name_gives_a_name_that_docker_takes(tmp_path: Path) -> None:
    folder = tmp_path / "Mein Übungs_Projekt (2)"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM x\n")
    tag = local_order(folder, "Dockerfile", ".", "", {}).tag
    assert tag.startswith("remotedl/mein-bungs-projekt-2:")


def test_other_requirements_are_another_image() -> None:
    ref = ImageRef("remotedl/base:1", "sha256:1", recipe="r")
    one, left_out = requirements_order(ref, "requirements.txt", "numpy\n")
    more, _ = requirements_order(ref, "requirements.txt", "numpy\nrich\n")
    assert left_out == () and one.tag != more.tag


def test_what_fails_in_a_dockerfile_of_ours_is_mended_elsewhere() -> None:
    ref = ImageRef("remotedl/base:1", "sha256:1", recipe="r")
    order, _ = requirements_order(ref, "requirements.txt", "nosuch\n")
    error = failure(order, "RUN sh   install.sh", 4, "exit code: 1", ["No matching distribution"])
    assert error.hint == "mend requirements.txt, then: remotedl up"
    assert "Dockerfile" not in error.message and "failed at RUN sh install.sh" in error.message


def _recipe(name: str) -> catalogue.Recipe:
    found = catalogue.find(name)
    assert found is not None
    return found[0]
