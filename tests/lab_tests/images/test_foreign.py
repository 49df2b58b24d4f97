"""Images that are not ours get Jupyter, TensorBoard and a supervisor, and stay what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from remotedl.config.models import LocalImage
from remotedl.errors import BuildFailed
from remotedl.images import ImageRef, ImageWish
from tests.lab.images import standin_image
from tests.lab_tests.images.conftest import Place

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]

Project = Callable[[dict[str, str]], Path]
TOOLS = ("jupyter", "tensorboard", "supervisord", "supervisorctl", "python")
NOTEBOOK = json.dumps(
    {
        "cells": [
            {
                "cell_type": "code",
                "id": "a",
                "metadata": {},
                "outputs": [],
                "execution_count": None,
                "source": "import sys; print(sys.executable)",
            }
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
)


def kernels_python(place: Place, ref: ImageRef) -> str:
    """Which Python runs the cells of a notebook."""
    run = (
        f"cd /tmp && export HOME=/tmp && echo '{NOTEBOOK}' > n.ipynb && "
        "/opt/remotedl/bin/jupyter execute --inplace n.ipynb 2>/dev/null; cat n.ipynb"
    )
    code, said = place.run(ref.reference, "sh", "-c", run)
    assert code == 0, said
    (output,) = json.loads(said)["cells"][0]["outputs"]
    return "".join(output["text"]).strip()


def test_an_image_without_python_gets_its_jupyter(local: Place) -> None:
    ref = local.ensure(ImageWish(image=standin_image("bookworm")))
    assert ref.fresh or not local.told.built
    for tool in TOOLS:
        assert local.run(ref.reference, f"/opt/remotedl/bin/{tool}", "--help")[0] == 0
    assert kernels_python(local, ref) == "/opt/remotedl/bin/python"
    assert_documents_are_merged(local, ref)
    assert not local.ensure(ImageWish(image=standin_image("bookworm"))).fresh


def assert_documents_are_merged(place: Place, ref: ImageRef) -> None:
    """As in our own images; what it does is tested in test_jupyter.py."""
    run = (
        "cd /tmp && export HOME=/tmp && "
        "/opt/remotedl/bin/jupyter server extension list 2>&1; "
        "/opt/remotedl/bin/jupyter labextension list 2>&1; "
        "/opt/remotedl/bin/python -c 'import remotedl_documents, remotedl_merge' && echo found"
    )
    code, said = place.run(ref.reference, "sh", "-c", run)
    assert code == 0, said
    lines = said.decode().splitlines()
    for name, state in (("remotedl_jupyter", "OK"), ("remotedl-notice", "OK"), ("found", "")):
        assert any(name in line and state in line for line in lines), said


def test_the_images_own_python_is_the_kernel_and_gets_the_requirements(
    local: Place, project: Project
) -> None:
    """With a Python that has neither venv nor pip, and that its distribution guards against pip;
    the user's PATH stays as it was."""
    folder = project(
        {
            "Dockerfile": f"FROM {standin_image('bookworm')}\n"
            "RUN apt-get update && apt-get install -y --no-install-recommends python3\n",
            "requirements.txt": "iniconfig==2.1.0\n",
        }
    )
    wish = ImageWish(image=LocalImage(), folder=folder, requirements="requirements.txt")
    ref = local.ensure(wish)
    assert kernels_python(local, ref) == "/usr/bin/python3"
    found = "import sys, iniconfig; print(sys.executable, iniconfig.__file__)"
    code, said = local.run(ref.reference, "python3", "-c", found)
    assert code == 0
    assert said.startswith(b"/usr/bin/python3 /usr/")
    assert not local.ensure(wish).fresh


def test_requirements_on_an_image_without_python(local: Place, project: Project) -> None:
    """They go where the notebooks run, which is Jupyter's own Python then."""
    folder = project({"requirements.txt": "iniconfig==2.1.0\n"})
    wish = ImageWish(
        image=standin_image("bookworm"), folder=folder, requirements="requirements.txt"
    )
    ref = local.ensure(wish)
    assert kernels_python(local, ref) == "/opt/remotedl/bin/python"
    show = ("/opt/remotedl/bin/python", "-c", "import iniconfig")
    assert local.run(ref.reference, *show)[0] == 0


def test_an_image_that_nothing_can_be_installed_in(local: Place, project: Project) -> None:
    folder = project(
        {
            "Dockerfile": f"FROM {standin_image('bookworm')} AS full\nRUN rm /usr/bin/apt-get\n"
            "FROM scratch\nCOPY --from=full /bin /bin\nCOPY --from=full /lib /lib\n"
            "COPY --from=full /lib64 /lib64\n"
        }
    )
    with pytest.raises(BuildFailed, match="no package manager to get one with"):
        local.ensure(ImageWish(image=LocalImage(), folder=folder))


def test_requirements_on_an_image_of_ours(local: Place, base: ImageRef, project: Project) -> None:
    folder = project(
        {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["iniconfig==2.1.0"]\n'}
    )
    wish = ImageWish(
        folder=folder,
        build_args={"BASE_IMAGE": standin_image("bookworm")},
        requirements="pyproject.toml",
    )
    ref = local.ensure(wish)
    assert ref.reference != base.reference
    show = "import sys, iniconfig; print(sys.executable)"
    assert local.run(ref.reference, "python", "-c", show) == (0, b"/opt/remotedl/bin/python\n")
    assert not local.ensure(wish).fresh
