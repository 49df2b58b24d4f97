"""README and docs name no command, option or file that is not there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from remotedl.cli.app import app
from remotedl.config.models import Config

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
CODE = re.compile(r"`(remotedl [^`\n]*)`|^\s*(remotedl .*)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    fenced = "\n".join(body for kind, body in FENCE.findall(text) if kind in ("sh", "console"))
    inline = [found[0] for found in CODE.findall(FENCE.sub("", text)) if found[0]]
    return inline + [found[1] for found in CODE.findall(fenced) if found[1]]


def check(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        assert words[0] in command.commands, f"no such command: {line}"
        command = command.commands[words.pop(0)]
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for word in words:
        if word == "--":
            break
        if word.startswith("-") and len(word) > 1:
            assert word.split("=")[0] in known | {"--help", "-h"}, f"{word} in: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_the_page_exists(page: Path) -> None:
    for line in commands(page):
        check(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_on_the_page_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_shows_commands_at_all() -> None:
    assert len(commands(ROOT / "README.md")) > 8


def test_hosts_toml_of_the_readme_is_valid() -> None:
    bodies = [b for kind, b in FENCE.findall((ROOT / "README.md").read_text()) if kind == "toml"]
    assert bodies
    for body in bodies:
        Config.model_validate(tomllib.loads(body))


def test_every_make_target_of_the_pages_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"^make (\w+)", page.read_text(), re.MULTILINE):
            assert target in targets, f"{page.name}: make {target}"
