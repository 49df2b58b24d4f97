"""What CI installs is what everybody gets: the same versions, each file by its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
WITHOUT_HASH = re.compile(r"^[A-Za-z0-9._-]+==[^\\\n]*$", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}


def test_the_lock_holds_the_versions_of_the_constraints() -> None:
    chosen = pins((TOP / "constraints.txt").read_text(encoding="utf-8"))
    locked = pins((TOP / "requirements.lock").read_text(encoding="utf-8"))
    other = {
        name: version for name, version in locked.items() if chosen.get(name, version) != version
    }
    assert not other, f"make lock: constraints.txt has other versions of {other}"
    lacking = [name for name in direct() if name not in locked]
    assert not lacking, f"make lock: requirements.lock lacks {lacking}"


def direct() -> set[str]:
    """What pyproject.toml asks for: remotedl's own needs, and those of tests and lint."""
    table = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*table["project"]["dependencies"], *table["build-system"]["requires"]]
    asked += table["project"]["optional-dependencies"]["keyring"]
    asked += [one for group in table["dependency-groups"].values() for one in group]
    names = [re.split(r"[\s<>=!~;\[]", one, maxsplit=1)[0] for one in asked if isinstance(one, str)]
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def test_every_file_has_its_hash_and_no_place_is_named() -> None:
    for name in ("requirements.lock", ".ci/audit.lock"):
        text = (TOP / name).read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert WITHOUT_HASH.search(text) is None
        assert "://" not in text and "--index" not in text and "--find-links" not in text


def test_constraints_are_pins_alone() -> None:
    for line in (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert not line or line.startswith("#") or PIN.match(line), line
