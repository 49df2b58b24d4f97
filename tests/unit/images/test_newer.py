"""What --rebuild would bring: which images count as a base, and pip's answer."""

from __future__ import annotations

import json
from dataclasses import replace

from remotedl.engine.images import parse_image
from remotedl.images.newer import Newer, is_base, parse_outdated

BASE = parse_image(
    {"Id": "sha256:b", "RepoDigests": ["debian@sha256:1"], "RootFS": {"Layers": ["x", "y"]}}
)
MADE = parse_image({"Id": "sha256:m", "RootFS": {"Layers": ["x", "y", "z"]}})


def test_a_base_comes_from_a_registry_and_is_what_the_image_begins_with() -> None:
    assert is_base(BASE, MADE)
    assert not is_base(replace(BASE, digests=()), MADE), "built or loaded here"
    assert not is_base(replace(BASE, layers=("y",)), MADE)
    assert not is_base(replace(BASE, layers=()), MADE)
    assert not is_base(MADE, BASE)


def test_what_pip_says() -> None:
    row = {"name": "torch", "version": "2.12.0", "latest_version": "2.13.0"}
    assert parse_outdated(json.dumps([row | {"latest_filetype": "wheel"}])) == [
        Newer("package", "torch", "2.12.0", "2.13.0")
    ]
    assert parse_outdated("") == []
