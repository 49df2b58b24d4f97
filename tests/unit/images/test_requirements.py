"""A project's packages, out of the three files that people write them into."""

from __future__ import annotations

import pytest

from remotedl.errors import ConfigError
from remotedl.images.requirements import read


def test_requirements_txt() -> None:
    found = read(
        "requirements.txt", "# a\nnumpy>=2\n\n--extra-index-url https://x\ntorch \\\n ==2\n"
    )
    assert found.lines == ("numpy>=2", "--extra-index-url https://x", "torch   ==2")


@pytest.mark.parametrize("line", ["-r more.txt", "-e .", "./local", "--constraint c.txt"])
def test_what_points_at_other_files_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="further files"):
        read("requirements.txt", f"numpy\n{line}\n")


def test_pyproject_toml() -> None:
    text = '[project]\nname = "x"\ndependencies = ["numpy>=2", "rich; python_version>\'3.9\'"]\n'
    assert read("pyproject.toml", text).lines == ("numpy>=2", "rich; python_version>'3.9'")


def test_pyproject_toml_without_dependencies() -> None:
    with pytest.raises(ConfigError, match=r"no project\.dependencies"):
        read("pyproject.toml", "[tool.poetry.dependencies]\nnumpy = '*'\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read("pyproject.toml", "[")


def test_environment_yml() -> None:
    found = read(
        "environment.yml",
        """
name: course
channels:
  - pytorch
  - defaults
dependencies:
  - python=3.10
  - numpy=1.26=py310h_0   # build
  - pandas >=2
  - pytorch::pytorch=2.1
  - opencv
  - cudatoolkit=11.8
  - libgcc
  - "seaborn"
  - pip:
    - fastai==2.8.12
    - "rich>=13"
  - tqdm
prefix: /home/me/x
""",
    )
    assert found.lines == (
        "numpy==1.26.*",
        "pandas>=2",
        "torch==2.1.*",
        "opencv-python-headless",
        "seaborn",
        "fastai==2.8.12",
        "rich>=13",
        "tqdm",
    )
    assert found.left_out == ("cudatoolkit=11.8", "libgcc", "python=3.10")


def test_yaml_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read("environment.yml", "dependencies:\n  {a: b}\n")
