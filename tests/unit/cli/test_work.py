"""`run [OPTIONS] [HOST] -- CMD…` and `run [OPTIONS] CMD…` taken apart, as people type them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from remotedl.cli.app import app
from remotedl.cli.commands import work
from remotedl.cli.commands.work import HOST, refuse_shell_syntax
from remotedl.errors import UsageError


def parsed(*args: str) -> tuple[str | None, list[str], dict[str, Any]]:
    command: Any = typer.main.get_command(app)
    context = command.commands["run"].make_context("run", list(args))
    return context.meta[HOST], list(context.params["words"]), context.params


@pytest.mark.parametrize(
    ("args", "host", "argv", "detach"),
    [
        (["--", "ls"], None, ["ls"], False),
        (["h1", "--", "ls", "-l"], "h1", ["ls", "-l"], False),
        (["-d", "h1", "--", "a", "--", "b"], "h1", ["a", "--", "b"], True),
        (["h1", "-d", "--", "a"], "h1", ["a"], True),
        (["--gpus", "1", "1", "--", "a"], "1", ["a"], False),
        (["1", "--gpus", "1", "--", "a"], "1", ["a"], False),
        (["ls", "x"], None, ["ls", "x"], False),
        (["python3", "train.py", "--epochs", "3", "-d"], None,
         ["python3", "train.py", "--epochs", "3", "-d"], False),
        (["-d", "python3", "train.py", "-d"], None, ["python3", "train.py", "-d"], True),
        (["python", "x.py", "--help"], None, ["python", "x.py", "--help"], False),
        (["python", "x.py", "--", "--foo"], None, ["python", "x.py", "--", "--foo"], False),
        (["torchrun", "--nproc", "2", "--", "a"], None,
         ["torchrun", "--nproc", "2", "--", "a"], False),
    ],
)  # fmt: skip
def test_host_options_and_command(
    args: list[str], host: str | None, argv: list[str], detach: bool
) -> None:
    found = parsed(*args)
    assert found[:2] == (host, argv)
    assert found[2]["detach"] is detach


def test_nothing_after_the_dashes_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing to run"):
        parsed("h1", "--")


def test_an_option_of_nobody_before_the_command_is_an_error() -> None:
    with pytest.raises(typer.TyperException, match="--epochs"):
        parsed("--epochs", "3", "python3")


@pytest.mark.parametrize("word", ["a && b", "ls -l", "x|y", "echo $HOME", "python train.py"])
def test_shell_syntax_in_one_word_is_explained(word: str) -> None:
    with pytest.raises(UsageError, match="word by word") as caught:
        refuse_shell_syntax([word])
    assert caught.value.hint == f"remotedl run -- bash -c '{word}'"


def test_words_and_programs_with_odd_names_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse_shell_syntax(["bash", "-c", "a && b"])
    refuse_shell_syntax(["./train.sh"])
    (tmp_path / "my train.sh").touch()
    refuse_shell_syntax(["./my train.sh"])


@pytest.mark.parametrize(
    ("args", "host", "argv"),
    [
        ([], None, []),
        (["h1"], "h1", []),
        (["--", "ipython", "-i"], None, ["ipython", "-i"]),
        (["h1", "--", "top"], "h1", ["top"]),
    ],
)
def test_shell_takes_a_host_and_a_command(
    args: list[str], host: str | None, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str | None, list[str]]] = []

    def attached(context: Any, host: str | None, argv: list[str]) -> int:
        asked.append((host, argv))
        return 0

    monkeypatch.setattr(work, "attached", attached)
    command: Any = typer.main.get_command(app)
    command.main(["shell", *args], standalone_mode=False)
    assert asked == [(host, argv)]


def test_run_on_this_terminal_is_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def attached(context: Any, host: str | None, argv: list[str]) -> int:
        asked.append(argv)
        return 3

    monkeypatch.setattr(work, "attached", attached)
    command: Any = typer.main.get_command(app)
    assert command.main(["run", "-it", "--", "ipython"], standalone_mode=False) == 3
    assert asked == [["ipython"]]
