"""A project folder that somebody else made: its hosts.toml runs nothing and reads nothing here.

Attacks: newline-in-user, command-in-address, option-as-user, env-file-outside, env-file-by-link.
Each must not reach: a command on the laptop, a file outside the project.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lab.laptop import Laptop


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    """Its user's ssh has a ProxyCommand that hands the host's name to a shell."""
    made = Laptop(tmp_path)
    (made.home / ".ssh").mkdir(mode=0o700)
    (made.home / ".ssh" / "config").write_text(
        "Host *\n ProxyCommand sh -c 'echo %h %r >/dev/null'\n"
    )
    (made.home / "other.env").write_text("SECRET=hush\n")
    return made


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("user", "x\nProxyCommand touch {mark} #"),
        ("user", "$(touch {mark})"),
        ("user", "-oProxyCommand=touch {mark}"),
        ("address", "$(touch${{IFS}}{mark})"),
        ("address", "`touch${{IFS}}{mark}`"),
        ("address", "a;touch {mark}"),
        ("jump", "gate,$(touch {mark})"),
        ("identity_file", "x\nProxyCommand touch {mark}"),
    ],
)
def test_no_value_is_run(laptop: Laptop, tmp_path: Path, key: str, value: str) -> None:
    mark = tmp_path / "PWNED"
    table = {"address": "box.invalid", key: value.format(mark=mark)}
    lines = [f"{name} = {json.dumps(text)}" for name, text in table.items()]
    (laptop.folder / "hosts.toml").write_text("\n".join(["[hosts.h]", *lines, ""]))
    said = laptop.run("jobs", "h", check=False)
    assert not mark.exists()
    assert "hosts.toml:" in said.text and f"hosts.h.{key}" in said.text, said.text


@pytest.mark.parametrize("name", ["~/other.env", "../home/other.env", "planted"])
def test_no_file_outside_is_read(laptop: Laptop, name: str) -> None:
    (laptop.folder / "planted").symlink_to(laptop.home / "other.env")
    (laptop.folder / "hosts.toml").write_text(
        f'[hosts.h]\naddress = "box.invalid"\n[project]\nenv_file = "{name}"\n'
    )
    said = laptop.run("up", "h", check=False)
    assert "outside of the project" in said.text and "allow_files" in said.text, said.text
    assert "hush" not in said.text
