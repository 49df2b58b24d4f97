"""The same attacks against the commands as they are typed, over a real sshd."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab_tests.sync.test_commands import Place, place

__all__ = ["place"]


def conflict_paths(place: Place) -> set[str]:
    return {row["path"] for row in place.sync("conflicts")}


def test_settings_with_a_command_in_them_are_not_obeyed(place: Place, tmp_path: Path) -> None:
    """hosts.toml from the host: a newline in `user` was a line of ssh's configuration."""
    place.sync("--once")
    text = (place.there / "hosts.toml").read_text()
    proxy = f'proxy_command = "touch {tmp_path}/pwned"\n'
    (place.there / "hosts.toml").write_text(text.replace("[hosts.h1]\n", "[hosts.h1]\n" + proxy))
    for _ in range(2):
        assert not place.sync("--once", code=60)["clean"]
    assert proxy not in (place.here / "hosts.toml").read_text()
    assert conflict_paths(place) == {"hosts.toml"}
    place.laptop.run("jobs", check=False)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")
def test_no_git_hook_is_planted(place: Place, tmp_path: Path) -> None:
    def git(*argv: str) -> None:
        subprocess.run(["git", *argv], cwd=place.here, check=True, capture_output=True)

    git("init", "-q", ".")
    git("config", "core.hooksPath", "tools/hooks")
    (place.here / "tools/hooks").mkdir(parents=True)
    (place.here / "tools/hooks/post-commit").write_text("#!/bin/sh\n")
    place.sync("--once")
    evil = f"#!/bin/sh\ntouch {tmp_path}/pwned\n"
    (place.there / ".remotedlignore").write_text("!.git/\n!.git\n")
    for path in (".git/hooks/pre-commit", ".GIT/hooks/pre-commit", "tools/hooks/pre-commit"):
        target = place.there / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(evil)
        target.chmod(0o755)
    for _ in range(2):
        place.sync("--once", code=60)
    assert conflict_paths(place) == {".remotedlignore", "tools/hooks/pre-commit"}
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")
    assert not (tmp_path / "pwned").exists()


def test_what_is_held_back_is_taken_after_a_look_and_a_yes(place: Place) -> None:
    place.sync("--once")
    (place.there / ".envrc").write_text("touch \x1b[2J/tmp/pwned\n")
    listed = place.laptop.run("sync", "--once", check=False)
    assert listed.code == 60
    assert ".envrc: made on the host, and tells a program of the laptop" in listed.stdout
    assert "next: remotedl sync resolve .envrc --laptop | --remote\n" in listed.stdout
    silent = place.laptop.run("sync", "resolve", ".envrc", "--remote", check=False)
    assert silent.code == 2 and "+touch \\x1b[2J/tmp/pwned" in silent.stderr
    assert "remotedl sync resolve .envrc --remote --yes" in silent.stderr
    every = place.laptop.run("sync", "resolve", "--all", "--remote", check=False)
    assert every.code == 60 and ".envrc: left: " in every.stderr
    assert not (place.here / ".envrc").exists()
    taken = place.laptop.run("sync", "resolve", ".envrc", "--remote", "--yes")
    assert "+touch \\x1b[2J/tmp/pwned" in taken.stderr and taken.stdout == ".envrc: remote\n"
    assert (place.here / ".envrc").read_bytes() == (place.there / ".envrc").read_bytes()
    assert place.sync("--once")["clean"]


def test_all_conflicts_at_once_and_names_that_look_like_options(place: Place) -> None:
    place.sync("--once")
    names = ("-rf", "a'b.ipynb", "new\nline.ipynb", "c.txt", "sub")
    for side in (place.here, place.there):
        for name in names[:-1]:
            (side / name).write_text(side.name)
        (side / "sub").mkdir()
        (side / "sub/-x").write_text(side.name)
    troubles = place.sync("--once", code=60)["troubles"]
    mends = {row["path"]: row["mend"].split(" --laptop")[0] for row in troubles}
    for path in ("-rf", "a'b.ipynb"):
        typed = mends[path].replace("remotedl", "", 1) + " --laptop"
        words = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {typed}"], capture_output=True, check=True
        ).stdout.split(b"\0")[:-1]
        place.laptop.run(*[word.decode() for word in words])
        assert (place.there / path).read_text() == place.here.name
    done = place.laptop.run("sync", "resolve", "--all", "--laptop", "*.ipynb")
    assert done.stdout == "new\\nline.ipynb: laptop\n"
    assert conflict_paths(place) == {"c.txt", "sub/-x"}
    assert set(place.sync("resolve", "--all", "--remote")["resolved"]) == {"c.txt", "sub/-x"}
    assert (place.here / "sub/-x").read_text() == place.there.name
    assert place.sync("--once")["clean"]
    none = place.laptop.run("sync", "resolve", "--all", "--both", check=False)
    assert none.code == 2 and "there is no conflict" in none.stderr
