"""The probe under every shell that is at hand, and with tools that hang. Needs no lab host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from remotedl.errors import ProvisionError
from remotedl.provision.frame import read_frame
from remotedl.provision.gpus import find_smi
from remotedl.provision.parse import parse_facts
from remotedl.provision.probe import ask, gather, script
from tests.support.local_remote import LocalRemote

SHELLS = [["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"], ["zsh", "--emulate", "sh"]]
HANGING = ("docker", "nvidia-smi", "systemctl", "dpkg-query", "df", "sudo", "snap", "podman")


def answer(shell: list[str], env: dict[str, str] | None = None) -> bytes:
    argv = [*shell, "-s", "--", "user", ""]
    done = subprocess.run(
        argv, input=script("probe.sh"), capture_output=True, env=env, timeout=120, check=True
    )
    assert done.stderr == b"", done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_every_shell_gives_the_same_facts(shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")

    facts, by_sh = (parse_facts(read_frame(answer(s))) for s in (shell, ["sh"]))

    assert facts.distro == by_sh.distro and facts.machine == by_sh.machine
    assert facts.person == by_sh.person and facts.tools == by_sh.tools
    assert facts.packages == by_sh.packages and facts.space.keys() == by_sh.space.keys()
    assert facts.engine.version == by_sh.engine.version
    assert facts.now > 0 and facts.cpus > 0 and facts.person.home_writable


def test_tools_that_hang_are_given_up(tmp_path: Path) -> None:
    for name in HANGING:
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\nexec sleep 100\n")
        tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "REMOTEDL_LIMIT_S": "0.1"}

    facts = parse_facts(read_frame(answer(["sh"], env)))

    assert not facts.engine.works and not facts.driver.smi_works and facts.machine.kernel


def test_where_nvidia_smi_lies_is_told_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_smi(LocalRemote()) == ""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 100\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert find_smi(LocalRemote()) == str(tool)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_proxies_are_told_without_their_passwords(shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    said = script("probe.sh").decode().replace('\nmain "$@" </dev/null\n', "\nask_proxies\n")
    env = {"PATH": os.environ["PATH"], "https_proxy": "http://me:hush@p.example:3128/x y"}

    done = subprocess.run([*shell, "-s"], input=said, capture_output=True, text=True, env=env)

    assert "http://p.example:3128/x" in done.stdout.splitlines() and "hush" not in done.stdout


def test_only_the_probes_own_lines_are_commands_that_change_nothing() -> None:
    code = [line.partition("# ")[0] for line in script("probe.sh").decode().splitlines()]
    text = re.sub(r"'[^']*'", "''", "\n".join(code))

    assert not re.search(r"\b(rm|mv|cp|mkdir|tee|chmod|chown|kill|install)\s+[-/\"$]", text)
    redirected = re.findall(r"[^0-9&]>\s*(\S+)", text)
    assert {target for target in redirected if not target.startswith("/dev/null")} <= {"&2"}


def test_the_facts_of_this_machine_over_a_remote(tmp_path: Path) -> None:
    facts = gather(LocalRemote(tmp_path))

    assert facts.machine.machine and facts.person.uid == os.getuid()


def test_an_answer_that_makes_no_sense_is_an_error_with_what_was_said(tmp_path: Path) -> None:
    class Strange(LocalRemote):
        def run(self, argv, **more):  # type: ignore[no-untyped-def]
            return super().run(["sh", "-c", "echo This account is not available; exit 1"], **more)

    with pytest.raises(ProvisionError, match="This account is not available"):
        ask(Strange(tmp_path), "user")
