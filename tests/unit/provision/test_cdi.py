"""CDI specifications as they lie in the engine's folders."""

from __future__ import annotations

import json

import pytest

from remotedl.provision.cdi import gpus_of
from tests.unit.provision.rendering import SPECIFICATION

BY_HAND = """\
---
cdiVersion: "0.6.0"
kind: "nvidia.com/gpu"  # of the cluster's own tool
devices:
  - name: 'GPU-1'
    containerEdits:
      hooks:
        - name: not-a-device
          path: /usr/bin/nvidia-cdi-hook
  - name: 0
containerEdits:
  env:
    - name: NEITHER
"""
AS_JSON = json.dumps({"kind": "nvidia.com/gpu", "devices": [{"name": "all"}, {"name": "0"}]})
OTHERS = SPECIFICATION.replace("nvidia.com/gpu", "amd.com/gpu")


@pytest.mark.parametrize(("text", "names"), [
    (SPECIFICATION, ["0", "all"]),
    (SPECIFICATION.replace("\n", "\r\n"), ["0", "all"]),
    (BY_HAND, ["0", "GPU-1"]),
    (AS_JSON, ["0", "all"]),
    (OTHERS, []), ("", []), ("{", []), ("kind: nvidia.com/gpu", []), ("- a\n- b", []),
    ('{"kind": "nvidia.com/gpu", "devices": {"name": "0"}}', []),
])  # fmt: skip
def test_its_gpus_are_read(text: str, names: list[str]) -> None:
    assert gpus_of(text) == tuple(f"nvidia.com/gpu={name}" for name in names)
