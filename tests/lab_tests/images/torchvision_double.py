"""A torchvision for the lab: a double, made of the wheel that the machine's pip finds.

The lab has a CPU build of torch and no CPU build of torchvision: the published wheel's C++ half
needs CUDA's libraries and does not load, and then even its Python half fails. The double leaves
the C++ half out and declares what the Python half looks for. What it cannot show: torchvision's
own operators (nms and the like say that they are missing).
On a user's host the real CPU build comes from PyTorch's own index.

    python -m tests.lab_tests.images.torchvision_double WHEEL FOLDER
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

MARK = "+lab.double"
NATIVE = (".so", ".libs/")
DECLARED = """

# The lab's double: no C++ half, so the two operators whose absence breaks the import are here.
import torch as _torch

for _operator in ("nms", "qnms"):
    _torch.library.define(
        f"torchvision::{_operator}", "(Tensor dets, Tensor scores, float t) -> Tensor"
    )

"""


def make_double(wheel: Path, folder: Path) -> Path:
    """Write the double of `wheel` into `folder`; pip prefers it, for its local version."""
    name, version, *rest = wheel.name.removesuffix(".whl").split("-")
    marked = version + MARK
    double = folder / ("-".join([name, marked, *rest]) + ".whl")
    old, new = f"{name}-{version}.dist-info/", f"{name}-{marked}.dist-info/"
    record = []
    with (
        zipfile.ZipFile(wheel) as given,
        zipfile.ZipFile(double, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for item in given.namelist():
            if item.endswith("RECORD") or any(mark in item for mark in NATIVE):
                continue
            data = given.read(item)
            if item == f"{name}/extension.py":
                data += DECLARED.encode()
            if item == f"{old}METADATA":
                data = data.replace(
                    f"\nVersion: {version}".encode(), f"\nVersion: {marked}".encode()
                )
            target = item.replace(old, new)
            made.writestr(target, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{target},sha256={digest},{len(data)}")
        made.writestr(f"{new}RECORD", "\n".join([*record, f"{new}RECORD,,", ""]))
    return double


if __name__ == "__main__":
    print(make_double(Path(sys.argv[1]), Path(sys.argv[2])))
