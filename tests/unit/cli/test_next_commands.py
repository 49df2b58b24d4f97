"""The commands that errors and findings tell the user to type are commands that are taken."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import typer.main

import remotedl
from remotedl.cli.app import app
from remotedl.cli.commands.images import one_host
from remotedl.cli.next_step import COMMAND, Named, completed, ssh_words, ways
from remotedl.config.models import HostConfig
from remotedl.errors import UsageError
from remotedl.provision.symptoms import SYMPTOMS

MENDS = sorted(
    {
        part.strip().format(host="h1")
        for symptom in SYMPTOMS
        for part in re.split(r", then: |; ", symptom.mend)
        if part.strip().startswith("remotedl ")
    }
)
IMAGE_COMMANDS = [
    "remotedl image list h1",
    "remotedl image list --host h1 --json",
    "remotedl image build h1 --rebuild --via-laptop --yes",
    "remotedl image pull org/name:tag h1 --via-laptop",
    "remotedl image load org/name:tag h1",
    "remotedl image snapshot name h1",
    "remotedl image prune h1 --snapshots",
    "remotedl image prune --host h1",
]


@pytest.mark.parametrize("line", MENDS + IMAGE_COMMANDS)
def test_it_is_taken(line: str) -> None:
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    names = ["remotedl"]
    while commands := getattr(command, "commands", None):
        command = commands[words[0]]
        names.append(words.pop(0))
    with command.make_context(" ".join(names), words) as made:
        assert made.params


def test_a_host_may_be_named_either_way_but_not_two_of_them() -> None:
    assert [one_host("h1", None), one_host(None, "h1"), one_host("h1", "h1")] == ["h1"] * 3
    assert one_host(None, None) is None
    with pytest.raises(UsageError, match="h1 and h2"):
        one_host("h1", "h2")


H9 = Named("h9", "192.0.2.7", ssh="-p 2222 ada@192.0.2.7")
SAID = {"hint", "mend"}
GIVEN_TO = {"Notice", "Refusal", "warn"}


@cache
def hints_in_the_code() -> list[str]:
    """Every text that the code gives as a hint; what it fills in stands as `X`."""
    found = set[str]()
    for path in Path(remotedl.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                given = [k.value for k in node.keywords if k.arg in SAID]
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                given += node.args[1:] if name in GIVEN_TO else []
                found.update(text for value in given for text in texts(value))
    return sorted(text for text in found if COMMAND.search(text))


def texts(value: ast.expr) -> list[str]:
    if isinstance(value, ast.IfExp):
        return [*texts(value.body), *texts(value.orelse)]
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return [value.value]
    if isinstance(value, ast.JoinedStr):
        parts = (one.value if isinstance(one, ast.Constant) else "X" for one in value.values)
        return ["".join(str(part) for part in parts)]
    return []


def test_there_are_hints_to_look_at() -> None:
    assert len(hints_in_the_code()) > 40


@pytest.mark.parametrize("hint", hints_in_the_code())
def test_a_hint_names_the_host_that_was_given(hint: str) -> None:
    told = completed(hint.replace("remotedl up X", "remotedl up h9"), H9)
    for found in COMMAND.finditer(told):
        words = (found[1], found[2]) if (found[1], found[2]) in ways() else (found[1],)
        if words in ways() and not re.match(r".*?(--help|-h)\b", told[found.start() :]):
            assert re.match(r"(.*? )?(h9|X)\b", told[found.end(1) :]), told


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("remotedl doctor", "remotedl doctor h9"),
        ("remotedl doctor --fix", "remotedl doctor h9 --fix"),
        ("remotedl provision h9 --reboot", "remotedl provision h9 --reboot"),
        ("remotedl provision 192.0.2.7 --reboot", "remotedl provision h9 --reboot"),
        ("remotedl image list", "remotedl image list h9"),
        ("remotedl image prune --host 192.0.2.7", "remotedl image prune --host h9"),
        (
            "remotedl image pull IMAGE --via-laptop; or set proxy",
            "remotedl image pull --host h9 IMAGE --via-laptop; or set proxy",
        ),
        ("remotedl run HOST -- python train.py", "remotedl run h9 -- python train.py"),
        ("remotedl run -- python train.py", "remotedl run h9 -- python train.py"),
        ("remotedl logs -f 7", "remotedl logs --host h9 -f 7"),
        ("remotedl sync resolve a.py --both", "remotedl sync resolve --host h9 a.py --both"),
        ("remotedl sync --once", "remotedl sync --host h9 --once"),
        ("remotedl down h9, then up again", "remotedl down h9, then up again"),
        ("remotedl gpus shows them; set gpus", "remotedl gpus h9 shows them; set gpus"),
        (
            "remotedl stop 3, or remotedl down --yes",
            "remotedl stop --host h9 3, or remotedl down h9 --yes",
        ),
        ("`remotedl shell` or `remotedl jobs`", "`remotedl shell h9` or `remotedl jobs h9`"),
        ("remotedl provision --help", "remotedl provision --help"),
        ("remotedl init", "remotedl init"),
        ("remotedl keeps what it remembers there", "remotedl keeps what it remembers there"),
        ("ssh h9 sudo reboot", "ssh -t -p 2222 ada@192.0.2.7 sudo reboot"),
        ("ssh -t 192.0.2.7 sudoedit x", "ssh -t -p 2222 ada@192.0.2.7 sudoedit x"),
        ("ssh h99 true", "ssh h99 true"),
        ("ssh h9 'sudo dmesg'", "ssh -t -p 2222 ada@192.0.2.7 'sudo dmesg'"),
    ],
)
def test_it_can_be_typed_as_it_stands(hint: str, told: str) -> None:
    assert completed(hint, H9) == told
    assert completed(told, H9) == told, "once is enough"


def test_another_host_that_is_meant_stays() -> None:
    one_of_two = replace(H9, others=frozenset({"h1"}))

    told = "that session is ended by: remotedl down h1"
    assert completed(told, one_of_two) == told
    assert completed("remotedl doctor", one_of_two) == "remotedl doctor h9"


def test_a_host_that_needs_no_naming_is_not_named() -> None:
    only = Named("h9", "192.0.2.7", typed=False)

    assert completed("remotedl doctor", only) == "remotedl doctor"
    assert completed("remotedl provision 192.0.2.7 --yes", only) == "remotedl provision h9 --yes"
    assert completed("remotedl doctor") == "remotedl doctor"


def test_ssh_gets_what_hosts_toml_says() -> None:
    plain = HostConfig(address="gpu")
    whole = HostConfig(
        address="10.0.0.9", user="ada", port=2200, identity_file="~/my key", jump="b"
    )

    assert ssh_words(plain) == "gpu"
    assert ssh_words(whole) == "-p 2200 -i '~/my key' -J b ada@10.0.0.9"
