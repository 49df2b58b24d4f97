"""--image, --gpus and env_file: what is taken and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotedl.config.models import Config, HostConfig, ProjectConfig
from remotedl.config.places import Places
from remotedl.errors import ConfigError, UsageError
from remotedl.session.envfile import parse_env, read_env_file
from remotedl.session.gpu_watch import gpu_lines
from remotedl.session.options import with_overrides
from remotedl.session.project import Project
from remotedl.session.tunnels import Want, wanted_tunnels

HOST = HostConfig(address="x")
PROJECT = Project(Path("/p"), "0" * 16, Config(), None)


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("all", "all"),
        ("none", "none"),
        ("2", 2),
        ("0,3", (0, 3)),
        ("0,", (0,)),
        ("auto:1", "auto:1"),
    ],
)
def test_gpus_on_the_command_line(text: str, gpus: object) -> None:
    host, _ = with_overrides(HOST, PROJECT, image=None, gpus=text)
    assert host.gpus == gpus


@pytest.mark.parametrize("text", ["some", "0", "a,b", ",", "auto:0", "-1"])
def test_bad_gpus_are_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--gpus"):
        with_overrides(HOST, PROJECT, image=None, gpus=text)


def test_image_on_the_command_line_leaves_the_rest() -> None:
    _, project = with_overrides(HOST, PROJECT, image="fastai", gpus=None)
    assert project.config.project == ProjectConfig(image="fastai")


def test_env_file_quotes_export_and_comments() -> None:
    text = "# c\n\nexport A=1\nB='two words'\nC=\"x=y\"\nD=\n"
    assert parse_env(text, "f") == {"A": "1", "B": "two words", "C": "x=y", "D": ""}


def test_a_bad_env_line_is_named_by_number_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_env("A=1\nsecret-without-name", ".env")
    assert caught.value.message.startswith(".env:2:")
    assert "secret" not in caught.value.message


def test_a_missing_env_file_is_an_error(tmp_path: Path) -> None:
    assert read_env_file(Places(tmp_path), None) == {}
    with pytest.raises(ConfigError, match="cannot be read"):
        read_env_file(Places(tmp_path), ".env")


def test_tunnels_that_the_configuration_asks_for() -> None:
    project = ProjectConfig(ports=("5000", "15001:5001"))
    wants = wanted_tunnels(project, HostConfig(address="x", ports=("9000:9001",)))
    assert wants == [
        Want("Jupyter", 8888, 8888),
        Want("TensorBoard", 6006, 6006),
        Want("port 5000", 5000, 5000),
        Want("port 5001", 15001, 5001),
        Want("host port 9001", 9000, None, 9001),
    ]


def test_gpu_lines_of_nvidia_smi() -> None:
    csv = "0, NVIDIA H100 80GB HBM3, 12, 3174, 81559\n1, Orin, 0, [N/A], [N/A]\n"
    assert gpu_lines(csv, {}) == (
        "0 NVIDIA H100 80GB HBM3  12 %  3.1 of 80 GiB",
        "1 Orin  0 %  memory not told",
    )
