"""The rules of the house that import-linter cannot say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "remotedl"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ON_HOSTS = [p for p in SOURCES if "payload" in p.parts or "agent" in p.parts]
HEAVY = {"paramiko", "fabric", "docker", "watchdog", "pydantic", "platformdirs", "requests"}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_the_process_ends_in_one_file_alone() -> None:
    # Programs that run on hosts are processes of their own.
    ends = [p for p in SOURCES if p not in ON_HOSTS and "SystemExit" in p.read_text()]
    loader = PACKAGE / "tunnel" / "relay.py"  # in a program's text that it sends to the host
    assert [p for p in ends if p != loader] == [PACKAGE / "cli" / "exits.py"]


def test_all_that_is_imported_is_asked_for_in_pyproject() -> None:
    """The tests' own packages hide one that is missing for everybody else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["keyring"]]
    known = {re.split("[<>=]", word)[0] for word in asked}
    known |= {"invoke", "requests", "urllib3"}  # fabric's and docker's own, which they hand out
    used = set().union(*(imported(path) for path in SOURCES if path not in ON_HOSTS))
    assert used - sys.stdlib_module_names - {"remotedl", "backports"} <= known


def test_watchdog_is_imported_in_one_file_alone() -> None:
    assert [p for p in SOURCES if "watchdog" in imported(p)] == [PACKAGE / "sync" / "watch.py"]


@pytest.mark.parametrize("path", ON_HOSTS, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_what_runs_on_hosts_is_python_3_8_and_standard_library(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    foreign = imported(path) - set(sys.stdlib_module_names) - {"remotedl"}
    assert not foreign


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = "import sys, remotedl.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_the_wheel_carries_what_an_installed_remotedl_needs() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert set(included) >= {"dockerfiles", "hosts.example.toml", "tests/sample_project"}


def test_every_module_says_what_it_is_for() -> None:
    silent = [p for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []
