"""Which variant a host can run, and what is refused. The numbers are NVIDIA's own table."""

from __future__ import annotations

import pytest

from remotedl.errors import ImageUnfit
from remotedl.images.catalogue import PLAIN
from remotedl.images.choose import choose, fit_or_refuse, newest_cuda, runs


def chosen(driver: str = "", *, gpus: bool = True, wanted: str = "", arch: str = "amd64") -> str:
    choice = choose(PLAIN, image="base", architecture=arch, driver=driver, gpus=gpus, wanted=wanted)
    return choice.variant.name


@pytest.mark.parametrize(
    ("driver", "variant"),
    [
        ("525.60.13", "cu126"),
        ("535.183.01", "cu126"),
        ("560.28.03", "cu126"),
        ("575.51.03", "cu126"),
        ("580.65.06", "cu130"),
        ("580.159", "cu130"),
        ("595.45.04", "cu130"),
        ("700.1", "cu130"),
    ],
)
def test_the_newest_that_the_driver_runs(driver: str, variant: str) -> None:
    assert chosen(driver) == variant


def test_without_a_gpu_it_is_the_cpu_variant() -> None:
    assert chosen("580.65.06", gpus=False) == "cpu"
    assert chosen("") == "cpu"
    assert chosen("580.65.06", wanted="cpu") == "cpu"


def test_the_reason_is_told() -> None:
    choice = choose(PLAIN, image="base", architecture="amd64", driver="535.54.03", gpus=True)
    assert "535.54.03" in choice.why
    assert "525" in choice.why


def test_a_driver_that_is_too_old_is_refused_with_what_fits() -> None:
    with pytest.raises(ImageUnfit, match=r"CUDA 12\.6, which needs driver 525") as caught:
        chosen("470.57.02")
    assert "base:cpu" in caught.value.hint


def test_gpu_without_a_driver_is_refused() -> None:
    with pytest.raises(ImageUnfit, match="the host has none loaded"):
        chosen("", wanted="gpu")


def test_a_variant_by_name() -> None:
    assert chosen("580.65.06", wanted="cu126") == "cu126"
    with pytest.raises(ImageUnfit, match=r"driver 535\.54\.03 of the host runs CUDA 12\.2 at most"):
        chosen("535.54.03", wanted="cu130")
    with pytest.raises(ImageUnfit, match=r"no variant cu90; it has cpu, cu126, cu130"):
        chosen(wanted="cu90")


def test_a_machine_that_nothing_is_built_for() -> None:
    with pytest.raises(ImageUnfit, match="the host is riscv64"):
        chosen(arch="riscv64")


@pytest.mark.parametrize(
    ("driver", "cuda", "fits"),
    [
        ("535.54.03", "12.2", True),
        ("535.54.03", "12.9", True),  # minor version compatibility
        ("535.54.03", "13.0", False),
        ("580.65.06", "13.2", True),
        ("520.61.05", "11.8", True),
        ("450.80.02", "11.8", True),
        ("450.80.02", "12.0", False),
        ("580.65.06", "9.0", True),  # a newer driver runs all that is older
        ("595.45.04", "14.0", False),  # newer than the table: not promised
    ],
)
def test_what_a_driver_runs(driver: str, cuda: str, fits: bool) -> None:
    assert runs(driver, cuda) is fits


def test_the_newest_cuda_of_a_driver() -> None:
    assert newest_cuda("560.28.03") == "12.6"
    assert newest_cuda("560.28.02") == "12.5"
    assert newest_cuda("600.1") == "13.2"
    assert newest_cuda("400.1") == ""


def test_a_foreign_image_is_refused_with_the_newest_that_fits() -> None:
    with pytest.raises(ImageUnfit, match=r"holds CUDA 13\.0\.1.*runs CUDA 12\.2 at most"):
        fit_or_refuse("org/x:13", "13.0.1", "535.54.03", gpus=True)
    fit_or_refuse("org/x:13", "13.0.1", "535.54.03", gpus=False)
    fit_or_refuse("org/x", "", "535.54.03", gpus=True)
