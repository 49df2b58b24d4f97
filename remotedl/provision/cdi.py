"""The GPUs that a CDI specification describes (CNCF's Container Device Interface). Pure.

Read from the file itself, as the engine does: `nvidia-ctk cdi list` says the same, where it is.
The YAML is that of `nvidia-ctk cdi generate` and of people who write like it: block style, one
list of devices, a name each; or JSON, in a file of either name.
"""

from __future__ import annotations

import json
import re

GPU_KIND = "nvidia.com/gpu"


def gpus_of(text: str) -> tuple[str, ...]:
    """ "nvidia.com/gpu=0" and so on, sorted; () where none is described."""
    kind, names = _of_json(text) if text.lstrip().startswith("{") else _of_yaml(text)
    return tuple(sorted({f"{GPU_KIND}={name}" for name in names})) if kind == GPU_KIND else ()


def _of_json(text: str) -> tuple[str, list[str]]:
    try:
        value = json.loads(text)
    except ValueError:
        return "", []
    devices = value.get("devices")
    found = [one.get("name") for one in devices or () if isinstance(one, dict)]
    return str(value.get("kind", "")), [name for name in found if isinstance(name, str) and name]


def _of_yaml(text: str) -> tuple[str, list[str]]:
    kind, names = "", list[str]()
    inside, indent = False, -1
    for line in text.splitlines():
        if re.match(r"[^\s#-]", line):
            inside, indent = line.startswith("devices:"), -1
            if match := re.match(r"kind:\s*(.+)", line):
                kind = _scalar(match[1])
        elif inside and (match := re.match(r"( *)(- +)?(.*)", line)):
            if indent < 0 and match[2]:
                indent = len(match[1])
            own = len(match[1]) == (indent if match[2] else indent + 2)
            if own and (name := re.match(r"name:\s*(.+)", match[3])):
                names.append(_scalar(name[1]))
    return kind, names


def _scalar(text: str) -> str:
    quoted = re.match(r"""(["'])(.*?)\1""", text)
    return quoted[2] if quoted else re.split(r"\s+#", text)[0].strip()
