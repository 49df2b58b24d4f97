"""A project's packages, out of the three files that people write them into."""

from __future__ import annotations

import pytest

from remotedl.errors import ConfigError
from remotedl.images.requirements import read


def test_requirements_txt() -> None:
    found = read(
        "requirements.txt", "# a\nnumpy>=2\n\n--extra-index-url https://x\ntorch \\\n ==2\n"
    )
    assert found.lines == ("numpy>=2", "--extra-index-url https://x", "torch  ==2")


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
        "tqdm",
        "fastai==2.8.12",
        "rich>=13",
    )
    assert found.left_out == ("cudatoolkit=11.8", "libgcc", "python=3.10")


def test_yaml_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read("environment.yml", "dependencies:\n  {a: b}\n")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_marked_file_is_read_by_its_mark(encoding: str) -> None:
    data = "numpy==1.26.4  \r\nrich>=13\r\n".encode(encoding)
    assert read("requirements.txt", data).lines == ("numpy==1.26.4", "rich>=13")


def test_a_coding_comment_is_obeyed_and_other_bytes_are_refused() -> None:
    data = "# coding: latin-1\n# f\xfcr\nrich\n".encode("latin-1")
    assert read("requirements.txt", data).lines == ("rich",)
    with pytest.raises(ConfigError, match="is not utf-8"):
        read("requirements.txt", b"rich # f\xfcr\n")


def test_a_mark_does_not_hide_what_points_at_other_files() -> None:
    with pytest.raises(ConfigError, match="further files"):
        read("requirements.txt", "\ufeff-r base.txt\nrich")


@pytest.mark.parametrize(
    "line",
    [
        *("libs/mine", "file:///x", "a @ file:///x", "a @ ./x", "-e git+file:///x", "x-1.0.whl"),
        *("-rbase.txt", "--find-links wheels", "~/x", "C:\\x"),
    ],
)
def test_paths_of_the_laptop_are_refused_in_each_file(line: str) -> None:
    for name, text in (
        ("requirements.txt", f"rich\n{line}\n"),
        ("environment.yml", f"dependencies:\n- pip:\n  - {line}\n"),
    ):
        with pytest.raises(ConfigError, match="further files"):
            read(name, text)


def test_repositories_and_addresses_are_pips_own() -> None:
    url = "git+https://h.example/team/t.git@0123abc#egg=t"
    text = f"-e {url}\nx @ https://h.example/x-1.0.whl\nhttps://h.example/y.whl\n# end \\\nrich"
    assert read("requirements.txt", text).lines == (
        *(url, "x @ https://h.example/x-1.0.whl", "https://h.example/y.whl", "rich"),
    )


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("rich 13.7.1", "rich==13.7.1"),
        ("rich 13.7.1 pyhd8ed1ab_0", "rich==13.7.1"),
        ("rich 13.*", "rich==13.*"),
        ("rich=13.7", "rich==13.7.*"),
        ("rich==13.7.1=pyh_0", "rich==13.7.1"),
        ("rich >= 13, <14", "rich>=13,<14"),
        ("rich!=13.1", "rich!=13.1"),
        ("pytorch=*=cuda*", "torch"),
        ("pytorch * cuda*", "torch"),
        ("conda-forge/linux-64::rich=13", "rich==13.*"),
        ("librosa", "librosa"),
        ("xz=5.4.6=h5eee18b_0", ""),
        ("anything=1.0=h06a4308_0", ""),
        ("cuda-nvcc", ""),
    ],
)
def test_a_spec_of_condas_never_becomes_another_name(spec: str, line: str) -> None:
    found = read("environment.yml", f"dependencies:\n  - {spec}\n")
    assert (found.lines, found.left_out) == ((line,), ()) if line else ((), (spec,))


@pytest.mark.parametrize("spec", ["rich 13|14", "rich[version='>=13']", "rich abc", "rich 1 2 3"])
def test_a_spec_that_pip_cannot_say_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="rich"):
        read("environment.yml", f"dependencies:\n  - {spec}\n")


def test_lists_in_brackets() -> None:
    for text in (
        "dependencies: [python=3.10, 'numpy', \"pandas>=2,<3\"]  # all",
        "dependencies: [python=3.10,\n  numpy, # one\n  'pandas>=2,<3',\n]\nname: x",
        "dependencies:\n- python=3.10\n- pip: [numpy, 'pandas>=2,<3']",
    ):
        found = read("environment.yml", text)
        assert (found.lines, found.left_out) == (("numpy", "pandas>=2,<3"), ("python=3.10",))


@pytest.mark.parametrize("text", ["name: x\n", "dependencies: [a, {pip: [b]}]\n", ""])
def test_an_environment_is_never_nothing_at_all(text: str) -> None:
    with pytest.raises(ConfigError, match=r"environment\.yml"):
        read("environment.yml", text)
