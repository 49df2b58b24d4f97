"""What counts as use: what cannot be told does, and nothing ends the watch but the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remotedl.container.payload import idle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs on the host")

MIG = "MIG-6f7c2d2e-0000-5000-8000-000000000001"
CASES = {
    "a GPU that works": ("0, GPU-a, 97\n1, GPU-b, 0\n", "", "all", ["GPU 0"]),
    "another's GPU that works": ("0, GPU-a, 97\n1, GPU-b, 0\n", "", ["1"], []),
    "an index that is a number": ("0, GPU-a, 0\n3, GPU-b, 87\n", "", [3], ["GPU 3"]),
    "a GPU by its UUID": ("0, GPU-a, 0\n3, GPU-b, 87\n", "", ["GPU-b"], ["GPU 3"]),
    "MIG with a program": ("0, GPU-a, [N/A]\n", "GPU-a, 4711\n", "all", ["a program is on GPU 0"]),
    "MIG without one": ("0, GPU-a, [N/A]\n", "", "all", []),
    "vGPU that tells nothing": ("0, g, [Not Supported]\n", "[Not Supported]\n", "all", None),
    "a slice that is not listed": ("0, GPU-a, 0\n", "", [MIG], None),
    "no row at all": ("", "", "all", None),
    "words instead of rows": ("No devices were found\n", "", "all", None),
}


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the nvidia-smi double that is found first."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def write(script: str) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


@pytest.mark.parametrize(("loads", "programs", "ours", "busy"), CASES.values(), ids=CASES.keys())
def test_gpus(
    smi: Callable[[str], None], loads: str, programs: str, ours: Any, busy: list[str] | None
) -> None:
    smi(f"case $1 in --query-gpu*) printf '{loads}';; *) printf '{programs}';; esac")
    assert idle.gpus(ours) == ([idle.UNTOLD] if busy is None else busy)
    assert idle.gpus([]) == []


@pytest.mark.parametrize("script", ["echo 'Failed to initialize NVML'; exit 18", "exit 255"])
def test_a_failing_nvidia_smi_counts_as_use(smi: Callable[[str], None], script: str) -> None:
    smi(script)
    assert idle.gpus("all") == [idle.UNTOLD]


def test_gpus_without_an_nvidia_smi_count_as_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(idle, "SMI", (str(tmp_path / "none"),))
    assert idle.gpus("all") == [idle.UNTOLD]


class Ended(Exception):
    pass


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The watch in this folder, with a clock of its own; ends after what `end` was called for."""
    clock = [1000.0]
    seen: list[list[str]] = []
    monkeypatch.setattr(idle, "RUN", str(tmp_path))
    monkeypatch.setattr(idle.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(idle.time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))

    def end(settings: dict[str, Any]) -> None:
        raise Ended

    monkeypatch.setattr(idle, "end", end)
    idle.write("idle-settings.json", {"limit_s": 100})
    return seen


def test_a_full_disk_and_surprises_end_no_watch(
    looks: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [RuntimeError("a surprise"), [], OSError(5, "I/O error"), *[[]] * 30]

    def reasons(settings: dict[str, Any], before: dict[str, Any]) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def full(name: str, value: dict[str, Any]) -> None:
        looks.append(value["busy"])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(idle, "reasons", reasons)
    monkeypatch.setattr(idle, "write", full)
    with pytest.raises(Ended):
        idle.watch()
    assert looks[0] == ["it cannot be told whether it is used: RuntimeError: a surprise"]
    assert looks[1] == []
    assert "I/O error" in looks[2][0]
    assert len(looks) >= 13, "the limit counts from the last thing that could not be told"


def test_settings_that_cannot_be_read_count_as_use(
    looks: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "idle-settings.json").write_text("{")

    def stop(name: str, value: dict[str, Any]) -> None:
        looks.append(value["busy"])
        if len(looks) == 50:
            raise Ended

    monkeypatch.setattr(idle, "write", stop)
    with pytest.raises(Ended):
        idle.watch()
    assert all("cannot be told" in busy[0] for busy in looks)


def test_a_program_in_a_terminal_is_seen_and_a_prompt_is_not() -> None:
    master, slave = os.openpty()
    argv = ["setsid", "-c", "sh", "-c", "echo up; read line; sleep 60; true"]
    with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave) as shell:
        try:
            assert b"up" in os.read(master, 100)

            def busy() -> bool:
                seen = idle.below(shell.pid, idle.processes())
                assert shell.pid in seen
                return any(one.terminal and one.session != pid for pid, one in seen.items())

            assert not busy()
            os.write(master, b"go\n")
            deadline = time.monotonic() + 10
            while not busy():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            os.close(master)  # its terminal is gone: the shell and its program end
            os.close(slave)
            shell.kill()


def test_a_shell_of_this_project_is_found_by_its_mark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(idle, "RUN", str(tmp_path))
    assert not idle.shells()
    env = {**os.environ, idle.SHELL_MARK: str(tmp_path)}
    with subprocess.Popen(["sleep", "60"], env=env) as child:
        assert idle.shells()
        child.kill()


def test_computing_is_told_from_being_there(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(idle.time, "monotonic", lambda: clock[0])
    before: dict[str, Any] = {}
    assert not idle.computes(5.0, before), "the first look knows no difference"
    clock[0] += 30
    assert not idle.computes(6.0, before), "3 % of a core"
    clock[0] += 30
    assert idle.computes(16.0, before), "a third of a core"
    assert idle.computes(None, before), "what cannot be told"
