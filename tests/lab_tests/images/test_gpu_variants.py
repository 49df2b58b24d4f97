"""The GPU variants of the catalogue, built on a double of NVIDIA's base images.

`cuda-double` is Debian's stand-in laid out as nvidia/cuda is: its variables, its folders, the user
that Ubuntu brings along, no CUDA in it. Every RUN line of a GPU variant is executed on it, and the
wheels are the real ones: jax[cuda12], jax[cuda13], tensorflow[and-cuda], and the torch of pip's
own index, which is built for CUDA 13 (PyTorch's index by CUDA version is out of the lab's reach).
What this cannot show: Ubuntu's Python 3.12, and a GPU that computes.

Gigabytes: REMOTEDL_IMAGES="gpu" or "all" (`make images`) runs them.
"""

from __future__ import annotations

import os

import pytest

from remotedl.images import ImageRef, ImageWish, catalogue
from tests.lab.engine import docker, docker_ok
from tests.lab.images import standin_image
from tests.lab_tests.images.conftest import Place
from tests.lab_tests.images.test_catalogue import JAX, TENSORFLOW, TORCH, execute

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(2400)]

ASKED = os.environ.get("REMOTEDL_IMAGES", "") in ("all", "gpu")
CUDA_RUNTIME = 2_500_000_000
"""About what the real base image holds and the double does not, in bytes."""
LIBRARIES = "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"
DOUBLE = """\
FROM {base}
ENV CUDA_VERSION={cuda} \\
    NVIDIA_VISIBLE_DEVICES=all \\
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \\
    NVIDIA_REQUIRE_CUDA=cuda>={cuda} \\
    LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \\
    PATH=/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    PIP_FIND_LINKS=
LABEL remotedl-lab=cuda-double maintainer="the remotedl lab: a double, without CUDA"
RUN useradd -m -u 1000 ubuntu && mkdir -p /usr/local/cuda/lib64 /opt/nvidia \\
 && printf '#!/bin/sh\\nexec "$@"\\n' >/opt/nvidia/nvidia_entrypoint.sh \\
 && chmod +x /opt/nvidia/nvidia_entrypoint.sh
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]
"""  # noqa: E501

VARIANTS = {
    "base:cu126": ("", ""),
    "jax:cu126": (JAX, "nvidia-cublas-cu12"),
    "jax:cu130": (JAX, "nvidia-cublas"),
    "tensorflow:cu126": (TENSORFLOW, "nvidia-cudnn-cu12"),
    "pytorch:cu130": (TORCH, "nvidia-cudnn-cu13"),
    "fastai:cu130": ("from fastai.vision.all import vision_learner", "nvidia-cudnn-cu13"),
}


@pytest.fixture
def made(local: Place, request: pytest.FixtureRequest) -> tuple[str, ImageRef]:
    name: str = request.param
    cuda = {"cu126": "12.6.3", "cu130": "13.0.1"}[name.partition(":")[2]]
    args = {"BASE_IMAGE": cuda_double(cuda), "TORCH_INDEX_URL": ""}
    return name, local.ensure(ImageWish(image=name, build_args=args))


def cuda_double(cuda: str) -> str:
    base = standin_image("bookworm")
    tag = f"remotedl-lab/cuda-double:{cuda}-{base.rpartition('-')[2]}"
    if not docker_ok("image", "inspect", tag):
        text = DOUBLE.format(base=base, cuda=cuda)
        docker("build", "-q", "-t", tag, "-", stdin=text.encode())
    return tag


@pytest.mark.parametrize("made", VARIANTS, indirect=True)
class TestVariants:
    # Not skipped where it was not asked for, but not there: in CI a skip is a failure.
    __test__ = ASKED

    def test_it_is_built_and_its_kernel_imports_it_without_a_gpu(
        self, local: Place, made: tuple[str, ImageRef]
    ) -> None:
        name, ref = made
        source, library = VARIANTS[name]
        said = execute(local, ref, "python3", [source] if source else [])
        assert "MADE IT" in said, said
        code, found = local.run(ref.reference, "python", "-c", LIBRARIES)
        assert code == 0 and (not library or f"'{library}'" in found.decode()), found

    def test_it_is_as_big_as_it_may_be(self, local: Place, made: tuple[str, ImageRef]) -> None:
        name, ref = made
        found = catalogue.find(name)
        image = local.engine.images.get(ref.reference)
        assert found is not None and image is not None
        size = image.size + CUDA_RUNTIME
        assert size <= found[0].gpu_size, f"{name} has grown to {size / 1e9:.2f} GB"
