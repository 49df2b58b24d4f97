"""The commands that errors and findings tell the user to type are commands that are taken."""

from __future__ import annotations

import re
import shlex

import pytest
import typer.main

from remotedl.cli.app import app
from remotedl.cli.commands.images import one_host
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
