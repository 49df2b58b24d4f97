"""daemon.json: other people's settings stay, ours are merged in. Pure text work.

What cannot be read as a JSON object is never overwritten: the engine that wrote it may still
run on what it read before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

NVIDIA_RUNTIME: Mapping[str, object] = {
    "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}
}
"""The same entry that `nvidia-ctk runtime configure --runtime=docker` writes."""
CDI_ON: Mapping[str, object] = {"features": {"cdi": True}}


class SettingsBroken(ValueError):
    """The file is no JSON object. The message says where."""


def read_settings(text: str) -> dict[str, object]:
    """An empty file, and one of blanks, means no settings. Raises SettingsBroken."""
    if not text.strip():
        return {}
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise SettingsBroken("not UTF-8")
    try:
        value = json.loads(text)
    except ValueError as exc:
        where = f"line {exc.lineno}" if isinstance(exc, json.JSONDecodeError) else "somewhere"
        raise SettingsBroken(f"no valid JSON at {where}") from None
    if not isinstance(value, dict):
        raise SettingsBroken("a JSON value, but no object")
    return value


def merged(settings: Mapping[str, object], wanted: Mapping[str, object]) -> dict[str, object]:
    """`wanted` over `settings`, objects merged key by key, anything else of theirs kept first.

    A value that somebody set is not ours to change, unless it is switched off what we need.
    """
    result = dict(settings)
    for key, value in wanted.items():
        theirs = result.get(key)
        if isinstance(value, Mapping):
            result[key] = merged(theirs if isinstance(theirs, dict) else {}, value)
        elif isinstance(value, bool) or key not in result:
            result[key] = value
    return result


def has_runtime(settings: Mapping[str, object], name: str = "nvidia") -> bool:
    runtimes = settings.get("runtimes")
    return isinstance(runtimes, dict) and name in runtimes


def cdi_setting(settings: Mapping[str, object]) -> bool | None:
    """features.cdi as it is set, None where nothing is said."""
    features = settings.get("features")
    value = features.get("cdi") if isinstance(features, dict) else None
    return value if isinstance(value, bool) else None


def as_text(settings: Mapping[str, object]) -> str:
    return json.dumps(settings, indent=4, ensure_ascii=False) + "\n"
